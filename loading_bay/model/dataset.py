"""The data set: the CIFAR-100 archive or a folder of photos, read and split for training."""

import hashlib
import io
import json
import pickle
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from functions.photo.decoder import Decoder
from functions.photo.errors import DecoderFailed, PhotoTooLarge, UnreadablePhoto
from loading_bay.stack.errors import UserError

CIFAR_SIDE = 32
# The pictures that the pipeline sends: no side is longer than this, as JPEG of this quality.
PHOTO_SIDE = 416
PHOTO_QUALITY = 90
# A photo whose sides are shorter is a crop or an icon, and counts as small.
SMALL_SIDE = 128
# Photos of several of the classes; places that may or may not show a vehicle.
SEVERAL = "several"
UNSURE = "unsure"
# The text in a staged PNG that holds its origin and its vehicles; a JPEG keeps them in its comment.
TEXT = "staged"
PHOTO_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".heic", ".heif", ".avif", ".photo"})
# The training images, the largest member of the CIFAR-100 archive, have 155 MB.
LARGEST_MEMBER = 200_000_000
# Errors from reading an archive whose content does not match its names.
UNREADABLE = (
    OSError, tarfile.TarError, zlib.error, EOFError, pickle.UnpicklingError, ValueError, TypeError, AttributeError,
    LookupError, ArithmeticError, MemoryError, RecursionError,
)  # fmt: skip
LARGEST_PHOTO = 25 << 20  # bytes, the template's default
# The template's default: training uses no photo that the pipeline would reject.
MAX_PIXELS = 50_000_000
# This share of the labelled photos is for choosing settings and calibrating; it is never trained on.
VALIDATION_SHARE = 0.15
# This share of the outliers that are not kept for the test is for validation.
OUTLIER_VALIDATION_SHARE = 0.32
TEST_SHARE = 0.15
# With fewer than these, the shipped recipe did far worse: trained on 70 photographs of bicycles, it got three in ten
# cyclists wrong; trained on 171 outliers, it accepted one car in nine.
ENOUGH_OF_A_CLASS = 300
ENOUGH_OUTLIERS = 1000
# Two photos correlating more than this (after removing brightness and contrast, mirrored or not) show the
# same thing. CIFAR-100 is known for such pairs: Barz and Denzler, "Do we train on test data?", 2020.
DUPLICATE_CORRELATION = 0.8

# Pictures from one camera are numbered in order of time; this many in a row may show the same vehicle.
BURST = 20
_NUMBERED = re.compile(r"(.*/[a-z]+)(\d+)\.jpg")

JPEG_START = b"\xff\xd8"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """An image's origin: the look of its source, the source, how the vehicle was cropped, and from which original.

    `weight` is the number of photos of this source that the image stands for, as it was drawn from so many.
    """

    look: str = "own"
    source: str = "own"
    scale: str = "whole"
    original: str = ""
    weight: float = 1.0

    @property
    def group(self) -> str:
        """Return the name shared by photos that must stay in one split, or "" if this photo may be in any.

        These are the crops of one original, or the pictures that a camera took at about the same time.
        """
        numbered = _NUMBERED.fullmatch(self.original)
        return f"{numbered[1]}{int(numbered[2]) // BURST}" if numbered else self.original


CIFAR = Origin(look="small", source="cifar-100")


@dataclass(frozen=True)
class Vehicle:
    """A vehicle in a photo: its class or UNSURE, and its box (left, top, right, bottom) in the photo's pixels."""

    label: str
    box: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Return the area of the box in pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Photo:
    """One labelled photo: its file name, class name, its file's content (PNG or JPEG), its origin, its vehicles."""

    name: str
    label: str
    data: bytes
    origin: Origin = Origin()
    vehicles: tuple[Vehicle, ...] = ()

    @property
    def pixels(self) -> Pixels:
        """Return the RGB pixels [H, W, 3]."""
        with Image.open(io.BytesIO(self.data), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))

    @property
    def size(self) -> tuple[int, int]:
        """Return the width and height in pixels."""
        with Image.open(io.BytesIO(self.data), formats=("PNG", "JPEG")) as image:
            return image.size

    @property
    def suffix(self) -> str:
        """Return the suffix of its file's name."""
        return ".jpg" if self.data.startswith(JPEG_START) else ".png"


