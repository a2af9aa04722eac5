"""Photos that people decided: fetched from their bucket, and split into photos to learn and photos held out."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loading_bay.stack.addresses import Address
from loading_bay.stack.errors import UserError, explained
from loading_bay.stack.labels import HELD_OUT_SHARE

from .dataset import PHOTO_SUFFIXES, Photo, photos_digest, read_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FETCHES_AT_ONCE = 16
LABEL = re.compile(r"[a-z0-9_-]{1,32}", re.ASCII)  # as the template names classes
# In a folder of labels: the files that were fetched; and of the audits among them, the share that was audited, a space,
# and the file.
FETCHED, AUDITED = ".fetched", ".audited"
# An audited photo stands for this many at most: more would let a few of them be learned by heart.
LARGEST_WEIGHT = 20
CLAIM = 36  # characters; the name of a label begins with it


@dataclass(frozen=True)
class Labels:
    """Reviewed photos of the classes and of other things, each either learned or held out to judge models by.

    `audited` are the names of those that were chosen at random among the photos that the model was sure of, with the
    share of such photos that was audited at the time.
    """

    learned: list[Photo]
    held_out: list[Photo]
    learned_outliers: list[Photo]
    held_out_outliers: list[Photo]
    audited: Mapping[str, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of all of them."""
        return photos_digest([*self.learned, *self.held_out, *self.learned_outliers, *self.held_out_outliers])

    def counts(self) -> list[tuple[str, int, int]]:
        """Return (label, learned, held out) of each label."""
        learned = Counter(photo.label for photo in [*self.learned, *self.learned_outliers])
        held_out = Counter(photo.label for photo in [*self.held_out, *self.held_out_outliers])
        return [(label, learned[label], held_out[label]) for label in sorted(learned | held_out)]


def read_labels(folder: Path, class_names: Sequence[str]) -> Labels:
    """Read `<folder>/<class>/*` of some or all classes; folders of other names hold other things.

    A photo that the model was unsure of was sure to be seen and weighs 1; an audited one weighs 1 / its audited share.

    Raises:
        UserError: the folder is missing or empty, or a photo cannot be read.
    """
    audited = {path.name: share for path, share in _audited(folder).items()}
    weights = {name: min(1 / share, LARGEST_WEIGHT) for name, share in audited.items()}
    source = read_folder(folder, class_names, weights, every_class=False)
    outliers = [*source.outliers, *source.test_outliers]
    return Labels(
        learned=[photo for photo in source.train if not is_held_out(photo)],
        held_out=[photo for photo in source.train if is_held_out(photo)],
        learned_outliers=[photo for photo in outliers if not is_held_out(photo)],
        held_out_outliers=[photo for photo in outliers if is_held_out(photo)],
        audited=audited,
    )


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _audited(folder: Path) -> dict[Path, float]:
    """Return the audits in a folder, with the share that was audited."""
    parts = (line.partition(" ") for line in _lines(folder / AUDITED))
    return {folder / name: float(share) for share, _, name in parts}


def is_held_out(photo: Photo) -> bool:
    """Return whether a photo is never learned. This depends on its name alone: every retraining holds out the same."""
    return chance(photo, "held out") < HELD_OUT_SHARE


def chance(photo: Photo, purpose: str) -> float:
    """Return a number in [0, 1) that follows from a photo's name; independent for each purpose."""
    drawn = hashlib.sha256(f"{purpose} {photo.name}".encode()).digest()
    return int.from_bytes(drawn[:4], "big") / 2**32


def fetch(s3: "S3Client", labels: Address, folder: Path, named: Collection[str] | None = None) -> tuple[int, int]:
    """Bring a folder in line with the labels in S3; return how many there are, and how many objects were left out.

    A file is named by the photo's claim and the object's ETag, so nothing is fetched twice, and a photo stays held out
    when its label is corrected. Labels that were corrected or taken back in S3 are removed here; files that this
    function did not fetch stay. Objects are left out whose key is not that of a label, or that are not in `named`, if
    given.

    Raises:
        UserError: AWS refuses.
    """
    wanted: dict[Path, str] = {}
    left_out = 0
    with explained(f"list {labels}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=labels.bucket, Prefix=labels.prefix):
            for item in page.get("Contents", []):
                label, _, name = item["Key"].removeprefix(labels.prefix).partition("/")
                is_label = LABEL.fullmatch(label) and name and "/" not in name
                if not is_label or (named is not None and item["Key"] not in named):
                    left_out += 1
                    continue
                identity = hashlib.sha256(f"{name[:CLAIM]} {item['ETag']}".encode()).hexdigest()[:16]
                suffix = Path(name).suffix.lower()
                kind = suffix if suffix in PHOTO_SUFFIXES else ".photo"  # the content tells the format
                wanted[folder / label / f"{identity}{kind}"] = item["Key"]
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {folder / line for line in _lines(folder / FETCHED)} - set(wanted):
        stale.unlink(missing_ok=True)
    (folder / FETCHED).write_text("".join(f"{path.relative_to(folder)}\n" for path in sorted(wanted)))
    missing = [path for path in wanted if not path.exists()]

    def share_of(path: Path) -> float | None:
        """Fetch a label, and return the share that AnnounceReview noted of an audit."""
        answer = s3.get_object(Bucket=labels.bucket, Key=wanted[path])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        share = answer["Metadata"].get("audit-share")
        return float(share) if share else None

    with explained(f"fetch labels from {labels}"), ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
        shares = _audited(folder) | {
            path: share for path, share in zip(missing, pool.map(share_of, missing), strict=True) if share
        }
    known = [f"{share} {path.relative_to(folder)}\n" for path, share in sorted(shares.items()) if path in wanted]
    (folder / AUDITED).write_text("".join(known))
    if not wanted:
        raise UserError(f"there are no labels in {labels} yet: people make them by deciding photos in review")
    return len(wanted), left_out
