"""Photos from cameras, phones and editors: metadata never changes a pixel wrongly, nor makes a photo fail.

With `FUZZ_EXAMPLES` the whole family is tested, otherwise a part of it.
"""

import io
import os

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from functions.photo.errors import UnreadablePhoto
from functions.photo.image import upright
from tests.fuzz.family import (
    Member,
    avif,
    broken_off,
    encode,
    exif,
    heic,
    jpeg,
    png,
    sample,
    scene,
    unchanged,
    xmp,
)
from tests.fuzz.poison import chunk, segment
from tests.unit.profiles import ADOBE

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))


def shown(data: bytes) -> NDArray[np.int_]:
    return np.asarray(upright(data, longest_side=10_000, max_pixels=1_000_000).image).astype(int)


def as_pillow_reads_it(data: bytes) -> NDArray[np.int_]:
    """The picture decoded with all metadata of the file."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("member", sample(unchanged(), EXAMPLES), ids=lambda member: member.name)
def test_metadata_that_decoders_do_not_see_change_no_pixel(member: Member) -> None:
    assert np.array_equal(shown(member.data), as_pillow_reads_it(member.data))


@pytest.mark.parametrize(("member", "is_whole"), broken_off(), ids=lambda value: getattr(value, "name", ""))
def test_a_jpeg_with_a_complete_picture_is_whole_with_any_end(member: Member, is_whole: bool) -> None:
    if is_whole:
        assert np.array_equal(shown(member.data), as_pillow_reads_it(jpeg_of(member)))
    else:
        with pytest.raises(UnreadablePhoto, match=r"cut off|damaged"):
            upright(member.data, longest_side=64, max_pixels=1_000_000)


def jpeg_of(member: Member) -> bytes:
    """The same JPEG with its end marker."""
    return next(each.data for each, _ in broken_off() if each.name == member.name.rpartition(", ")[0] + ", end")


RAW_PROFILE = b"\nexif\n      %d\n" % len(exif(6)) + exif(6).hex().encode()


@pytest.mark.parametrize(
    "data",
    [
        jpeg([segment(0xE1, exif(6, kind, order))]) for kind in (3, 4) for order in "<>"
    ] + [
        jpeg([segment(0xE1, b"Exif\0\0"), segment(0xE1, exif(6))]),
        jpeg([segment(0xE1, exif(6)[:30]), segment(0xE1, b"Exif\0\0" + exif(6)[30:])]),
        jpeg([segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))]),
        png([chunk(b"eXIf", exif(6, 4)[6:])]),
        png([chunk(b"tEXt", b"Raw profile type exif\0" + RAW_PROFILE)]),
        png([chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))]),
    ],
)  # fmt: skip
def test_a_photo_is_turned_by_any_orientation_in_its_file(data: bytes) -> None:
    turned = shown(data)

    assert turned.shape == (96, 64, 3)
    assert np.array_equal(turned, as_pillow_reads_it(data))


def test_exif_takes_precedence_over_xmp() -> None:
    data = jpeg([segment(0xE1, exif(3)), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))])

    assert np.array_equal(shown(data), as_pillow_reads_it(data))
    assert shown(data).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page"),
        (b"\xef\xbb\xbf\n <HTML>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "an XML document"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "an XML document"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"data:image/jpeg;base64,/9j/4AAQSkZJRg==", "a data URL"),
        (b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8U", "base64 text"),
        (b"iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2j", "base64 text"),
        (b"AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZg==", "base64 text"),
        (b'------WebKitFormBoundaryX\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\xd8\xff', "a web form"),
        (b'{"message": "Forbidden"}', "JSON"),
        (b"%PDF-1.7", "a PDF document"),
        (b"GIF89a" + bytes(20), "a GIF"),
        (b"\0\0\0\x18ftypmp42" + bytes(20), "a video"),
    ],
)  # fmt: skip
def test_a_file_in_place_of_a_photo_is_named(data: bytes, name: str) -> None:
    with pytest.raises(UnreadablePhoto, match=f"not a JPEG, PNG, WebP, HEIC or AVIF photo, but {name}"):
        shown(data)


@pytest.mark.parametrize(("primaries", "transfer"), [(12, 13), (9, 1), (9, 16), (12, 18)])
def test_a_heic_with_a_colour_coding_looks_like_the_same_avif(primaries: int, transfer: int) -> None:
    difference = np.abs(shown(heic(primaries, transfer)) - shown(avif([], primaries, transfer)))

    assert difference.mean() < 2
    assert np.abs(shown(heic(primaries, transfer)) - shown(heic(1, 13))).mean() > 5


def test_a_webp_with_a_size_that_is_too_large_is_read_if_complete() -> None:
    whole = encode(scene(), "WEBP")
    larger = whole[:4] + (len(whole) + 5000).to_bytes(4, "little") + whole[8:]

    assert np.array_equal(shown(larger), shown(whole))
    with pytest.raises(UnreadablePhoto, match="WebP photo is damaged"):
        shown(larger[: len(larger) // 2])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_a_colour_profile_of_more_than_a_megabyte_is_ignored(format: str) -> None:
    profiles = [b"", ADOBE, ADOBE + bytes(1_100_000)]
    plain, converted, padded = (shown(encode(scene(), format, quality=95, icc_profile=each)) for each in profiles)

    assert np.array_equal(padded, plain)
    assert not np.array_equal(converted, plain)


@pytest.mark.parametrize("start", [b"\0\0\0\x10ftypmif3avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1"])
def test_an_avif_that_no_decoder_reads_is_still_named_an_avif(start: bytes) -> None:
    with pytest.raises(UnreadablePhoto, match="the AVIF photo is damaged or of an unsupported kind"):
        shown(start + b"\0\0\0\x20mini" + bytes(40))
