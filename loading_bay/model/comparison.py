"""Is a new model better than an old one? The same photos through both, figure by figure, with paired tests."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loading_bay.statistics import binomial_test, holm

from .evaluation import CALIBRATION_BINS, Metric, Metrics, bin_numbers, log_losses, main_figures
from .measurement import Measured

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference shown"]

SIGNIFICANCE = 0.05
SWAPS = 2_000


@dataclass(frozen=True)
class Compared:
    """One figure of both models, and whether the new one's is better.

    `p` is that of the paired test named by `test`: McNemar's for shares of the same photos, else one that swaps the
    two models' answers photo by photo. `corrected` is the same, corrected for the number of figures (Holm).
    """

    old: Metric
    new: Metric
    test: str
    p: float
    corrected: float

    @property
    def verdict(self) -> Verdict:
        """Whether the new model is worse by its own p-value, or better by the p-value corrected for all figures."""
        gain = (self.new.value - self.old.value) * (1 if self.new.more_is_better else -1)
        if gain < 0 and self.p < SIGNIFICANCE:
            return "worse"
        return "better" if gain > 0 and self.corrected < SIGNIFICANCE else "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """Two models on one set of photos and outliers; index arrays name those on which the models differ."""

    photos: str
    old: Measured
    new: Measured
    old_metrics: Metrics
    new_metrics: Metrics
    figures: list[Compared]
    fixed: NDArray[np.intp]
    broken: NDArray[np.intp]
    outliers_refused: NDArray[np.intp]
    outliers_accepted: NDArray[np.intp]

    def content(self) -> dict[str, object]:
        """Return the content of its file: figures, verdicts, and the names of the photos on which the models differ."""
        photos, outliers = ([each.name for each in found] for found in (self.new.photos, self.new.outliers))
        return {
            "old": {"subject": self.old.subject, **asdict(self.old_metrics)},
            "new": {"subject": self.new.subject, **asdict(self.new_metrics)},
            "photos": self.photos,
            "figures": [
                {"key": each.new.key, "old": each.old.value, "new": each.new.value, "test": each.test, "p": each.p}
                | {"p_corrected": each.corrected, "verdict": each.verdict}
                for each in self.figures
            ],
            "fixed": [photos[k] for k in self.fixed],
            "broken": [photos[k] for k in self.broken],
            "outliers_refused": [outliers[k] for k in self.outliers_refused],
            "outliers_accepted": [outliers[k] for k in self.outliers_accepted],
        }


@dataclass(frozen=True)
class _Answers:
    """One model's answers: which are right, and which are accepted, by photo and by outlier."""

    right: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    outliers_accepted: NDArray[np.bool_]

    @classmethod
    def of(cls, measured: Measured, threshold: float) -> "_Answers":
        return cls(
            right=measured.probabilities.argmax(axis=1) == measured.labels,
            accepted=measured.probabilities.max(axis=1) >= threshold,
            outliers_accepted=measured.outlier_probabilities.max(axis=1, initial=0) >= threshold,
        )


def compare(pairs: Mapping[str, tuple[Measured, Measured]], threshold: float) -> list[Comparison]:
    """Compare an old and a new model on one set of photos or several; both accept at the same threshold.

    `pairs` holds the answers of the old and the new model, by the name of the set. The p-values are corrected for the
    number of figures in all sets together.
    """
    tested = {photos: _tested(old, new, threshold) for photos, (old, new) in pairs.items()}
    corrected = iter(holm([p for figures in tested.values() for *_, p in figures]))
    return [
        _compared(photos, *pairs[photos], threshold, [Compared(*figure, next(corrected)) for figure in figures])
        for photos, figures in tested.items()
    ]


def verdict(comparisons: Sequence[Comparison]) -> Verdict:
    """Return worse if any figure of any set is worse, else better if any is better."""
    found = {figure.verdict for comparison in comparisons for figure in comparison.figures}
    return "worse" if "worse" in found else "better" if "better" in found else "no difference shown"


