"""The photos that the demo uploads, with the expected outcomes, and photos in folders."""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from loading_bay.model.dataset import PHOTO_SUFFIXES, read_cifar
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import ROOT
from loading_bay.stack.text import printable

SAMPLES = ROOT / "events" / "photos"
DOWNLOADED = ROOT / "data" / "cifar-100-python.tar.gz"
CLASSES = ("bicycle", "motorcycle")
IMAGES_PER_CLASS = 6
COMPANIONS = {"__MACOSX", "@eaDir"}  # metadata folders of macOS and Synology
PHOTO_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|RIFF.{4}WEBP|.{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1|avi[fs])", re.DOTALL
)


@dataclass(frozen=True)
class DemoPhoto:
    """A photo to upload: its name in the inbox, its bytes, its expected statuses, and its vehicle.

    The model may send some of its test images to the wrong bay; the demo reports these errors, which are not faults of
    the stack. A sample must never go to the wrong bay.
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
        """Tell whether this photo may have this outcome."""
        return status in self.statuses and (self.is_test or not self.is_misrouted(status, vehicle))


def sample_photos() -> list[DemoPhoto]:
    """Return the pictures that come with the project, in `events/photos`."""
    expected = json.loads((SAMPLES / "expected.json").read_text())
    return [
        DemoPhoto(name, (SAMPLES / name).read_bytes(), frozenset(outcome["statuses"]), outcome["vehicle"])
        for name, outcome in sorted(expected.items())
    ]


def cifar_photos(archive: Path) -> list[DemoPhoto]:
    """Return the first test images of each class."""
    test = read_cifar(archive, CLASSES).test
    photos = []
    for vehicle in CLASSES:
        for photo in [photo for photo in test if photo.label == vehicle][:IMAGES_PER_CLASS]:
            buffer = io.BytesIO()
            Image.fromarray(photo.pixels).save(buffer, "PNG")
            photos.append(
                DemoPhoto(photo.name, buffer.getvalue(), frozenset({"ROUTED", "REVIEW"}), vehicle, is_test=True)
            )
    return photos


def find_archive(given: Path | None) -> Path | None:
    """Return the CIFAR-100 archive to use: the given one, or one that was downloaded earlier."""
    if given:
        return given
    return DOWNLOADED if DOWNLOADED.exists() else None


def judge(photos: Sequence[DemoPhoto], outcomes: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return a line for each photo with an unexpected outcome; `outcomes` has status and vehicle by name."""
    ends = {photo.name: outcomes.get(photo.name, ("no outcome", "")) for photo in photos}
    return [
        f"{photo.name}: {' '.join(ends[photo.name]).strip()}"
        for photo in photos
        if not photo.is_as_expected(*ends[photo.name])
    ]


def misrouted_test_images(photos: Iterable[DemoPhoto], outcomes: Mapping[str, tuple[str, str]]) -> str:
    """Return a sentence that counts and names the test images that the model sent to the wrong bay."""
    tested = [photo for photo in photos if photo.is_test]
    wrong = [f"{photo.name} ({photo.vehicle})" for photo in tested if photo.is_misrouted(*outcomes[photo.name])]
    return f"of {len(tested)} test images the model sent {len(wrong) or 'none'} to the wrong bay" + (
        ": " + ", ".join(wrong) if wrong else ""
    )


def photos_below(paths: Iterable[Path]) -> tuple[dict[str, Path], Counter[str]]:
    """Return each photo by its name in the inbox, and count the other files of the folders, by reason.

    A file that is named itself is always included.

    Raises:
        UserError: two photos would get one name.
    """
    found: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    for given in paths:
        for name, file in _files_below(given):
            if file != given and (reason := _why_left_out(file, given)):
                left_out[reason] += 1
            elif name in found:
                both = f"{printable(str(found[name]))} and {printable(str(file))}"
                raise UserError(f"{both} would have one name, {name}: upload them apart, each with a --prefix")
            else:
                found[name] = file
    return found, left_out


def _files_below(given: Path) -> list[tuple[str, Path]]:
    """Return a file, or all files of a folder, with their names in the inbox."""
    if not given.is_dir():
        return [(_as_key(given.name), given)]
    files = sorted(file for file in given.rglob("*") if not file.is_dir())
    top = given.resolve().name
    return [(_as_key(f"{top}/{file.relative_to(given).as_posix()}"), file) for file in files]


def _as_key(name: str) -> str:
    """Return a file's name with %XX in place of bytes that are not UTF-8, and of control characters."""
    return "".join(each if each.isprintable() else quote(os.fsencode(each)) for each in name)


def _why_left_out(file: Path, folder: Path) -> str:
    parts = file.relative_to(folder).parts
    if any(part.startswith(".") or part in COMPANIONS for part in parts):
        return "hidden"
    if not file.is_file():
        return "not a file"
    with file.open("rb") as opened:
        start = opened.read(64)
    if not start:
        return "empty"
    is_photo = file.suffix.lower() in PHOTO_SUFFIXES or PHOTO_START.match(start)
    return "" if is_photo else "not a photo"
