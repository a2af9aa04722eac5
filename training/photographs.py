"""Photographs from the street: crops of public photographs, each with its source and licence."""

import csv
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from functions.serialize.photo import central_square
from functions.serialize.refusals import PhotoTooLarge, UnreadablePhoto
from stack.errors import UserError

from .dataset import MAX_PIXELS, Origin, Photo

SOURCES = Path(__file__).parent / "sources.csv"
INDEX = "index.csv"
TRAINED_ON = "train"


@dataclass(frozen=True)
class Photographs:
    """Crops of vehicles and of other things: those to learn from, and those for the final figures only."""

    train: list[Photo]
    test: list[Photo]


def read_looks() -> dict[str, str]:
    """Return how each source's photographs look: source → look."""
    with SOURCES.open(encoding="utf-8", newline="") as file:
        return {row["source"]: row["look"] for row in csv.DictReader(file)}


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
