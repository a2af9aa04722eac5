"""The staged data set: photos and .lst files for SageMaker on disk, and the same layout in S3."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loading_bay.stack.errors import UserError, explained
from loading_bay.stack.hints import command

from .dataset import SEVERAL, Dataset, Photo, read_photo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANIFEST = "dataset.json"
LABELLED_SPLITS = ("train", "validation", "test")
OUTLIER_FOLDERS = {split: f"outliers/{split}" for split in LABELLED_SPLITS}
# Photos of several of the classes.
SEVERAL_FOLDERS = {split: f"{SEVERAL}/{split}" for split in LABELLED_SPLITS}
# Crops are for measuring only, in addition to the photos that they come from.
CROP_FOLDERS = {split: f"crops/{split}" for split in ("validation", "test")}
# The folder of the detector that training begins with, and the name of the published one.
DETECTOR_FOLDER, DETECTOR_FILE = "detector", "yolox_nano.onnx"
UPLOADS_AT_ONCE = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Manifest:
    """A staged folder's description of itself, in dataset.json."""

    class_names: list[str]
    counts: dict[str, int]
    dropped: int
    digest: str
    seed: int
    smallest_side: int


def write(dataset: Dataset, folder: Path, begun_with: Path) -> Manifest:
    """Write a data set as files; an earlier one in the same folder is replaced as a whole.

    `<split>/<class>/<name>.jpg`, and the same below `outliers/`, `several/` and `crops/`; `<split>.lst` with lines
    `index<TAB>class number<TAB>path below the split`, shuffled
    (https://docs.aws.amazon.com/sagemaker/latest/dg/image-classification.html); the detector that training begins with;
    and `dataset.json`.

    Raises:
        UserError: the folder holds something else, or the disk is full.

    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} contains files but no staged data set: give another --output")
    manifest = describe(dataset)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
            new = Path(name) / "new"
            _write_files(dataset, manifest, new)
            (new / DETECTOR_FOLDER).mkdir()
            shutil.copyfile(begun_with, detector(new))
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; give another --output") from error
    return manifest


def describe(dataset: Dataset) -> Manifest:
    """Return the manifest of a staged folder of this data set."""
    return Manifest(
        class_names=dataset.class_names,
        counts={name: len(photos) for name, photos in _folders(dataset)},
        dropped=dataset.dropped,
        digest=dataset.digest,
        seed=dataset.seed,
        smallest_side=min(min(photo.size) for photo in dataset.train),
    )


def _folders(dataset: Dataset) -> list[tuple[str, list[Photo]]]:
    return [
        ("train", dataset.train),
        ("validation", dataset.validation),
        ("test", dataset.test),
        (OUTLIER_FOLDERS["train"], dataset.train_outliers),
        (OUTLIER_FOLDERS["validation"], dataset.validation_outliers),
        (OUTLIER_FOLDERS["test"], dataset.test_outliers),
        (SEVERAL_FOLDERS["train"], dataset.train_several),
        (SEVERAL_FOLDERS["validation"], dataset.validation_several),
        (SEVERAL_FOLDERS["test"], dataset.test_several),
        (CROP_FOLDERS["validation"], dataset.validation_crops),
        (CROP_FOLDERS["test"], dataset.test_crops),
    ]


def _write_files(dataset: Dataset, manifest: Manifest, folder: Path) -> None:
    for name, photos in _folders(dataset):
        paths = unique_paths(photos)
        for path, photo in zip(paths, photos, strict=True):
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(photo.data)
        if name in LABELLED_SPLITS:
            lines = list_lines(paths, photos, dataset.class_names, dataset.seed)
            (folder / f"{name}.lst").write_text("".join(lines), encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def unique_paths(photos: Iterable[Photo]) -> list[str]:
    """Return `<class>/<stem>.<jpg or png>` for each photo; a second of one stem (a.jpg, a.png) keeps its whole name."""
    paths: list[str] = []
    taken: set[str] = set()
    for photo in photos:
        path = f"{photo.label}/{Path(photo.name).stem}{photo.suffix}"
        if path in taken:
            path = f"{photo.label}/{photo.name}{photo.suffix}"
        taken.add(path)
        paths.append(path)
    return paths


def list_lines(paths: list[str], photos: list[Photo], class_names: list[str], seed: int) -> list[str]:
    """Return the lines of a .lst file, in shuffled order."""
    numbers = {name: number for number, name in enumerate(class_names)}
    order = np.random.default_rng(seed).permutation(len(paths))
    return [f"{line}\t{numbers[photos[row].label]}\t{paths[row]}\n" for line, row in enumerate(order)]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a staged folder.

    Raises:
        UserError: nothing is staged there.

    """
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} contains no staged data set: run {command('model', 'stage')} first") from error


def read(folder: Path) -> Dataset:
    """Read a staged data set back.

    Raises:
        UserError: nothing is staged there.
    """
    manifest = read_manifest(folder)

    def parts(folders: dict[str, str], kind: str) -> dict[str, list[Photo]]:
        return {f"{split}_{kind}": read_split(folder / name) for split, name in folders.items()}

    labelled = {split: read_split(folder / split, manifest.class_names) for split in LABELLED_SPLITS}
    return Dataset(
        class_names=manifest.class_names,
        **labelled,
        **parts(OUTLIER_FOLDERS, "outliers"),
        **parts(SEVERAL_FOLDERS, "several"),
        **parts(CROP_FOLDERS, "crops"),
        dropped=manifest.dropped,
        digest=manifest.digest,
        seed=manifest.seed,
    )


def detector(folder: Path) -> Path:
    """Return the path of the detector that training begins with in a staged folder."""
    return folder / DETECTOR_FOLDER / DETECTOR_FILE


def read_split(folder: Path, labels: list[str] | None = None) -> list[Photo]:
    """Read the photos of one staged split back, by class in the order given, else in sorted order."""
    names = labels or sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    return [
        read_photo(path.name, label, path.read_bytes())
        for label in names
        for path in sorted((folder / label).glob("*"))
    ]


def upload(s3: "S3Client", folder: Path, bucket: str, prefix: str, progress: Progress) -> int:
    """Copy a staged folder to `s3://bucket/prefix/`, several files at once, and return the number of files sent.

    Files that are already there, with the same content, are not sent again.

    Raises:
        UserError: no credentials, no bucket, no permission.

    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with explained(f"upload to s3://{bucket}/{prefix}"):
        there = {
            item["Key"]: item["ETag"].strip('"')
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
            for item in page.get("Contents", [])
        }

        def send(path: Path) -> bool:
            key, body = f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes()
            # An object's ETag is the MD5 of its content, except under KMS keys, where it is sent again.
            if there.get(key) == hashlib.md5(body, usedforsecurity=False).hexdigest():
                return False
            s3.put_object(Bucket=bucket, Key=key, Body=body)
            return True

        sent = 0
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for number, new in enumerate(pool.map(send, files), start=1):
                sent += new
                progress(number, len(files))
    return sent
