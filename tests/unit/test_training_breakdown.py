"""Figures by source and by scale, on photos with figures calculated by hand."""

import math

import numpy as np
import pytest

from loading_bay.model.breakdown import at_half_scale, breakdown, scale_name
from loading_bay.model.dataset import Origin, Photo

NAMES = ["bicycle", "motorcycle"]


def photo(label: str, source: str, scale: str = "whole") -> Photo:
    return Photo("a.png", label, np.zeros((4, 4, 3), dtype=np.uint8), Origin("street", source, scale, source))


def rows(*motorcycle: float) -> np.ndarray:
    second = np.array(motorcycle)
    return np.stack([1 - second, second], axis=1)


def test_each_source_has_its_own_figures() -> None:
    photos = [photo("bicycle", "shop"), photo("motorcycle", "shop"), photo("bicycle", "street")]
    found = breakdown(
        photos,
        np.array([0, 1, 0]),
        rows(0.01, 0.99, 0.95),
        [photo("car", "street"), photo("car", "camera")],
        rows(0.5, 0.97),
        class_names=NAMES,
        threshold=0.9,
    )
    camera, shop, street = found.by_source
    assert (camera.name, camera.photos, camera.outliers_accepted.value) == ("camera", 0, 1.0)
    assert (shop.accuracy.value, shop.selective_accuracy.value) == (1.0, 1.0)
    assert (street.accuracy.value, street.coverage.value, street.outliers_accepted.value) == (0.0, 1.0, 0.0)
    assert found.mean_accuracy == 0.5


def test_the_worst_class_has_many_photos() -> None:
    photos = [photo("bicycle", "street")] * 60 + [photo("motorcycle", "street")] * 49
    labels = np.array([0] * 60 + [1] * 49)
    scores = rows(*[0.1] * 45, *[0.9] * 15, *[0.1] * 49)
    found = breakdown(photos, labels, scores, [], np.empty((0, 2)), class_names=NAMES, threshold=0.9)
    assert found.worst_recall == 0.75  # no motorcycle is right, but there are only 49
    few = breakdown(photos[:40], labels[:40], scores[:40], [], np.empty((0, 2)), class_names=NAMES, threshold=0.9)
    assert math.isnan(few.worst_recall)


@pytest.mark.parametrize(
    ("scale", "name"),
    [
        ("1.1", "fills the photo"),
        ("2.0", "half of the photo or more"),
        ("4.0", "less than half of the photo"),
        ("rider", "rider"),
        ("", "whole"),
    ],
)
def test_scales_have_names(scale: str, name: str) -> None:
    assert scale_name(photo("bicycle", "street", scale)) == name


def test_at_half_scale_a_vehicle_is_half_as_wide_in_the_middle() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[16:48, 16:48] = 255
    half = at_half_scale(pixels)
    assert half.shape == (64, 64, 3)
    assert (half[26:38, 26:38] > 200).all()
    assert (half[18:46, 18:22] < 60).all()
