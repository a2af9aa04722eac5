"""Photos that people decided: fetched from their bucket, and split into photos to learn and photos held out."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
FETCHED, AUDITED = ".fetched", ".audited"  # in a folder of labels: which files were fetched, which of them are audits
CLAIM = 36  # characters; the name of a label begins with it


@dataclass(frozen=True)
class Labels:
    """Reviewed photos of the classes and of other things, each either learned or held out to judge models by.

    `audited` are the names of those that were chosen at random among the photos that the model was sure of.
    """

    learned: list[Photo]
    held_out: list[Photo]
    learned_outliers: list[Photo]
    held_out_outliers: list[Photo]
    audited: frozenset[str] = frozenset()

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
    """Read `<folder>/<class>/*`; folders of other names hold other things.

    Raises:
        UserError: the folder or a class is missing or empty, or a photo cannot be read.
    """
    source = read_folder(folder, class_names)
    outliers = [*source.outliers, *source.test_outliers]
    return Labels(
        learned=[photo for photo in source.train if not is_held_out(photo)],
        held_out=[photo for photo in source.train if is_held_out(photo)],
        learned_outliers=[photo for photo in outliers if not is_held_out(photo)],
        held_out_outliers=[photo for photo in outliers if is_held_out(photo)],
        audited=frozenset(path.name for path in _listed(folder, AUDITED)),
    )


def _listed(folder: Path, name: str) -> set[Path]:
    """Return the files of a folder that one of its lists names; none if there is no such list."""
    file = folder / name
    return {folder / line for line in file.read_text().splitlines()} if file.exists() else set()


def _list(folder: Path, name: str, paths: Collection[Path]) -> None:
    (folder / name).write_text("".join(f"{path.relative_to(folder)}\n" for path in sorted(paths)))


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
    for stale in _listed(folder, FETCHED) - set(wanted):
        stale.unlink(missing_ok=True)
    _list(folder, FETCHED, wanted)
    missing = [path for path in wanted if not path.exists()]

    def is_audit(path: Path) -> bool:
        """Fetch a label, and return whether AnnounceReview kept it for an audit."""
        answer = s3.get_object(Bucket=labels.bucket, Key=wanted[path])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        return bool(answer["Metadata"].get("chosen") == "audit")

    with explained(f"fetch labels from {labels}"), ThreadPoolExecutor(FETCHES_AT_ONCE) as pool:
        audits = {path for path, found in zip(missing, pool.map(is_audit, missing), strict=True) if found}
    _list(folder, AUDITED, (_listed(folder, AUDITED) | audits) & set(wanted))
    if not wanted:
        raise UserError(f"there are no labels in {labels} yet: people make them by deciding photos in review")
    return len(wanted), left_out
