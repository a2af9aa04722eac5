"""A model's figures by part: by the source of the photos, and by how much of the photo the vehicle fills.

A single figure would hide that a model is right on product shots and wrong in the street.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loading_bay.statistics import Share, share

from .dataset import Photo
from .evaluation import Labels, Probabilities

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


def breakdown(
    photos: Sequence[Photo],
    labels: Labels,
    probabilities: Probabilities,
    outliers: Sequence[Photo],
    outlier_probabilities: Probabilities,
    *,
    class_names: Sequence[str],
    threshold: float,
) -> Breakdown:
    """Measure each source and each scale separately; takes the arguments of `evaluate`, and the photos."""

    def parts(names: Sequence[str], outlier_names: Sequence[str]) -> list[SliceMetrics]:
        found = []
        for name in sorted({*names, *outlier_names}):
            mine = np.array([each == name for each in names], dtype=bool)
            others = np.array([each == name for each in outlier_names], dtype=bool)
            found.append(
                _part(
                    name,
                    labels[mine],
                    probabilities[mine],
                    outlier_probabilities[others],
                    class_names=class_names,
                    threshold=threshold,
                )
            )
        return found

    by_source = parts([photo.origin.source for photo in photos], [photo.origin.source for photo in outliers])
    accuracies = [part.accuracy.value for part in by_source if part.photos]
    recalls = [each.value for part in by_source for each in part.recall.values() if each.of >= ENOUGH_FOR_A_CLASS]
    return Breakdown(
        by_source=by_source,
        by_scale=parts([scale_name(photo) for photo in photos], [scale_name(photo) for photo in outliers]),
        mean_accuracy=float(np.mean(accuracies)),
        worst_recall=min(recalls, default=float("nan")),
    )


def _part(
    name: str,
    labels: Labels,
    probabilities: Probabilities,
    outliers: Probabilities,
    *,
    class_names: Sequence[str],
    threshold: float,
) -> SliceMetrics:
    correct: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    accepted = probabilities.max(axis=1) >= threshold
    return SliceMetrics(
        name=name,
        photos=len(labels),
        accuracy=share(int(correct.sum()), len(labels)),
        coverage=share(int(accepted.sum()), len(labels)),
        selective_accuracy=share(int((correct & accepted).sum()), int(accepted.sum())),
        recall={
            each: share(int(correct[labels == number].sum()), int((labels == number).sum()))
            for number, each in enumerate(class_names)
        },
        outliers=len(outliers),
        outliers_accepted=share(int((outliers.max(axis=1) >= threshold).sum()), len(outliers)),
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
