"""Figures by source and by scale, on photos with figures calculated by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from loading_bay.model.breakdown import breakdown, scale_name
from loading_bay.model.dataset import Origin, Photo
from loading_bay.model.measurement import Measured
from loading_bay.model.predictors import PhotoPrediction

NAMES = ["bicycle", "motorcycle"]


def photo(label: str, source: str, scale: str = "whole") -> Photo:
    return Photo("a.png", label, b"", Origin("street", source, scale, source))


def rows(*motorcycle: float) -> np.ndarray:
    second = np.array(motorcycle)
    return np.stack([1 - second, second], axis=1)


def measured(
    photos: list[Photo], probabilities: np.ndarray, outliers: list[Photo], outlier_probabilities: np.ndarray
) -> Measured:
    return Measured(
        subject="model",
        data=Path("staged"),
        class_names=NAMES,
        photos=photos,
        labels=np.array([NAMES.index(photo.label) for photo in photos]),
        probabilities=probabilities,
        outliers=outliers,
        outlier_probabilities=outlier_probabilities,
        answers=[PhotoPrediction(row) for row in probabilities.tolist()],
        outlier_answers=[PhotoPrediction(row) for row in outlier_probabilities.tolist()],
    )


def test_each_source_has_its_own_figures() -> None:
    photos = [photo("bicycle", "shop"), photo("motorcycle", "shop"), photo("bicycle", "street")]
    outliers = [photo("car", "street"), photo("car", "camera")]
    found = breakdown(measured(photos, rows(0.01, 0.99, 0.95), outliers, rows(0.5, 0.97)), 0.9)
    camera, shop, street = found.by_source
    assert (camera.name, camera.photos, camera.outliers_accepted.value) == ("camera", 0, 1.0)
    assert (shop.accuracy.value, shop.selective_accuracy.value) == (1.0, 1.0)
    assert (street.accuracy.value, street.coverage.value, street.outliers_accepted.value) == (0.0, 1.0, 0.0)
    assert found.mean_accuracy == 0.5


def test_the_worst_class_has_many_photos() -> None:
    photos = [photo("bicycle", "street")] * 60 + [photo("motorcycle", "street")] * 49
    scores = rows(*[0.1] * 45, *[0.9] * 15, *[0.1] * 49)
    found = breakdown(measured(photos, scores, [], np.empty((0, 2))), 0.9)
    assert found.worst_recall == 0.75  # no motorcycle is right, but there are only 49
    few = breakdown(measured(photos[:40], scores[:40], [], np.empty((0, 2))), 0.9)
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