def _tested(old: Measured, new: Measured, threshold: float) -> list[tuple[Metric, Metric, str, float]]:
    """Return each figure of both models, the name of its test and the test's p-value."""
    before, after = _Answers.of(old, threshold), _Answers.of(new, threshold)
    tests = {
        "accuracy": ("McNemar", _mcnemar(before.right, after.right)),
        "coverage": ("McNemar", _mcnemar(before.accepted, after.accepted)),
        "selective_accuracy": ("swaps", _swaps(_accepted_and_right(before), _accepted_and_right(after), _ratio)),
        "outliers_accepted": ("McNemar", _mcnemar(before.outliers_accepted, after.outliers_accepted)),
        "calibration_error": ("swaps", _swaps(_gaps(old), _gaps(new), _absolute_sum)),
        "log_loss": ("swaps", _swaps(_losses(old), _losses(new), _absolute_sum)),
    }
    pairs = zip(main_figures(old.metrics(threshold)), main_figures(new.metrics(threshold)), strict=True)
    return [(*pair, *tests[pair[0].key]) for pair in pairs if not any(math.isnan(figure.value) for figure in pair)]


def _compared(photos: str, old: Measured, new: Measured, threshold: float, figures: list[Compared]) -> Comparison:
    before, after = _Answers.of(old, threshold), _Answers.of(new, threshold)
    return Comparison(
        photos=photos,
        old=old,
        new=new,
        old_metrics=old.metrics(threshold),
        new_metrics=new.metrics(threshold),
        figures=figures,
        fixed=np.flatnonzero(~before.right & after.right),
        broken=np.flatnonzero(before.right & ~after.right),
        outliers_refused=np.flatnonzero(before.outliers_accepted & ~after.outliers_accepted),
        outliers_accepted=np.flatnonzero(~before.outliers_accepted & after.outliers_accepted),
    )


def _mcnemar(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> float:
    """Return the exact p-value of McNemar's test, by the photos on which the two differ.

    Source: Q. McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947.
    """
    gained, lost = int((~old & new).sum()), int((old & ~new).sum())
    return binomial_test(gained, gained + lost, 0.5)


def _swaps(old: Floats, new: Floats, value: Callable[[Floats], Floats]) -> float:
    """Return how often swapping the models' answers, photo by photo, makes a difference as large as the one seen.

    `old` and `new` hold each photo's contribution, [N, k]; `value` turns sums of these, [..., k], into the figure.
    """
    swapped = np.random.default_rng(0).random((SWAPS, len(old))) < 0.5
    moved = swapped.astype(float) @ (new - old)
    seen = abs(value(new.sum(axis=0)) - value(old.sum(axis=0)))
    found = abs(value(new.sum(axis=0) - moved) - value(old.sum(axis=0) + moved))
    return float((1 + (found >= seen - 1e-9).sum()) / (1 + SWAPS))


def _accepted_and_right(answers: _Answers) -> Floats:
    return np.stack([answers.accepted & answers.right, answers.accepted], axis=1).astype(float)


def _ratio(sums: Floats) -> Floats:
    result: Floats = sums[..., 0] / np.maximum(sums[..., 1], 1)
    return result


def _absolute_sum(sums: Floats) -> Floats:
    result: Floats = abs(sums).sum(axis=-1)
    return result


def _gaps(measured: Measured) -> Floats:
    """Return confidence minus correctness of each photo, in the column of its reliability bin."""
    confidence = measured.probabilities.max(axis=1)
    gaps = np.zeros((len(confidence), CALIBRATION_BINS))
    right = measured.probabilities.argmax(axis=1) == measured.labels
    gaps[np.arange(len(confidence)), bin_numbers(confidence)] = confidence - right
    return gaps


def _losses(measured: Measured) -> Floats:
    return log_losses(measured.probabilities, measured.labels)[:, None]
