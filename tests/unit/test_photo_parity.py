"""The pipeline, training and the model server prepare a photo in the same way, pixel by pixel."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from functions.photo.image import upright
from loading_bay.model import dataset
from training.container.looking import read_photo

from .profiles import ADOBE, ADOBE_COLOURS, SRGB_COLOURS

pillow_heif.register_heif_opener()
SIZE = (150, 110)
COLOURED = Image.merge(
    "RGB", [Image.radial_gradient("L").resize(SIZE), *(Image.effect_noise(SIZE, 90) for _ in range(2))]
)
GREY = Image.linear_gradient("L").resize(SIZE)
LEFT_HALF = Image.new("L", SIZE, 255)
LEFT_HALF.paste(0, (SIZE[0] // 2, 0, *SIZE))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def png(rows: NDArray[np.uint8], width: int, depth: int, colour_type: int, transparent: bytes = b"") -> bytes:
    """Write PNGs that Pillow cannot: depths of 2, 4 and 16 bits, with a transparent colour; `rows` are packed."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
        if body or name == b"IEND"
    )


def grey16(value: int, other: int, transparent: int | None = None) -> bytes:
    """A 16-bit greyscale PNG: `value` on the left, `other` on the right."""
    rows = np.full((64, 64), value, ">u2")
    rows[:, 32:] = other
    return png(rows.view(np.uint8), 64, 16, 0, b"" if transparent is None else struct.pack(">H", transparent))


