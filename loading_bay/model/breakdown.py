"""A model's figures by part: by the source of the photos, and by how much of the photo the vehicle fills.

A single figure would hide that a model is right on product shots and wrong in the street.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loading_bay.statistics import Share, share

from .dataset import Photo
from .evaluation import main_shares
from .measurement import Measured

# A class with fewer photos in a source says little: "worst class" leaves it out.
ENOUGH_FOR_A_CLASS = 50


@dataclass(frozen=True)
class SliceMetrics:
    """How a model does on some of the photos and outliers; `recall` is by class."""

    name: str
    photos: int
    accuracy: Share
    coverage: Share
    selective_accuracy: Share
    recall: dict[str, Share]
    outliers: int
    outliers_accepted: Share


@dataclass(frozen=True)
class Breakdown:
    """All parts, and two figures over the sources in which a large source cannot hide a small one."""

    by_source: list[SliceMetrics]
    by_scale: list[SliceMetrics]
    mean_accuracy: float
    worst_recall: float


def breakdown(measured: Measured, threshold: float) -> Breakdown:
    """Measure each source and each scale separately."""

    def slices(name_of: Callable[[Photo], str]) -> list[SliceMetrics]:
        names = sorted({name_of(photo) for photo in [*measured.photos, *measured.outliers]})
        return [_slice(measured, name, name_of, threshold) for name in names]

    by_source = slices(lambda photo: photo.origin.source)
    accuracies = [part.accuracy.value for part in by_source if part.photos]
    recalls = [each.value for part in by_source for each in part.recall.values() if each.of >= ENOUGH_FOR_A_CLASS]
    return Breakdown(
        by_source=by_source,
        by_scale=slices(scale_name),
        mean_accuracy=float(np.mean(accuracies)),
        worst_recall=min(recalls, default=float("nan")),
    )


def _slice(measured: Measured, name: str, name_of: Callable[[Photo], str], threshold: float) -> SliceMetrics:
    part = measured.chosen(lambda photo: name_of(photo) == name)
    correct = part.probabilities.argmax(axis=1) == part.labels
    return SliceMetrics(
        name=name,
        photos=len(part.photos),
        recall={
            each: share(int(correct[part.labels == number].sum()), int((part.labels == number).sum()))
            for number, each in enumerate(part.class_names)
        },
        outliers=len(part.outliers),
        **main_shares(part.probabilities, part.labels, part.outlier_probabilities, threshold),
    )


def scale_name(photo: Photo) -> str:
    """Return how much of a photo the vehicle fills, in words: a crop's side in widths or heights of its vehicle."""
    try:
        scale = float(photo.origin.scale)
    except ValueError:
        return photo.origin.scale or "whole"
    if scale < 1.3:
        return "fills the photo"
    return "half of the photo or more" if scale <= 2 else "less than half of the photo"
