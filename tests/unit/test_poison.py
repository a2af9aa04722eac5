"""Photos that ask for more work than a photo may: refused by a look at their header, before a decoder sees them."""

import numpy as np
import pytest

from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.header import bare
from functions.photo.image import central_square
from tests.fuzz.poison import FAMILIES, exif_array

MAX_PIXELS = 2_000_000
# Of each family, how many of its parts no photo has.
TOO_MANY = {"PNG of empty chunks": 20_001, "PNG of texts": 20_001, "PNG of empty data": 20_001, "AVIF that lies": 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_photo_of_too_many_parts_is_refused_by_its_header(family: str) -> None:
    photo = FAMILIES[family](TOO_MANY.get(family, 1_001))

    with pytest.raises((PhotoTooLarge, UnreadablePhoto), match=r"segments|scans|chunks|tiles|coded"):
        bare(memoryview(photo), MAX_PIXELS)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "AVIF that lies"])
def test_a_photo_of_a_few_parts_is_read(family: str) -> None:
    assert central_square(FAMILIES[family](2), size=32, max_pixels=50_000_000).image.size == (32, 32)


def test_few_tiles_of_too_many_pixels_are_refused() -> None:
    with pytest.raises(PhotoTooLarge, match="tiles have 8 megapixels"):
        bare(memoryview(FAMILIES["HEIC of one large tile many times"](8)), 5_000_000)


def test_an_array_in_exif_does_not_keep_a_photo_from_being_turned() -> None:
    turned = central_square(exif_array(3_000_000), size=32, max_pixels=MAX_PIXELS).image
    plain = central_square(exif_array(0), size=32, max_pixels=MAX_PIXELS).image

    assert np.array_equal(np.asarray(turned), np.asarray(plain))