def few_bits(depth: int, transparent: int) -> bytes:
    """A greyscale PNG of 2 or 4 bits: every byte holds the same pixels, one of them transparent."""
    return png(np.full((64, 64 * depth // 8), 0b00011011, np.uint8), 64, depth, 0, struct.pack(">H", transparent))


PHOTOS = {
    **{f"{format}, orientation {n}": encode(COLOURED, format, exif=oriented(n))
       for format in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF") for n in range(1, 9)},
    **{f"PNG, {mode}": encode(COLOURED.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")},
    **{f"{format}, alpha": encode(Image.merge("RGBA", (*COLOURED.split(), GREY)), format, **options)
       for format, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {}), ("HEIF", {}))},
    "PNG, grey with alpha": encode(Image.merge("LA", (GREY, LEFT_HALF)), "PNG"),
    "PNG, palette with a transparent colour": encode(COLOURED.quantize(9), "PNG", transparency=3),
    "PNG, palette with alpha": encode(COLOURED.quantize(200), "PNG", transparency=bytes(range(200))),
    "PNG, grey with a transparent grey": encode(GREY, "PNG", transparency=120),
    "PNG, a transparent colour": encode(COLOURED.quantize(5).convert("RGB"), "PNG", transparency=(1, 2, 3)),
    "PNG, black is transparent": encode(LEFT_HALF.convert("1"), "PNG", transparency=0),
    "PNG, 2 bits": few_bits(2, 2),
    "PNG, 4 bits": few_bits(4, 11),
    "PNG, 16-bit grey": grey16(20_000, 50_001),
    "PNG, 16-bit grey with a transparent grey": grey16(20_000, 50_001, 50_001),
    "PNG, 16-bit colours": png(
        (np.asarray(COLOURED).astype(">u2") * 257).reshape(SIZE[1], -1).view(np.uint8), SIZE[0], 16, 2,
        struct.pack(">HHH", 0, 1, 40_000),
    ),
    **{f"{format}, Adobe RGB": encode(COLOURED, format, icc_profile=ADOBE)
       for format in ("PNG", "JPEG", "WEBP", "HEIF", "AVIF")},
    "JPEG, not a profile": encode(COLOURED, "JPEG", icc_profile=ADOBE[:130] + bytes(200)),
    **{f"JPEG, {mode}": encode(COLOURED.convert(mode), "JPEG") for mode in ("L", "CMYK")},
    "JPEG, progressive": encode(COLOURED, "JPEG", progressive=True),
    "JPEG, two pictures": encode(COLOURED, "MPO", save_all=True, append_images=[GREY.convert("RGB")]),
    "JPEG, large": encode(COLOURED.resize((1203, 902)), "JPEG"),
    **{f"{format}, grey": encode(GREY, format) for format in ("HEIF", "AVIF", "WEBP")},
    **{f"{format}, animated": encode(COLOURED, format, save_all=True, append_images=[GREY.convert("RGB")])
       for format in ("PNG", "WEBP", "AVIF")},
}  # fmt: skip


def piped(photo: bytes, side: int = dataset.PHOTO_SIDE) -> NDArray[np.uint8]:
    return np.asarray(upright(photo, longest_side=side, max_pixels=50_000_000).image)


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dataset.Photo]:
    """Each photo as training reads it."""
    folder = tmp_path_factory.mktemp("photos")
    for label in ("bicycle", "motorcycle"):
        (folder / label).mkdir()
        for number, photo in enumerate(PHOTOS.values()):
            (folder / label / f"{number:03}.jpg").write_bytes(photo)
    read = dataset.read_folder(folder, ["bicycle", "motorcycle"]).train
    return dict(zip(PHOTOS, read, strict=False))


@pytest.mark.parametrize("kind", PHOTOS)
def test_training_prepares_a_photo_as_the_pipeline_does(kind: str, trained_on: dict[str, dataset.Photo]) -> None:
    photo = trained_on[kind]
    shown = Image.fromarray(piped(PHOTOS[kind]))
    assert photo.data == dataset.encoded(shown, photo.origin, lossless=photo.suffix == ".png")


@pytest.mark.parametrize("side", [32, dataset.PHOTO_SIDE])
@pytest.mark.parametrize("kind", [kind for kind in PHOTOS if kind.startswith(("PNG", "JPEG, "))])
def test_the_model_s_server_prepares_a_photo_as_the_pipeline_does(kind: str, side: int) -> None:
    seen = read_photo(PHOTOS[kind], ("PNG", "JPEG"), side)

    assert np.array_equal(seen, piped(PHOTOS[kind], side))


def test_the_model_s_server_reads_a_staged_photo_as_training_does(trained_on: dict[str, dataset.Photo]) -> None:
    for photo in trained_on.values():
        assert np.array_equal(read_photo(photo.data, ("PNG", "JPEG")), photo.pixels)


@pytest.mark.parametrize(
    ("photo", "left", "right"),
    [
        (grey16(20_000, 50_001), 78, 195),
        (grey16(20_000, 50_001, 50_001), 78, 255),
        (grey16(20_000, 20_001, 20_001), 78, 255),
        (grey16(20_000, 50_001, 300), 78, 195),
    ],
)
def test_16_bit_greys_keep_their_brightness_and_only_the_transparent_one_is_white(
    photo: bytes, left: int, right: int
) -> None:
    pixels = piped(photo)

    assert np.all(pixels[:, 2:28] == left)
    assert np.all(pixels[:, 36:60] == right)


@pytest.mark.parametrize(("depth", "transparent", "shade"), [(2, 1, 85), (4, 11, 187)])
def test_the_transparent_grey_of_a_png_of_few_bits_becomes_white(depth: int, transparent: int, shade: int) -> None:
    row = np.full((64, 64 * depth // 8), 0x55 if depth == 2 else 0xBB, np.uint8)

    assert np.all(piped(png(row, 64, depth, 0, struct.pack(">H", transparent))) == 255)
    assert np.all(piped(png(row, 64, depth, 0, struct.pack(">H", transparent + 1))) == shade)


def test_a_grey_that_results_from_reducing_is_not_transparent() -> None:
    stripes = np.tile(np.array([100, 200], np.uint8), (64, 32))

    pixels = piped(encode(Image.fromarray(stripes), "PNG", transparency=150), 32)

    assert np.all(np.abs(pixels.astype(int) - 150) < 8)


def test_colours_of_a_wider_space_are_converted() -> None:
    seen = piped(encode(Image.new("RGB", (64, 64), (120, 160, 130)), "PNG", icc_profile=ADOBE))[16, 16]

    light = (np.array([120, 160, 130]) / 255) ** 2.19921875 @ np.array(ADOBE_COLOURS) @ np.linalg.inv(SRGB_COLOURS)
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert np.all(np.abs(seen - expected) < 2)
    assert np.abs(expected - [120, 160, 130]).max() > 5
