"""Photographs from the street: whole ones with their vehicles' boxes, and crops, each with its source and licence."""

import csv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from functions.photo.colour import in_srgb
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import ROOT

from .dataset import PHOTO_SIDE, SEVERAL, UNSURE, Origin, Photo, Vehicle, encoded
from .download import download

# Each source: the address of its originals at a fixed commit, its licence, and its look.
SOURCES = ROOT / "training" / "sources.csv"
# Every original with its checksum, its crops and its vehicles.
MANIFEST = ROOT / "training" / "photographs.csv"
TRAINED_ON = "train"
OTHER = "other"
FETCHED_AT_ONCE = 8
# A crop is this large at most, and never larger than it is in the original.
CROP_SIDE = 224
# A photo belongs to a class if one of its vehicles has at least the first share of the largest vehicle's area. The
# largest vehicle needs at least the second share of the photo's area, unless a crop shows a vehicle.
PROMINENT_SHARE = 1 / 4
LEAST_SHARE = 0.01
# A photo with an unsure place that is a larger share of it is not used as a whole.
MOST_UNSURE = 0.5
# A photo that its source cut into tiles has this many per row.
TILES_A_ROW = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Photographs:
    """Photographs to learn from, and those for the final figures only."""

    train: list[Photo]
    test: list[Photo]


@dataclass(frozen=True)
class Crop:
    """A square of an original, in its pixels (left, top, right, bottom), with its label and how it was chosen."""

    label: str
    scale: str
    number: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Original:
    """A photograph as it is published: its files (more than one where it is in tiles), its crops, its vehicles."""

    source: str
    name: str
    split: str
    addresses: list[str]
    checksums: list[str]
    crops: list[Crop]
    vehicles: list[Vehicle]

    def files(self, folder: Path) -> list[Path]:
        """Return the paths of its files in a folder of originals; their names come from their content."""
        return [folder / self.source / f"{checksum}.jpg" for checksum in self.checksums]

    def label(self, area: float) -> str | None:
        """Return the label of the whole photo, `area` pixels large: a class, SEVERAL or OTHER; None if it is unsure."""
        sure = [vehicle for vehicle in self.vehicles if vehicle.label != UNSURE]
        unsure = max((vehicle.area for vehicle in self.vehicles if vehicle.label == UNSURE), default=0)
        if unsure > MOST_UNSURE * area or (unsure and not sure):
            return None
        if not sure:
            return OTHER
        largest = max(vehicle.area for vehicle in sure)
        if largest < LEAST_SHARE * area and all(crop.label == OTHER for crop in self.crops):
            return None
        labels = {vehicle.label for vehicle in sure if vehicle.area >= PROMINENT_SHARE * largest}
        return labels.pop() if len(labels) == 1 else SEVERAL


def read_looks() -> dict[str, str]:
    """Return how each source's photographs look: source → look."""
    return {row["source"]: row["look"] for row in _rows(SOURCES)}


def read_manifest(manifest: Path = MANIFEST, sources: Path = SOURCES) -> list[Original]:
    """Return every original of the manifest."""
    addresses = {row["source"]: row["address"] for row in _rows(sources)}
    return [
        Original(
            source=row["source"],
            name=row["original"],
            split=row["split"],
            addresses=[addresses[row["source"]] + path for path in row["path"].split()],
            checksums=row["sha256"].split(),
            crops=[_crop(text) for text in row["crops"].split("; ") if text],
            vehicles=[_vehicle(text) for text in row["vehicles"].split("; ") if text],
        )
        for row in _rows(manifest)
    ]


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _crop(text: str) -> Crop:
    label, scale, number, *box = text.split()
    left, top, right, bottom = map(float, box)
    return Crop(label, scale, number, (left, top, right, bottom))


def _vehicle(text: str) -> Vehicle:
    label, *box = text.split()
    left, top, right, bottom = map(float, box)
    return Vehicle(label, (left, top, right, bottom))


