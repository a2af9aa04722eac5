"""Which photos the demonstration uploads, and what is to become of each."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stack.template import ROOT
from training.dataset import PHOTO_SUFFIXES, read_cifar

SAMPLES = ROOT / "events" / "photos"
DOWNLOADED = ROOT / "data" / "cifar-100-python.tar.gz"
CLASSES = ("bicycle", "motorcycle")
IMAGES_PER_CLASS = 6


@dataclass(frozen=True)
class Photo:
    """A photo to upload: its name in the inbox, its bytes and the outcomes that are right for it.

    `statuses` are the statuses that may come out; `vehicle` is what a routed photo must show.
    """

    name: str
    data: bytes
    statuses: frozenset[str]
    vehicle: str | None

    def is_as_expected(self, status: str, vehicle: str) -> bool:
        """Tell whether an outcome is right for this photo."""
        return status in self.statuses and (status != "ROUTED" or vehicle == self.vehicle)


def sample_photos() -> list[Photo]:
    """Return the pictures that come with the project, in `events/photos`."""
    expected = json.loads((SAMPLES / "expected.json").read_text())
    return [
        Photo(name, (SAMPLES / name).read_bytes(), frozenset(outcome["statuses"]), outcome["vehicle"])
        for name, outcome in sorted(expected.items())
    ]


def cifar_photos(archive: Path) -> list[Photo]:
    """Return the first test images of each class; the model may be unsure of them, but not wrong."""
    test = read_cifar(archive, CLASSES).test
    photos = []
    for vehicle in CLASSES:
        for photo in [photo for photo in test if photo.label == vehicle][:IMAGES_PER_CLASS]:
            buffer = io.BytesIO()
            Image.fromarray(photo.pixels).save(buffer, "PNG")
            photos.append(Photo(photo.name, buffer.getvalue(), frozenset({"ROUTED", "REVIEW"}), vehicle))
    return photos


def find_archive(given: Path | None) -> Path | None:
    """Return the CIFAR-100 archive to use: the one given, or one that was downloaded earlier."""
    if given:
        return given
    return DOWNLOADED if DOWNLOADED.exists() else None


def photos_below(paths: Iterable[Path]) -> tuple[list[tuple[str, Path]], int]:
    """Return each photo with its name in the inbox, and how many other files of the folders are left out.

    A file that is given by itself is taken whatever its name.
    """
    found, skipped = [], 0
    for path in paths:
        if not path.is_dir():
            found.append((path.name, path))
            continue
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        photos = [file for file in inside if file.suffix.lower() in PHOTO_SUFFIXES]
        found += [(f"{path.resolve().name}/{file.relative_to(path).as_posix()}", file) for file in photos]
        skipped += len(inside) - len(photos)
    return found, skipped
