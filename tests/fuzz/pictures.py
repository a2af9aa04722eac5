"""Pictures of every kind that a decoder knows, and ways to damage them, for fuzzing the photo reader."""

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable

import pillow_heif
from PIL import ExifTags, Image

from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.image import central_square

from .poison import FAMILIES, exif_array

pillow_heif.register_heif_opener()
MAX_PIXELS = 2_000_000  # small, so a fuzzer often meets the limit and never waits for a decoder
Mutation = Callable[[random.Random, bytearray], None]


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    """Return the picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _noise(mode: str, size: tuple[int, int] = (48, 40)) -> Image.Image:
    grey = Image.effect_noise(size, 60)
    return grey.convert("RGBA").convert(mode) if mode in {"P", "LA"} else grey.convert(mode)


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "phone"
    return exif.tobytes()


def seeds() -> list[bytes]:
    """Return one small file of every kind, accepted or not."""
    rgb, frames = _noise("RGB"), [_noise("RGB") for _ in range(3)]
    grey16 = Image.frombytes("I;16", (48, 40), random.Random(0).randbytes(48 * 40 * 2))
    animated = {"save_all": True, "append_images": frames}
    return [
        encode(rgb, "JPEG"),
        encode(rgb, "JPEG", progressive=True, exif=_oriented(6)),
        encode(rgb, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x01" * 40, icc_profile=b"no profile" * 30),
        encode(_noise("CMYK"), "JPEG", exif=_oriented(8)),
        encode(_noise("L"), "JPEG", restart_marker_blocks=2),
        encode(rgb, "MPO", **animated),
        *(encode(_noise(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        encode(grey16, "PNG"),
        encode(_noise("P"), "PNG", transparency=bytes(range(200))),
        encode(rgb, "PNG", transparency=(1, 2, 3), exif=_oriented(5), icc_profile=b"\x00" * 200),
        encode(rgb, "PNG", **animated),
        encode(rgb, "WEBP"),
        encode(_noise("RGBA"), "WEBP", lossless=True, exif=_oriented(3)),
        encode(rgb, "WEBP", **animated),
        encode(rgb, "HEIF"),
        encode(_noise("RGBA"), "HEIF", exif=_oriented(2)),
        encode(rgb, "AVIF"),
        encode(_noise("RGBA"), "AVIF", exif=_oriented(7)),
        encode(rgb, "AVIF", **animated),
        *(encode(rgb, format) for format in ("GIF", "TIFF", "BMP", "JPEG2000", "ICO")),
        *(build(10) for build in FAMILIES.values()),
        exif_array(100),
        bomb(40_000, 40_000),
        bomb(1200, 1100),
        b"",
        b"<svg onload='alert(1)'/>",
        b"\x00\x00\x00\x18ftypheic" + bytes(40),
        b"\x00\x00\x00\x18ftypavif" + b"\xff" * 40,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30,
    ]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few kilobytes that declares a huge picture, and contains its first rows."""
    rows = min(height, 2000)
    data = zlib.compress(b"".join(b"\x00" + bytes(width // 8 + 1) for _ in range(rows)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    data[start : start + rng.choice([1, 2, 4, 16])] = rng.choice(
        [b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01", rng.randbytes(4)]
    )


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randint(1, 256)]
    data[start:start] = piece * rng.choice([1, 2, 50])


def _fix_checksums(rng: random.Random, data: bytearray) -> None:
    """Correct the checksums of a damaged PNG; otherwise the decoder stops at the first one."""
    position = 8
    while data[:4] == b"\x89PNG" and position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4


MUTATIONS: list[Mutation] = [_flip, _overwrite, _overwrite, _cut, _remove, _repeat, _fix_checksums]


def spoil(seed: bytes, rng: random.Random, times: int) -> bytes:
    """Return the file after a number of random changes."""
    data = bytearray(seed)
    for _ in range(times):
        if data:
            rng.choice(MUTATIONS)(rng, data)
    _fix_checksums(rng, data)
    return bytes(data)


def check(data: bytes) -> str:
    """Assert that the photo reader keeps its contract with these bytes; return the outcome."""
    try:
        reduced = central_square(data, size=32, max_pixels=MAX_PIXELS)
    except (PhotoTooLarge, UnreadablePhoto) as refusal:
        reason, name = str(refusal), type(refusal).__name__
        assert reason == " ".join(reason.split()) != "", "the reason is not one line of text"
        return name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = Image.open(io.BytesIO(reduced.encode("PNG")))
        picture.load()
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))
    assert reduced.format in {"JPEG", "PNG", "WEBP", "HEIF", "AVIF"}
    assert 0 < reduced.width * reduced.height <= MAX_PIXELS
    assert set(picture.info) == set(), "metadata reached the model"
    return "picture"
