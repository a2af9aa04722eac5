"""Reducing photos: every accepted format is upright and centred; all other files are refused by name."""

import io
import random
import struct
import zlib

import pillow_heif
import pytest
from PIL import ExifTags, Image

from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.image import PreparedPhoto, central_square

pillow_heif.register_heif_opener()
LIMIT = 50_000_000


def reduce(data: bytes, size: int = 32, max_pixels: int = LIMIT) -> PreparedPhoto:
    return central_square(data, size=size, max_pixels=max_pixels)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixel(photo: PreparedPhoto, x: int, y: int) -> tuple[int, ...]:
    assert photo.image.mode == "RGB"
    value = photo.image.getpixel((x, y))
    assert isinstance(value, tuple)
    return tuple(int(channel) for channel in value)


def close(left: tuple[int, ...], right: tuple[int, ...], tolerance: int = 24) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(left, right, strict=True))


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def halves(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = BLUE) -> Image.Image:
    image = Image.new("RGB", (96, 96), left)
    image.paste(right, (48, 0, 96, 96))
    return image


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_every_accepted_format_becomes_the_same_small_picture(format: str) -> None:
    reduced = reduce(encode(halves(), format))

    assert (reduced.format, reduced.width, reduced.height) == (format, 96, 96)
    assert close(pixel(reduced, 4, 16), RED)
    assert close(pixel(reduced, 28, 16), BLUE)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_picture_has_the_size_that_the_model_takes(size: int) -> None:
    reduced = reduce(encode(halves(), "JPEG"), size=size)

    assert reduced.image.size == (size, size)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation: int, format: str) -> None:
    # Given a picture with a red quarter at its top left, stored in each EXIF orientation
    upright = Image.new("RGB", (96, 64), GREEN)
    upright.paste(RED, (0, 0, 48, 32))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation

    reduced = reduce(encode(stored, format, exif=exif))

    assert close(pixel(reduced, 8, 8), RED)
    for x, y in [(24, 8), (8, 24), (24, 24)]:
        assert close(pixel(reduced, x, y), GREEN)


def test_the_centre_of_a_wide_photo_is_kept() -> None:
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(BLUE, (100, 0, 200, 100))

    reduced = reduce(encode(wide, "PNG"))

    assert all(close(pixel(reduced, x, 16), BLUE) for x in (1, 16, 30))


def test_a_large_jpeg_gives_the_same_picture_as_a_full_decode() -> None:
    # Given a photo large enough to be decoded at an eighth of its size
    noise = Image.frombytes("RGB", (40, 30), random.Random(1).randbytes(40 * 30 * 3))
    photo = encode(noise.resize((4032, 3024), Image.Resampling.BICUBIC), "JPEG", quality=90)

    reduced = reduce(photo).image

    full = Image.open(io.BytesIO(photo)).crop((504, 0, 3528, 3024)).resize((32, 32), Image.Resampling.BICUBIC)
    pairs = zip(reduced.tobytes(), full.tobytes(), strict=True)
    assert sum(abs(a - b) for a, b in pairs) / (32 * 32 * 3) < 4


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_transparent_pixels_become_white(format: str) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (32, 0, 64, 64))

    reduced = reduce(encode(image, format))

    assert close(pixel(reduced, 4, 16), RED)
    assert close(pixel(reduced, 28, 16), WHITE)


def test_a_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 32, 64))

    reduced = reduce(encode(image, "PNG", transparency=0))

    assert close(pixel(reduced, 4, 16), RED)
    assert close(pixel(reduced, 28, 16), WHITE)


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (Image.new("L", (64, 64), 200), "PNG", (200, 200, 200)),
        (Image.new("I;16", (64, 64), 200 * 256), "PNG", (200, 200, 200)),
        (Image.new("1", (64, 64), 1), "PNG", WHITE),
        (Image.new("LA", (64, 64), (200, 255)), "PNG", (200, 200, 200)),
        (Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG", RED),
        (Image.new("L", (64, 64), 200), "JPEG", (200, 200, 200)),
    ],
    ids=["grey", "16-bit grey", "black and white", "grey with alpha", "CMYK", "grey JPEG"],
)
def test_every_kind_of_pixel_becomes_rgb(image: Image.Image, format: str, expected: tuple[int, ...]) -> None:
    assert close(pixel(reduce(encode(image, format)), 16, 16), expected)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_an_animation_becomes_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (48, 48), colour) for colour in (RED, BLUE, GREEN)]

    reduced = reduce(encode(frames[0], format, save_all=True, append_images=frames[1:]))

    assert close(pixel(reduced, 16, 16), RED)


def test_a_phone_s_jpeg_with_a_second_picture_behind_it_is_a_jpeg() -> None:
    first, second = halves(), Image.new("RGB", (32, 32), GREEN)

    reduced = reduce(encode(first, "MPO", save_all=True, append_images=[second]))

    assert reduced.format == "JPEG"
    assert close(pixel(reduced, 4, 16), RED)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(UnreadablePhoto, match="not a JPEG, PNG, WebP, HEIC or AVIF photo"):
        reduce(encode(halves(), format))


@pytest.mark.parametrize("data", [b"", b"\xff", b"hello", b"%PDF-1.7", b"<svg/>", bytes(1000)])
def test_a_file_that_is_not_a_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePhoto):
        reduce(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_photo_is_refused(format: str, share: float) -> None:
    noise = Image.frombytes("RGB", (128, 128), random.Random(2).randbytes(128 * 128 * 3))
    whole = encode(noise, format)

    with pytest.raises(UnreadablePhoto):
        reduce(whole[: int(len(whole) * share)])


def test_a_photo_with_too_many_pixels_is_refused() -> None:
    photo = encode(Image.new("RGB", (200, 100)), "PNG")

    with pytest.raises(PhotoTooLarge, match="200 × 100 pixels"):
        reduce(photo, max_pixels=19_999)
    assert reduce(photo, max_pixels=20_000).width == 200


def test_a_header_that_promises_a_billion_pixels_is_refused_without_decoding() -> None:
    photo = bytearray(encode(Image.new("L", (8, 8)), "PNG"))
    photo[16:24] = struct.pack(">II", 60_000, 60_000)
    photo[29:33] = struct.pack(">I", zlib.crc32(photo[12:29]))

    with pytest.raises(PhotoTooLarge):
        reduce(bytes(photo))


def test_broken_exif_does_not_make_the_photo_fail() -> None:
    photo = encode(halves(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x01" * 40)

    assert close(pixel(reduce(photo), 4, 16), RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_nothing_but_pixels_goes_on_to_the_model(format: str) -> None:
    # Given a photo with a colour profile as large as some printers': larger than a workflow state may be
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "a driver"
    profile = random.Random(0).randbytes(600_000)

    png = reduce(encode(halves(), format, icc_profile=profile, exif=exif)).encode("PNG")

    assert len(png) < 4096
    assert Image.open(io.BytesIO(png)).info == {}


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (31, 33), (3000, 2)])
def test_photos_of_any_shape_are_accepted(size: tuple[int, int]) -> None:
    assert close(pixel(reduce(encode(Image.new("RGB", size, RED), "PNG")), 16, 16), RED)
