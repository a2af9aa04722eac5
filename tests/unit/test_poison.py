"""Photos that are too expensive to decode are refused by header, by a decoder, or when their time is up."""

from collections.abc import Iterator

import numpy as np
import pytest

from functions.photo.decoder import Decoder
from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.image import central_square
from tests.fuzz.poison import FAMILIES, exif_array

MAX_PIXELS = 20_000_000
# For each family, a number of parts that no real photo has.
TOO_MANY = {"PNG of empty chunks": 20_001, "PNG of texts": 20_001, "PNG of empty data": 20_001, "AVIF that lies": 40}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(max_pixels=MAX_PIXELS, seconds=2) as decoder:
        yield decoder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_photo_of_too_many_parts_is_refused(family: str, decoder: Decoder) -> None:
    photo = FAMILIES[family](TOO_MANY.get(family, 1_001))

    with pytest.raises((PhotoTooLarge, UnreadablePhoto)):
        decoder.square(photo, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_photo_of_a_few_parts_is_read(family: str) -> None:
    assert central_square(FAMILIES[family](2), size=32, max_pixels=MAX_PIXELS).image.size == (32, 32)


def test_tiles_of_many_more_pixels_than_the_picture_are_refused_before_they_are_decoded(decoder: Decoder) -> None:
    with pytest.raises(PhotoTooLarge, match="the photo's tiles have 537 megapixels"):
        decoder.square(FAMILIES["HEIC of one large tile many times"](500), 32)


def test_an_array_in_exif_does_not_keep_a_photo_from_being_turned() -> None:
    turned = central_square(exif_array(3_000_000), size=32, max_pixels=MAX_PIXELS).image
    plain = central_square(exif_array(0), size=32, max_pixels=MAX_PIXELS).image

    assert np.array_equal(np.asarray(turned), np.asarray(plain))
