"""Photographs from the street: crops of public photographs, each with its source and licence."""

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from functions.photo.colour import in_srgb
from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.image import central_square
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import ROOT

from .dataset import MAX_PIXELS, Origin, Photo
from .download import download

# Where each source's originals lie, at a fixed commit, under which licence, and how they look.
SOURCES = ROOT / "training" / "sources.csv"
# Every original with its checksum and its crops.
MANIFEST = ROOT / "training" / "photographs.csv"
INDEX = "index.csv"
TRAINED_ON = "train"
ARCHIVE_OPTION = "--photographs-archive FILE"
FETCHED_AT_ONCE = 8
# A photo that its source cut into tiles has so many a row.
TILES_A_ROW = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Photographs:
    """Crops of vehicles and of other things: those to learn from, and those for the final figures only."""

    train: list[Photo]
    test: list[Photo]


@dataclass(frozen=True)
class Crop:
    """A square of an original, in its pixels (left, top, right, bottom), with what it shows and how it was chosen."""

    label: str
    scale: str
    number: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Original:
    """A photograph as it is published: its files (more than one where it is in tiles), and its crops."""

    source: str
    name: str
    split: str
    addresses: list[str]
    checksums: list[str]
    crops: list[Crop]

    def files(self, folder: Path) -> list[Path]:
        """Return where its files lie in a folder of originals, named after their content."""
        return [folder / self.source / f"{checksum}.jpg" for checksum in self.checksums]


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
            crops=[_crop(text) for text in row["crops"].split("; ")],
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


def fetch(originals: Sequence[Original], folder: Path, progress: Progress) -> None:
    """Download originals into a folder, several at once; those that are there, whole, are left alone.

    Raises:
        UserError: one cannot be fetched, or is not what it was; the command can be run again.
    """
    wanted = [
        (address, checksum, file)
        for original in originals
        for address, checksum, file in zip(original.addresses, original.checksums, original.files(folder), strict=True)
    ]

    def one(address: str, checksum: str, file: Path) -> None:
        download(address, file, checksum, lambda done, total: None, algorithm="sha256", instead=ARCHIVE_OPTION)

    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        for number, _ in enumerate(pool.map(lambda each: one(*each), wanted), start=1):
            progress(number, len(wanted))


def read_originals(originals: Sequence[Original], folder: Path, side: int) -> Photographs:
    """Cut the crops out of downloaded originals.

    Raises:
        UserError: an original is missing or damaged.
    """
    looks = read_looks()
    found = Photographs([], [])
    for original in originals:
        try:
            image = _assembled(original.files(folder))
        except (OSError, ValueError) as error:
            raise UserError(f"{original.name} in {folder} cannot be read: {error}; fetch it again") from error
        for crop in original.crops:
            reduced = image.resize((side, side), Image.Resampling.BICUBIC, box=crop.box, reducing_gap=4.0)
            square = in_srgb(reduced, image.info.get("icc_profile") or b"")
            origin = Origin(looks[original.source], original.source, crop.scale, f"{original.source}:{original.name}")
            name = f"{original.source}-{original.name.replace('/', '_')}-{crop.number}.png"
            (found.train if original.split == TRAINED_ON else found.test).append(
                Photo(name, crop.label, np.asarray(square), origin)
            )
    return found


def _assembled(files: Sequence[Path]) -> Image.Image:
    """Return a photograph as one picture, as it is stored: the manifest's boxes know of no orientation."""
    tiles = []
    for file in files:
        with Image.open(file, formats=("JPEG",)) as image:
            tiles.append(image.convert("RGB"))
    if len(tiles) == 1:
        return tiles[0]
    width, height = tiles[0].size
    whole = Image.new("RGB", (TILES_A_ROW * width, len(tiles) // TILES_A_ROW * height))
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % TILES_A_ROW * width, number // TILES_A_ROW * height))
    return whole


def read_archives(archives: Sequence[Path], side: int) -> Photographs:
    """Read archives of crops with an `index.csv` (file, label, split, source, scale, original).

    Raises:
        UserError: a file is no such archive, or names a source whose licence is not known here.
    """
    looks = read_looks()
    found = Photographs([], [])
    for archive in archives:
        try:
            files = _unpack(archive)
            for row in csv.DictReader(io.StringIO(files[INDEX].decode(), newline="")):
                if row["source"] not in looks:
                    raise UserError(f"{archive} holds photographs of {row['source']}, which {SOURCES} lacks")
                photo = _photo(row, files[row["file"]], looks[row["source"]], side)
                (found.train if row["split"] == TRAINED_ON else found.test).append(photo)
        except (OSError, tarfile.TarError, KeyError, ValueError, PhotoTooLarge, UnreadablePhoto) as error:
            raise UserError(f"{archive} is no archive of photographs: {error}") from error
    return found


def _unpack(archive: Path) -> dict[str, bytes]:
    # In the order of the archive: a compressed one is unpacked anew from its start for every step back.
    with tarfile.open(archive) as tar:
        opened = ((member.name, tar.extractfile(member)) for member in tar)
        return {name.removeprefix("./"): file.read() for name, file in opened if file}


def _photo(row: dict[str, str], data: bytes, look: str, side: int) -> Photo:
    pixels = np.asarray(central_square(data, size=side, max_pixels=MAX_PIXELS).image)
    origin = Origin(look, row["source"], row["scale"], row["original"])
    return Photo(Path(row["file"]).name, row["label"], pixels, origin)
