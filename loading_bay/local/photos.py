"""Which photos the demonstration uploads, and what is to become of each."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from loading_bay.model.dataset import PHOTO_SUFFIXES, read_cifar
from loading_bay.stack.template import ROOT

SAMPLES = ROOT / "events" / "photos"
DOWNLOADED = ROOT / "data" / "cifar-100-python.tar.gz"
CLASSES = ("bicycle", "motorcycle")
IMAGES_PER_CLASS = 6


@dataclass(frozen=True)
class Photo:
    """A photo to upload: its name in the inbox, its bytes, the statuses that are right for it and what it shows.

    Of the model's test images some may be sent to the wrong bay: that is the model's error, to be told, not a fault of
    the stack. A sample must never be.
    """

    name: str
    data: bytes
    statuses: frozenset[str]
    vehicle: str | None
    is_test: bool = False

    def is_misrouted(self, status: str, vehicle: str) -> bool:
        """Tell whether the photo was sent to another vehicle's bay."""
        return status == "ROUTED" and vehicle != self.vehicle

    def is_as_expected(self, status: str, vehicle: str) -> bool:
        """Tell whether an outcome is right for this photo."""
        return status in self.statuses and (self.is_test or not self.is_misrouted(status, vehicle))


def sample_photos() -> list[Photo]:
    """Return the pictures that come with the project, in `events/photos`."""
    expected = json.loads((SAMPLES / "expected.json").read_text())
    return [
        Photo(name, (SAMPLES / name).read_bytes(), frozenset(outcome["statuses"]), outcome["vehicle"])
        for name, outcome in sorted(expected.items())
    ]


def cifar_photos(archive: Path) -> list[Photo]:
    """Return the first test images of each class."""
    test = read_cifar(archive, CLASSES).test
    photos = []
    for vehicle in CLASSES:
        for photo in [photo for photo in test if photo.label == vehicle][:IMAGES_PER_CLASS]:
            buffer = io.BytesIO()
            Image.fromarray(photo.pixels).save(buffer, "PNG")
            photos.append(Photo(photo.name, buffer.getvalue(), frozenset({"ROUTED", "REVIEW"}), vehicle, is_test=True))
    return photos


def find_archive(given: Path | None) -> Path | None:
    """Return the CIFAR-100 archive to use: the one given, or one that was downloaded earlier."""
    if given:
        return given
    return DOWNLOADED if DOWNLOADED.exists() else None


def judge(photos: Sequence[Photo], outcomes: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a line for each photo that did not end as expected; `outcomes` has status and vehicle by name."""
    ends = {photo.name: outcomes.get(photo.name, ("no outcome", "")) for photo in photos}
    return [
        f"{photo.name}: {' '.join(ends[photo.name]).strip()}"
        for photo in photos
        if not photo.is_as_expected(*ends[photo.name])
    ]


def misrouted_test_images(photos: Iterable[Photo], outcomes: Mapping[str, tuple[str, str]]) -> str:
    """Return a sentence on how many of the test images the model sent to the wrong bay, and which."""
    tested = [photo for photo in photos if photo.is_test]
    wrong = [f"{photo.name} ({photo.vehicle})" for photo in tested if photo.is_misrouted(*outcomes[photo.name])]
    return f"of {len(tested)} test images the model sent {len(wrong) or 'none'} to the wrong bay" + (
        ": " + ", ".join(wrong) if wrong else ""
    )


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