def encoded(image: Image.Image, origin: Origin, vehicles: Sequence[Vehicle] = (), *, lossless: bool = False) -> bytes:
    """Return an RGB image as a photo's file, which also holds the photo's origin and vehicles."""
    origins = {name: value for name, value in asdict(origin).items() if (name, value) != ("weight", 1.0)}
    content = origins | {"vehicles": [[each.label, *(round(edge, 1) for edge in each.box)] for each in vehicles]}
    text = json.dumps(content, separators=(",", ":"))
    file = io.BytesIO()
    if lossless:
        information = PngInfo()
        information.add_text(TEXT, text)
        image.save(file, "PNG", pnginfo=information)
    else:
        image.save(file, "JPEG", quality=PHOTO_QUALITY, comment=text)
    return file.getvalue()


def read_photo(name: str, label: str, data: bytes) -> Photo:
    """Read a file that `encoded` made.

    Raises:
        ValueError: it is a different file.
    """
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        content = json.loads(image.info.get(TEXT) or image.info.get("comment") or "null")
    if not isinstance(content, dict) or "vehicles" not in content:
        raise ValueError(f"{name} does not say where it comes from")
    vehicles = tuple(
        Vehicle(kind, (left, top, right, bottom)) for kind, left, top, right, bottom in content.pop("vehicles")
    )
    return Photo(name, label, data, Origin(**content), vehicles)


