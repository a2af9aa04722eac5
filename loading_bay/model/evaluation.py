"""A model's figures of merit, computed from its probabilities on labelled photos and on outliers."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loading_bay.stack.text import percent
from loading_bay.statistics import Share, share

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class ClassMetrics:
    """One class: precision and recall, each in [0, 1], NaN where there is nothing to divide by."""

    name: str
    photos: int
    precision: float
    recall: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The photos in one range of confidence: how sure the model was, and how often it was right."""

    low: float
    high: float
    photos: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class RiskPoint:
    """One point of the risk–coverage curve: photos that score the threshold or more are accepted."""

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True)
class Recommendation:
    """The lowest threshold whose accepted photos were right as often as wanted, and the shares that it accepts."""

    wanted_accuracy: float
    threshold: float
    coverage: float
    accuracy: float
    outliers_accepted: float


@dataclass(frozen=True)
class Metrics:
    """All reported figures of a model; shares are 0 … 1."""

    class_names: list[str]
    photos: int
    outliers: int
    threshold: float
    accuracy: Share
    coverage: Share
    selective_accuracy: Share
    outliers_accepted: Share
    calibration_error: float
    log_loss: float
    per_class: list[ClassMetrics]
    confusion: list[list[int]]
    reliability: list[ReliabilityBin]
    risk_coverage: list[RiskPoint]


@dataclass(frozen=True)
class Metric:
    """One of the figures that models are compared by: `key` names it in files, `note` is its interval or unit."""

    key: str
    name: str
    value: float
    text: str
    note: str
    more_is_better: bool


def evaluate(
    probabilities: Probabilities,
    labels: Labels,
    outliers: Probabilities,
    class_names: list[str],
    threshold: float,
) -> Metrics:
    """Measure a model.

    Args:
        probabilities: of labelled photos, [N, classes], N ≥ 1.
        labels: their true class numbers, [N].
        outliers: probabilities of images of other things, [M, classes]; M may be 0.
        class_names: one per column.
        threshold: at which a photo is accepted, 0 … 1.
    """
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    correct = predicted == labels
    confusion = np.zeros((len(class_names), len(class_names)), dtype=int)
    np.add.at(confusion, (labels, predicted), 1)
    reliability = reliability_bins(confidence, correct)
    return Metrics(
        class_names=class_names,
        photos=len(labels),
        outliers=len(outliers),
        threshold=threshold,
        calibration_error=calibration_error(reliability),
        log_loss=float(log_losses(probabilities, labels).mean()),
        per_class=[
            ClassMetrics(
                name,
                int(confusion[number].sum()),
                _ratio(confusion[number, number], confusion[:, number].sum()),
                _ratio(confusion[number, number], confusion[number].sum()),
            )
            for number, name in enumerate(class_names)
        ],
        confusion=confusion.tolist(),
        reliability=reliability,
        risk_coverage=risk_coverage(confidence, correct),
        **main_shares(probabilities, labels, outliers, threshold),
    )


def main_shares(
    probabilities: Probabilities, labels: Labels, outliers: Probabilities, threshold: float
) -> dict[str, Share]:
    """Return accuracy, coverage, selective accuracy and accepted outliers by name; takes the arrays of `evaluate`."""
    correct = probabilities.argmax(axis=1) == labels
    accepted = probabilities.max(axis=1) >= threshold
    return {
        "accuracy": share(int(correct.sum()), len(labels)),
        "coverage": share(int(accepted.sum()), len(labels)),
        "selective_accuracy": share(int((correct & accepted).sum()), int(accepted.sum())),
        "outliers_accepted": share(int((outliers.max(axis=1) >= threshold).sum()), len(outliers)),
    }


def log_losses(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return the log loss of each photo, in nats."""
    truth = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(truth, 1e-12, 1))


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan


def reliability_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[ReliabilityBin]:
    """Sort photos into ten equal ranges of confidence over 0 … 1; empty ranges are left out."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    number = bin_numbers(confidence)
    bins = []
    for index in np.unique(number):
        inside = number == index
        bins.append(
            ReliabilityBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                photos=int(inside.sum()),
                confidence=float(confidence[inside].mean()),
                accuracy=float(correct[inside].mean()),
            )
        )
    return bins


def bin_numbers(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the reliability bin of each photo, 0 … CALIBRATION_BINS − 1."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    return np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, CALIBRATION_BINS - 1)


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the expected calibration error (Guo et al., 2017): the mean gap of confidence and accuracy, by photos."""
    total = sum(part.photos for part in bins)
    return sum(part.photos * abs(part.confidence - part.accuracy) for part in bins) / total


def risk_coverage(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[RiskPoint]:
    """Trace the accepted share (coverage) and the share of errors in it (risk) as the threshold falls.

    Source: R. El-Yaniv and Y. Wiener, On the Foundations of Noise-free Selective Classification, 2010.
    """
    order = np.argsort(-confidence, kind="stable")
    levels, wrong = confidence[order], np.cumsum(~correct[order])
    # Photos of equal confidence are accepted together: only the last of each run is a point.
    last = np.append(np.flatnonzero(np.diff(levels)), len(levels) - 1)
    return [
        RiskPoint(float(levels[index]), float((index + 1) / len(levels)), float(wrong[index] / (index + 1)))
        for index in last
    ]


def recommend(
    probabilities: Probabilities, labels: Labels, outliers: Probabilities, wanted_accuracy: float
) -> Recommendation | None:
    """Find the lowest threshold whose accepted photos are right often enough; None if no threshold is.

    Takes the arrays of `evaluate`, for photos on which the final figures are not measured.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    good = [point for point in risk_coverage(confidence, correct) if 1 - point.risk >= wanted_accuracy]
    if not good:
        return None
    widest = max(good, key=lambda point: point.coverage)
    accepted = int((outliers.max(axis=1) >= widest.threshold).sum()) if len(outliers) else 0
    return Recommendation(
        wanted_accuracy=wanted_accuracy,
        threshold=widest.threshold,
        coverage=widest.coverage,
        accuracy=1 - widest.risk,
        outliers_accepted=share(accepted, len(outliers)).value,
    )


def main_figures(metrics: Metrics) -> list[Metric]:
    """Return the figures that models are compared by."""
    threshold = f"{metrics.threshold:g}"
    return [
        _of_share("accuracy", "Accuracy", metrics.accuracy),
        _of_share("coverage", f"Coverage at {threshold}", metrics.coverage),
        _of_share("selective_accuracy", "Accuracy of the accepted", metrics.selective_accuracy),
        _of_share("outliers_accepted", "Outliers accepted", metrics.outliers_accepted, more_is_better=False),
        Metric(
            "calibration_error",
            "Expected calibration error",
            metrics.calibration_error,
            f"{metrics.calibration_error:.3f}",
            f"{CALIBRATION_BINS} bins",
            more_is_better=False,
        ),
        Metric(
            "log_loss", "Log loss", metrics.log_loss, f"{metrics.log_loss:.3f}", "nats a photo", more_is_better=False
        ),
    ]


def _of_share(key: str, name: str, share: Share, *, more_is_better: bool = True) -> Metric:
    note = f"{percent(share.low)} to {percent(share.high)}, {share.count} of {share.of}" if share.of else "nothing"
    return Metric(key, name, share.value, percent(share.value), note, more_is_better)