def fetch(originals: Sequence[Original], folder: Path, progress: Progress) -> None:
    """Download originals into a folder, several at once; files that are already complete are left alone.

    Raises:
        UserError: one cannot be fetched, or has changed; the command can be run again.
    """
    wanted = [
        (address, checksum, file)
        for original in originals
        for address, checksum, file in zip(original.addresses, original.checksums, original.files(folder), strict=True)
    ]

    def one(address: str, checksum: str, file: Path) -> None:
        download(address, file, checksum, lambda done, total: None, algorithm="sha256", instead=str(file))

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        for number, _ in enumerate(pool.map(lambda each: one(*each), wanted), start=1):
            progress(number, len(wanted))


def read_originals(originals: Sequence[Original], folder: Path, progress: Progress) -> Photographs:
    """Reduce downloaded originals as the pipeline reduces photos, with their vehicles; unsure ones are left out.

    Raises:
        UserError: an original is missing or damaged.
    """
    looks = read_looks()
    found = Photographs([], [])
    for number, original in enumerate(originals, start=1):
        image = _opened(original, folder)
        label = original.label(image.width * image.height)
        if label is not None:
            origin = _origin(original, looks, "whole")
            share = min(1, PHOTO_SIDE / max(image.size))
            photo = _reduced(image, (0, 0, *image.size), (round(share * image.width), round(share * image.height)))
            vehicles = tuple(
                Vehicle(each.label, (share * left, share * top, share * right, share * bottom))
                for each in original.vehicles
                for left, top, right, bottom in [each.box]
            )
            data = encoded(photo, origin, vehicles)
            _part(found, original).append(Photo(f"{_stem(original)}.jpg", label, data, origin, vehicles))
        progress(number, len(originals))
    return found


def read_crops(originals: Sequence[Original], folder: Path, progress: Progress) -> Photographs:
    """Cut the crops out of downloaded originals: squares of one thing each, for measuring.

    Raises:
        UserError: an original is missing or damaged.
    """
    looks = read_looks()
    found = Photographs([], [])
    for number, original in enumerate(originals, start=1):
        if original.crops:
            image = _opened(original, folder)
            _part(found, original).extend(_cut(original, crop, image, looks) for crop in original.crops)
        progress(number, len(originals))
    return found


def _cut(original: Original, crop: Crop, image: Image.Image, looks: dict[str, str]) -> Photo:
    side = max(1, min(CROP_SIDE, round(crop.box[2] - crop.box[0])))
    origin = _origin(original, looks, crop.scale)
    data = encoded(_reduced(image, crop.box, (side, side)), origin)
    return Photo(f"{_stem(original)}-{crop.number}.jpg", crop.label, data, origin)


def _part(found: Photographs, original: Original) -> list[Photo]:
    return found.train if original.split == TRAINED_ON else found.test


def _origin(original: Original, looks: dict[str, str], scale: str) -> Origin:
    return Origin(looks[original.source], original.source, scale, f"{original.source}:{original.name}")


def _stem(original: Original) -> str:
    return f"{original.source}-{original.name.replace('/', '_')}"


def _reduced(image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    reduced = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    return in_srgb(reduced, image.info.get("icc_profile") or b"")


def _opened(original: Original, folder: Path) -> Image.Image:
    """Return a photograph as one picture, as it is stored: the boxes in the manifest ignore the orientation."""
    tiles = []
    for file in original.files(folder):
        try:
            with Image.open(file, formats=("JPEG",)) as image:
                tiles.append(image.convert("RGB"))
        except (OSError, ValueError) as error:
            raise UserError(f"{original.name} in {folder} cannot be read: {error}; fetch it again") from error
    if len(tiles) == 1:
        return tiles[0]
    width, height = tiles[0].size
    whole = Image.new("RGB", (TILES_A_ROW * width, len(tiles) // TILES_A_ROW * height))
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % TILES_A_ROW * width, number // TILES_A_ROW * height))
    return whole
