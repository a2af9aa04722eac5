"""A model, or an endpoint, run over one split of a staged data set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from loading_bay.stack.errors import UserError

from .breakdown import Breakdown, breakdown
from .dataset import Photo, Pixels
from .evaluation import Labels, Metrics, Probabilities, evaluate
from .predictors import Predictor, predict_all
from .staging import OUTLIER_FOLDERS, read_manifest, read_split

# Wraps the answers as they come, (answers, how many), to show progress.
Track = Callable[[Iterable[list[float]], int], Iterable[list[float]]]


@dataclass(frozen=True)
class Measured:
    """Photos [N] and outliers [M] of one split, with the probabilities [N or M, classes] that they got."""

    subject: str
    data: Path
    class_names: list[str]
    photos: list[Photo]
    labels: Labels
    probabilities: Probabilities
    outliers: list[Photo]
    outlier_probabilities: Probabilities

    def metrics(self, threshold: float) -> Metrics:
        """Return the figures of merit at a threshold."""
        return evaluate(self.probabilities, self.labels, self.outlier_probabilities, self.class_names, threshold)

    def breakdown(self, threshold: float) -> Breakdown:
        """Return the figures by source and by scale."""
        return breakdown(
            self.photos,
            self.labels,
            self.probabilities,
            self.outliers,
            self.outlier_probabilities,
            class_names=self.class_names,
            threshold=threshold,
        )


def measure(
    predictor: Predictor,
    staged: Path,
    split: str,
    subject: str,
    track: Track = lambda answers, count: answers,
    prepare: Callable[[Pixels], Pixels] = lambda pixels: pixels,
) -> Measured:
    """Classify every photo and outlier of a split, each prepared first.

    Raises:
        UserError: nothing is staged, something was not answered, or the classes are not those staged.
    """
    names = read_manifest(staged).class_names
    photos, outliers = read_split(staged / split, names), read_split(staged / OUTLIER_FOLDERS[split])
    if not photos:
        raise UserError(f"{staged / split} holds no photos: run loading-bay model stage first")
    photos, outliers = (
        [replace(photo, pixels=prepare(photo.pixels)) for photo in found] for found in (photos, outliers)
    )
    return measure_photos(predictor, names, photos, outliers, subject, staged, track)


def measure_photos(
    predictor: Predictor,
    class_names: list[str],
    photos: list[Photo],
    outliers: list[Photo],
    subject: str,
    data: Path,
    track: Track = lambda answers, count: answers,
) -> Measured:
    """Classify photos, of which there is one at least, and outliers.

    Raises:
        UserError: something was not answered, or the classes are not these.
    """
    everything = [*photos, *outliers]
    answers = list(track(predict_all(predictor, everything), len(everything)))
    if any(len(answer) != len(class_names) for answer in answers):
        raise UserError(f"{subject} knows {len(answers[0])} classes, the data set in {data} has {len(class_names)}")
    rows = np.array(answers, dtype=float).reshape(-1, len(class_names))
    return Measured(
        subject=subject,
        data=data,
        class_names=class_names,
        photos=photos,
        labels=np.array([class_names.index(photo.label) for photo in photos]),
        probabilities=rows[: len(photos)],
        outliers=outliers,
        outlier_probabilities=rows[len(photos) :],
    )