@dataclass(frozen=True)
class Source:
    """Photos of one wanted class, of several, and of other things, before they are split, with the data's digest.

    `test` is empty if the source does not come with a test split.
    """

    train: list[Photo]
    test: list[Photo]
    outliers: list[Photo]
    test_outliers: list[Photo]
    digest: str
    several: tuple[Photo, ...] = ()
    test_several: tuple[Photo, ...] = ()
    crops: tuple[Photo, ...] = ()
    test_crops: tuple[Photo, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Photos by split, ready to be written; no photo is in two splits."""

    class_names: list[str]
    train: list[Photo]
    validation: list[Photo]
    test: list[Photo]
    train_outliers: list[Photo]
    validation_outliers: list[Photo]
    test_outliers: list[Photo]
    dropped: int
    digest: str
    seed: int
    train_several: list[Photo] = field(default_factory=list)
    validation_several: list[Photo] = field(default_factory=list)
    test_several: list[Photo] = field(default_factory=list)
    # Crops of all labels, for measuring only.
    validation_crops: list[Photo] = field(default_factory=list)
    test_crops: list[Photo] = field(default_factory=list)


class _Kind:
    """Stands in for numpy.dtype; the only kind is bytes."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        if name not in {"u1", b"u1"}:
            raise pickle.UnpicklingError(f"an array of {name!r} has no place in a data set")

    def __setstate__(self, state: object) -> None:
        """Accept the byte order and the like, which bytes do not have."""


class _Array:
    """Stands in for numpy.ndarray, whose own state could name any memory as its content."""

    def __init__(self) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        """Take an array's content, row by row.

        Raises:
            pickle.UnpicklingError: its elements are not bytes.
        """
        _, _, kind, is_by_columns, content = state
        if not isinstance(kind, _Kind) or is_by_columns or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array of anything but bytes has no place in a data set")
        self.values = np.frombuffer(content, np.uint8)


class _CifarUnpickler(pickle._Unpickler):  # the one in C takes any amount of memory for its memo
    """Reads bytes and plain values only: a pickle may otherwise run any code it names."""

    def find_class(self, module: str, name: str) -> object:
        stand_ins = {"_reconstruct": lambda *_: _Array(), "ndarray": _Array, "dtype": _Kind}
        if module.split(".", maxsplit=1)[0] == "numpy" and name in stand_ins:
            return stand_ins[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a data set")


def read_cifar(archive: Path, class_names: Sequence[str]) -> Source:
    """Read the CIFAR-100 archive (https://www.cs.toronto.edu/~kriz/cifar.html, the Python version).

    Raises:
        UserError: the file is not that archive, or images of a wanted class are missing.

    """
    try:
        with tarfile.open(archive) as tar:
            meta = _unpickle(tar, "meta")
            names = [name.decode() for name in meta[b"fine_label_names"]]
            splits = {split: _cifar_photos(_unpickle(tar, split), names) for split in ("train", "test")}
    except UNREADABLE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{archive} is damaged, or not CIFAR-100's Python archive: {why}") from error
    _require_classes(class_names, names, archive)
    wanted = set(class_names)
    return Source(
        train=[photo for photo in splits["train"] if photo.label in wanted],
        test=[photo for photo in splits["test"] if photo.label in wanted],
        outliers=[photo for photo in splits["train"] if photo.label not in wanted],
        test_outliers=[photo for photo in splits["test"] if photo.label not in wanted],
        digest=f"sha256:{file_digest(archive, 'sha256')}",
    )


def _unpickle(tar: tarfile.TarFile, member: str) -> dict[bytes, Any]:
    file = tar.extractfile(f"cifar-100-python/{member}")
    if file is None:
        raise KeyError(member)
    content = file.read(LARGEST_MEMBER + 1)
    if len(content) > LARGEST_MEMBER:
        raise ValueError(f"{member} has more than {LARGEST_MEMBER:,} bytes")
    return dict(_CifarUnpickler(io.BytesIO(content), encoding="bytes").load())


def _cifar_photos(split: dict[bytes, Any], names: list[str]) -> list[Photo]:
    # A row is 1,024 red values, 1,024 green, 1,024 blue, each row by row.
    pixels = split[b"data"].values.reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1)
    rows = zip(split[b"filenames"], split[b"fine_labels"], pixels, strict=True)
    return [Photo(name.decode(), names[label], _cifar_file(image), CIFAR) for name, label, image in rows]


def _cifar_file(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(np.ascontiguousarray(pixels)), CIFAR, lossless=True)


def read_folder(
    folder: Path,
    class_names: Sequence[str],
    weights: Mapping[str, float] = MappingProxyType({}),
    *,
    every_class: bool = True,
) -> Source:
    """Read photos from `<folder>/<class>/*.jpg`; folders with other names hold outliers, `several` photos of several.

    Photos of any size are turned upright and reduced, as the pipeline does it. The first, third, … outlier in sorted
    order is for the test. `weights` are those of some files, by name, which count more than 1.

    Raises:
        UserError: the folder is missing or empty, or lacks `every_class`, or a photo cannot be read.

    """
    photos = _class_folders(folder, weights)
    if every_class:
        _require_classes(class_names, sorted({photo.label for photo in photos}), folder)
    wanted = set(class_names)
    outliers = [photo for photo in photos if photo.label not in {*wanted, SEVERAL}]
    several = [photo for photo in photos if photo.label == SEVERAL]
    return Source(
        train=[photo for photo in photos if photo.label in wanted],
        test=[],
        outliers=outliers[1::2],
        test_outliers=outliers[0::2],
        digest=photos_digest(photos),
        several=tuple(several[1::2]),
        test_several=tuple(several[0::2]),
    )


def with_outliers(source: Source, folder: Path) -> Source:
    """Add `<folder>/<class>/*.png` as outliers; the first, third, … file in sorted order is for the test.

    Raises:
        UserError: the folder is missing or empty, or a photo cannot be read.

    """
    photos = _class_folders(folder, {})
    return replace(
        source,
        outliers=[*source.outliers, *photos[1::2]],
        test_outliers=[*source.test_outliers, *photos[0::2]],
        digest=_joint_digest(source, photos),
    )


def with_photographs(
    source: Source,
    train: Sequence[Photo],
    test: Sequence[Photo],
    class_names: Sequence[str],
    crops: tuple[Sequence[Photo], Sequence[Photo]] = ((), ()),
) -> Source:
    """Add photographs of known originals: `train` to learn from, and `test` for the final figures only.

    `crops` come from the same originals, in the same two parts; the model never learns from them.
    """
    wanted = set(class_names)
    return replace(
        source,
        train=[*source.train, *(photo for photo in train if photo.label in wanted)],
        test=[*source.test, *(photo for photo in test if photo.label in wanted)],
        outliers=[*source.outliers, *(photo for photo in train if photo.label not in {*wanted, SEVERAL})],
        test_outliers=[*source.test_outliers, *(photo for photo in test if photo.label not in {*wanted, SEVERAL})],
        several=(*source.several, *(photo for photo in train if photo.label == SEVERAL)),
        test_several=(*source.test_several, *(photo for photo in test if photo.label == SEVERAL)),
        crops=(*source.crops, *crops[0]),
        test_crops=(*source.test_crops, *crops[1]),
        digest=_joint_digest(source, [*train, *test]),
    )


def limit_outliers(source: Source, limit: int, seed: int) -> Source:
    """Keep at most `limit` outliers of each source for training and validation, and as many for the test; seeded."""
    generator = np.random.default_rng(seed)

    def some(photos: list[Photo]) -> list[Photo]:
        kept: set[int] = set()
        for name in sorted({photo.origin.source for photo in photos}):
            rows = [row for row, photo in enumerate(photos) if photo.origin.source == name]
            kept.update(rows if len(rows) <= limit else generator.choice(rows, limit, replace=False).tolist())
        return [photos[row] for row in sorted(kept)]

    return replace(source, outliers=some(source.outliers), test_outliers=some(source.test_outliers))


def _class_folders(folder: Path, weights: Mapping[str, float]) -> list[Photo]:
    """Read every photo of every folder in a folder, in sorted order."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one that holds a folder of photos per class")
    labels = sorted(child.name for child in folder.iterdir() if child.is_dir())
    with Decoder(max_pixels=MAX_PIXELS) as decoder:
        photos = [photo for label in labels for photo in _folder_photos(decoder, folder / label, label, weights)]
    if not photos:
        raise UserError(f"{folder} contains no photos in class folders: put them in {folder}/<class>/")
    return photos


def _joint_digest(source: Source, more: list[Photo]) -> str:
    both = f"{source.digest} {photos_digest(more)}"
    return f"sha256:{hashlib.sha256(both.encode()).hexdigest()}"


def _folder_photos(decoder: Decoder, folder: Path, label: str, weights: Mapping[str, float]) -> list[Photo]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    return [_read_photo(decoder, path, label, weights.get(path.name, 1.0)) for path in files]


def _read_photo(decoder: Decoder, path: Path, label: str, weight: float) -> Photo:
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; take it away")
    if path.stat().st_size > LARGEST_PHOTO:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST_PHOTO:,}; take it away")
    try:
        photo = decoder.upright(path.read_bytes(), PHOTO_SIDE)
    except (OSError, PhotoTooLarge, UnreadablePhoto, DecoderFailed) as error:
        raise UserError(f"{path} cannot be read: {error}; fix or remove it") from error
    small = max(photo.width, photo.height) < SMALL_SIDE
    origin = Origin("small" if small else "own", "own", weight=weight)
    return Photo(path.name, label, encoded(photo.image, origin, lossless=small), origin)


def _require_classes(wanted: Sequence[str], present: Iterable[str], where: Path) -> None:
    if len(set(wanted)) < 2:
        raise UserError(f"two or more different classes are needed, not {', '.join(wanted) or 'none'}")
    present = list(present)
    missing = [name for name in wanted if name not in present]
    if missing:
        raise UserError(f"{where} has no class {', '.join(missing)}; it has {', '.join(present) or 'none'}")


def split(source: Source, class_names: Sequence[str], seed: int) -> Dataset:
    """Split validation off train, and also test if the source does not have one: seeded, the same share of each class.

    Near-duplicates of test photos are dropped from training and validation. Near-duplicates of each other stay in the
    same split, so validation never repeats a training photo.

    Raises:
        UserError: a class has too few photos to be split.

    """
    generator = np.random.default_rng(seed)
    rest, test = ([photo for photo in part if not photo.origin.group] for part in (source.train, source.test))
    if not test:
        rest, test = _carve(rest, class_names, TEST_SHARE, generator)
    fresh = without_repeats(rest, test)
    dropped, rest = len(rest) - len(fresh), fresh
    train, validation = _carve(rest, class_names, VALIDATION_SHARE, generator)
    more_train, more_validation = _by_group(source.train, seed)
    several_train, several_held = _by_group(source.several, seed)

    outliers = [photo for photo in source.outliers if not photo.origin.group]
    order = generator.permutation(len(outliers))
    held = round(len(outliers) * OUTLIER_VALIDATION_SHARE)
    more_outliers, more_held = _by_group(source.outliers, seed)
    return Dataset(
        class_names=list(class_names),
        train=train + more_train,
        validation=validation + more_validation,
        test=test + [photo for photo in source.test if photo.origin.group],
        train_outliers=[outliers[index] for index in sorted(order[held:])] + more_outliers,
        validation_outliers=[outliers[index] for index in sorted(order[:held])] + more_held,
        test_outliers=source.test_outliers,
        dropped=dropped,
        digest=source.digest,
        seed=seed,
        train_several=[*several_train, *(photo for photo in source.several if not photo.origin.group)],
        validation_several=several_held,
        test_several=list(source.test_several),
        validation_crops=_by_group(source.crops, seed)[1],
        test_crops=list(source.test_crops),
    )


def _by_group(photos: Sequence[Photo], seed: int) -> tuple[list[Photo], list[Photo]]:
    """Split photos of known originals, whole groups at a time: (training photos, validation photos)."""
    train: list[Photo] = []
    validation: list[Photo] = []
    for photo in photos:
        if photo.origin.group:
            drawn = hashlib.sha256(f"{seed}:{photo.origin.group}".encode()).digest()
            held = int.from_bytes(drawn[:4], "big") < VALIDATION_SHARE * 2**32
            (validation if held else train).append(photo)
    return train, validation


def without_repeats(photos: list[Photo], others: Sequence[Photo]) -> list[Photo]:
    """Return the photos that are not near-duplicates of one of the others."""
    if not photos or not others:
        return photos
    repeated = np.any(_repeats(_signatures(photos), _signatures(others)), axis=1)
    return [photos[index] for index in np.flatnonzero(~repeated)]


def _carve(
    photos: list[Photo], class_names: Sequence[str], share: float, generator: np.random.Generator
) -> tuple[list[Photo], list[Photo]]:
    """Split off a share of every class, whole groups of near-duplicates at a time: (the rest, the share)."""
    taken: set[int] = set()
    for label in class_names:
        members = [index for index, photo in enumerate(photos) if photo.label == label]
        wanted = round(len(members) * share)
        if wanted < 1 or len(members) - wanted < 1:
            raise UserError(f"class {label} has {len(members)} photos, too few to split; add more")
        groups = _groups([photos[index] for index in members])
        count = 0
        for position in generator.permutation(len(groups)):
            if count + len(groups[position]) <= wanted:
                taken.update(members[index] for index in groups[position])
                count += len(groups[position])
    stay = [photo for index, photo in enumerate(photos) if index not in taken]
    return stay, [photos[index] for index in sorted(taken)]


def _signatures(photos: Sequence[Photo]) -> NDArray[np.float32]:
    """Return each photo as a unit vector [2, N, 3072] free of brightness and contrast: as it is, and mirrored."""
    pixels = np.stack([_at_cifars_side(photo.pixels) for photo in photos]).astype(np.float32)
    both = np.stack([pixels, pixels[:, :, ::-1]]).reshape(2, len(photos), -1)
    both -= both.mean(axis=2, keepdims=True)
    norms = np.linalg.norm(both, axis=2, keepdims=True)
    both /= np.where(norms > 0, norms, 1)
    return both


def _at_cifars_side(pixels: Pixels) -> Pixels:
    """Reduce an image to the side at which duplicates are compared."""
    if pixels.shape[:2] == (CIFAR_SIDE, CIFAR_SIDE):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((CIFAR_SIDE, CIFAR_SIDE), Image.Resampling.BOX))


def _repeats(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which of N photos repeat which of M, mirrored or not: [N, M]."""
    correlation = np.maximum(left[0] @ right[0].T, left[0] @ right[1].T)
    return np.asarray(correlation > DUPLICATE_CORRELATION)


def _groups(photos: Sequence[Photo]) -> list[list[int]]:
    """Put photos that repeat each other, directly or through a third, into one group."""
    signatures = _signatures(photos)
    repeats = _repeats(signatures, signatures)
    group = np.arange(len(photos))
    for one, other in np.argwhere(np.triu(repeats, k=1)):
        group[group == group[other]] = group[one]
    return [np.flatnonzero(group == number).tolist() for number in np.unique(group)]


def shortages(data: Dataset) -> list[str]:
    """Return a line of advice for each kind of photo that is too rare for a trustworthy model."""
    counts = {name: sum(photo.label == name for photo in data.train) for name in data.class_names}
    lines = [
        f"{name} has {count} images to learn from; below {ENOUGH_OF_A_CLASS} a model knows few of its kind: add more"
        for name, count in counts.items()
        if count < ENOUGH_OF_A_CLASS
    ]
    others = len(data.train_outliers)
    if others < ENOUGH_OUTLIERS:
        lines.append(
            f"there are {others} images of other things; below {ENOUGH_OUTLIERS} a model accepts many it never saw: "
            "give --outliers, --photographs or the whole of CIFAR-100"
        )
    return lines


def photos_digest(photos: Iterable[Photo]) -> str:
    """Return a digest of the photos' labels, names and files; their order does not matter."""
    lines = sorted(f"{photo.label}/{photo.name} {hashlib.sha256(photo.data).hexdigest()}" for photo in photos)
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def file_digest(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hexadecimal, reading the file piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
