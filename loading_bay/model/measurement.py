"""A model, or an endpoint, run over one split of a staged data set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.statistics import Share, share

from .dataset import Photo
from .evaluation import Labels, Metrics, Probabilities, evaluate
from .predictors import PhotoPrediction, PhotoPredictor, predict_all
from .staging import CROP_FOLDERS, OUTLIER_FOLDERS, SEVERAL_FOLDERS, read_manifest, read_split

# The look of pictures that are already crops, or as small as those of CIFAR-100.
SMALL = "small"
# Wraps the answers as they come, (answers, how many), to show progress.
Track = Callable[[Iterable[PhotoPrediction], int], Iterable[PhotoPrediction]]


@dataclass(frozen=True)
class Measured:
    """Photos [N] and outliers [M] of one split, with the probabilities [N or M, classes] that they got.

    `answers` [N] and `outlier_answers` [M] also hold the frame that the model looked at.
    """

    subject: str
    data: Path
    class_names: list[str]
    photos: list[Photo]
    labels: Labels
    probabilities: Probabilities
    outliers: list[Photo]
    outlier_probabilities: Probabilities
    answers: list[PhotoPrediction]
    outlier_answers: list[PhotoPrediction]

    def chosen(self, wanted: Callable[[Photo], bool]) -> "Measured":
        """Return the same for some of the photos and outliers."""
        photos = [row for row, photo in enumerate(self.photos) if wanted(photo)]
        outliers = [row for row, photo in enumerate(self.outliers) if wanted(photo)]
        return replace(
            self,
            photos=[self.photos[row] for row in photos],
            labels=self.labels[photos],
            probabilities=self.probabilities[photos],
            outliers=[self.outliers[row] for row in outliers],
            outlier_probabilities=self.outlier_probabilities[outliers],
            answers=[self.answers[row] for row in photos],
            outlier_answers=[self.outlier_answers[row] for row in outliers],
        )

    def metrics(self, threshold: float) -> Metrics:
        """Return the figures of merit at a threshold."""
        return evaluate(self.probabilities, self.labels, self.outlier_probabilities, self.class_names, threshold)


def measure(
    predictor: PhotoPredictor,
    staged: Path,
    split: str,
    subject: str,
    track: Track = lambda answers, count: answers,
) -> Measured:
    """Classify every photo and outlier of a split.

    Raises:
        UserError: nothing is staged, a photo was not answered, or the classes are not those staged.
    """
    names = read_manifest(staged).class_names
    photos, outliers = read_split(staged / split, names), read_split(staged / OUTLIER_FOLDERS[split])
    if not photos:
        raise UserError(f"{staged / split} contains no photos: run {command('model', 'stage')} first")
    return measure_photos(predictor, names, photos, outliers, subject, staged, track)


@dataclass(frozen=True)
class Sets:
    """One split by the kind of its pictures: whole photos, crops of them, pictures as small as those of CIFAR-100.

    A kind that the split lacks is None; `several` is how many photos of several kinds were accepted.
    """

    whole: Measured | None
    crops: Measured | None
    small: Measured | None
    several: Share

    def named(self) -> list[tuple[str, Measured]]:
        """Return those that are present, the most important first."""
        parts = [("whole photos", self.whole), ("crops of them", self.crops), ("small pictures", self.small)]
        return [(name, part) for name, part in parts if part is not None]

    @property
    def main(self) -> Measured:
        """Return the most important one."""
        return self.named()[0][1]


def measure_sets(
    predictor: PhotoPredictor,
    staged: Path,
    split: str,
    subject: str,
    threshold: float,
    track: Track = lambda answers, count: answers,
) -> Sets:
    """Classify all of a split, with its crops and its photos of several kinds. Raises the same errors as `measure`."""
    everything = measure(predictor, staged, split, subject, track)
    names = everything.class_names
    crops = read_split(staged / CROP_FOLDERS[split])
    labelled = [photo for photo in crops if photo.label in names]
    others = [photo for photo in crops if photo.label not in names]
    several = read_split(staged / SEVERAL_FOLDERS[split])
    answers = list(track(predict_all(predictor, several), len(several))) if several else []
    accepted = sum(max(answer.probabilities) >= threshold for answer in answers)
    return Sets(
        whole=_some(everything.chosen(lambda photo: photo.origin.look != SMALL)),
        crops=measure_photos(predictor, names, labelled, others, subject, staged, track) if labelled else None,
        small=_some(everything.chosen(lambda photo: photo.origin.look == SMALL)),
        several=share(accepted, len(several)),
    )


def _some(measured: Measured) -> Measured | None:
    return measured if measured.photos else None


def measure_photos(
    predictor: PhotoPredictor,
    class_names: list[str],
    photos: list[Photo],
    outliers: list[Photo],
    subject: str,
    data: Path,
    track: Track = lambda answers, count: answers,
) -> Measured:
    """Classify at least one photo, and outliers.

    Raises:
        UserError: a photo was not answered, or the classes are not these.
    """
    everything = [*photos, *outliers]
    answers = list(track(predict_all(predictor, everything), len(everything)))
    known = {len(answer.probabilities) for answer in answers}
    if known != {len(class_names)}:
        raise UserError(f"{subject} knows {max(known)} classes, the data set in {data} has {len(class_names)}")
    rows = np.array([answer.probabilities for answer in answers], dtype=float).reshape(-1, len(class_names))
    return Measured(
        subject=subject,
        data=data,
        class_names=class_names,
        photos=photos,
        labels=np.array([class_names.index(photo.label) for photo in photos]),
        probabilities=rows[: len(photos)],
        outliers=outliers,
        outlier_probabilities=rows[len(photos) :],
        answers=answers[: len(photos)],
        outlier_answers=answers[len(photos) :],
    )
