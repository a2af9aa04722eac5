"""Every figure on the page, as stored in metrics.json."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from functions.decisions.classes import NEITHER
from functions.decisions.decision import STATUSES, Decision, SkippedDecision
from loading_bay.stack.labels import ENOUGH_LABELS
from loading_bay.stack.window import Window
from loading_bay.statistics import Share, sampled_share, share

from .baseline import Baseline
from .drift import DriftCheck, Verdict, compare, histogram, overall
from .predictions import Predictions, plain, utc

Times = NDArray[np.datetime64]
Key = TypeVar("Key", str, int)

MOST_TIME_BINS = 60
# With fewer records, the interval of a share is too wide for a line.
RECORDS_A_BIN = 15
# With fewer audits, the report is silent about the errors: none in 30 still allows one in nine.
ENOUGH_AUDITS = 30
# The page lists the groups of drivers with the most audits.
MOST_GROUPS = 40
# Readable steps of a time axis: name, NumPy unit, and approximate length.
_STEPS = (
    ("1m", "m", timedelta(minutes=1)),
    ("5m", "5m", timedelta(minutes=5)),
    ("15m", "15m", timedelta(minutes=15)),
    ("1h", "h", timedelta(hours=1)),
    ("3h", "3h", timedelta(hours=3)),
    ("12h", "12h", timedelta(hours=12)),
    ("1d", "D", timedelta(days=1)),
    ("1w", "W", timedelta(weeks=1)),
    ("1mo", "M", timedelta(days=30)),
    ("3mo", "3M", timedelta(days=91)),
    ("1y", "Y", timedelta(days=365)),
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LATENCY_QUANTILES = (0.5, 0.9, 0.99)


class ClassFigures(msgspec.Struct, frozen=True):
    """How often the model answered a class, and the distribution of its score over equal bins of [0, 1]."""

    name: str
    predicted: Share
    expected: float | None
    histogram: list[int]
    baseline_histogram: list[int] | None


class VariantFigures(msgspec.Struct, frozen=True):
    """One production variant of one endpoint."""

    endpoint: str
    variant: str
    first: datetime
    last: datetime
    median_confidence: float
    below_threshold: Share
    predicted: dict[str, int]


class TimeBin(msgspec.Struct, frozen=True):
    """The predictions in the bin that starts at `start`."""

    start: datetime
    below_threshold: Share


class OutcomeBin(msgspec.Struct, frozen=True):
    """The photos claimed in the bin that starts at `start`, by outcome."""

    start: datetime
    counts: dict[str, int]


class Latency(msgspec.Struct, frozen=True):
    """Seconds from upload to decision; `unusable` counts decided photos with a missing or negative latency."""

    n: int
    quantiles: dict[str, float]
    longest: float
    unusable: int


class AgreementBin(msgspec.Struct, frozen=True):
    """People's decisions in the bin that starts at `start`, and how often they agree with the model's best guess."""

    start: datetime
    agreed: Share


class ModelAgreement(msgspec.Struct, frozen=True):
    """How often people agreed with the model's best guess.

    `by_guess` is by the model's guess, `labels` counts the people's answers, and `missing` counts the labels of each
    class that a retraining still needs; it is empty if there are enough.
    """

    agreed: Share
    by_guess: dict[str, Share]
    step: str
    over_time: list[AgreementBin]
    labels: dict[str, int]
    missing: dict[str, int]


class ErrorBin(msgspec.Struct, frozen=True):
    """The share of wrong answers among the accepted photos in the bin that starts at `start`."""

    start: datetime
    wrong: Share


class GroupErrors(msgspec.Struct, frozen=True):
    """The share of wrong answers among the accepted photos of a group of drivers, and the share that was accepted."""

    is_enough: bool
    wrong: Share
    coverage: Share


class AuditFigures(msgspec.Struct, frozen=True):
    """How often the model was wrong among the photos that it accepted, estimated from those that people audited.

    `since` is when the present share of photos began to be audited; earlier photos are left out. `accepted` counts the
    photos that the estimate is about, and `waiting` those that were chosen and not audited yet. `is_enough` tells
    whether there are enough audits to judge by. `by_class` is by the model's answer, `by_group` by the part of the
    driver's name that the question asked for, where there are audits; "" stands for all other drivers. `claims` are
    those of the photos on which people disagreed.
    """

    since: datetime
    accepted: int
    waiting: int
    is_enough: bool
    wrong: Share
    coverage: Share
    by_class: dict[str, Share]
    by_group: dict[str, GroupErrors]
    step: str
    over_time: list[ErrorBin]
    claims: list[str]


class DecisionFigures(msgspec.Struct, frozen=True):
    """The outcomes of the photos claimed in the window.

    `review_rate` is the share of classified photos that needed review, whether or not they have been decided since.
    """

    photos: int
    counts: dict[str, int]
    review_rate: Share | None
    agreement: ModelAgreement | None
    audit: AuditFigures | None
    oldest_in_review: datetime | None
    step: str
    over_time: list[OutcomeBin]
    latency: Latency | None
    skipped: list[SkippedDecision]


class FileFigures(msgspec.Struct, frozen=True):
    """The number of files read, and of files skipped, by reason."""

    read: int
    skipped: dict[str, int]


class Figures(msgspec.Struct, frozen=True):
    """The content of metrics.json. Times are in UTC, shares between 0 and 1."""

    source: str
    since: datetime | None
    until: datetime | None
    class_names: list[str]
    threshold: float
    files: FileFigures
    records: int
    ids: int
    predictions: int
    skipped: dict[str, int]
    retimed: int
    first: datetime | None
    last: datetime | None
    confidence: dict[str, float]
    below_threshold: Share | None
    classes: list[ClassFigures]
    variants: list[VariantFigures]
    step: str
    over_time: list[TimeBin]
    verdict: Verdict
    checks: list[DriftCheck]
    baseline: str | None
    baseline_below_threshold: float | None
    decisions: DecisionFigures | None


@dataclass(frozen=True)
class Question:
    """The question that a report answers: the window, classes and threshold, and the baseline to compare with.

    `expected_shares` are the expected class shares among the photos, by default those of the baseline. `group_by` finds
    the part of a driver's name that names the driver's group: its first pair of parentheses, else all of it.
    """

    window: Window
    class_names: tuple[str, ...]
    threshold: float
    baseline: Baseline | None = None
    baseline_name: str | None = None
    expected_shares: Sequence[float] | None = None
    group_by: re.Pattern[str] | None = None


def measure(
    predictions: Predictions,
    question: Question,
    source: str,
    decisions: tuple[list[Decision], list[SkippedDecision]] | None,
) -> Figures:
    """Compute all figures; `source` names where the predictions came from."""
    table, names, threshold, baseline = (
        predictions.table,
        predictions.class_names,
        question.threshold,
        question.baseline,
    )
    scores, times, confidences = table["scores"], table["time"], table["confidence"]
    expected_shares = question.expected_shares
    if expected_shares is None and baseline is not None:
        expected_shares = [baseline.class_balance[name] for name in names]
    checks = compare(scores, names, threshold, baseline, expected_shares)
    before = np.array(baseline.scores) if baseline is not None else None
    chosen = np.bincount(table["vehicle"], minlength=len(names))
    step = _step(times)
    starts, bins = _bins(times, step)
    return Figures(
        source=source,
        since=question.window.since,
        until=question.window.until,
        class_names=list(names),
        threshold=threshold,
        files=FileFigures(len(predictions.files), predictions.skipped_files()),
        records=predictions.records,
        ids=predictions.ids,
        predictions=len(table),
        skipped=predictions.skipped_records(),
        retimed=int(table["retimed"].sum()),
        first=utc(times[0]) if len(table) else None,
        last=utc(times[-1]) if len(table) else None,
        confidence=_quantiles(confidences, QUANTILES) if len(table) else {},
        below_threshold=_share(confidences < threshold) if len(table) else None,
        classes=[
            ClassFigures(
                name=name,
                predicted=share(int(chosen[k]), len(table)),
                expected=expected_shares[k] if expected_shares is not None else None,
                histogram=histogram(scores[:, k]).tolist(),
                baseline_histogram=histogram(before[:, k]).tolist() if before is not None else None,
            )
            for k, name in enumerate(names)
        ]
        if len(table)
        else [],
        variants=_variants(predictions, threshold),
        step=step,
        over_time=[TimeBin(utc(start), _share(confidences[bins == k] < threshold)) for k, start in enumerate(starts)],
        verdict=overall(checks),
        checks=checks,
        baseline=question.baseline_name,
        baseline_below_threshold=float((before.max(axis=1) < threshold).mean()) if before is not None else None,
        decisions=_decisions(*decisions, names, question.group_by) if decisions is not None else None,
    )


def _variants(predictions: Predictions, threshold: float) -> list[VariantFigures]:
    places = [(each.endpoint, each.variant) for each in predictions.files]
    known = sorted(set(places))
    variants = np.array([known.index(place) for place in places], dtype=int)[predictions.table["file"]]
    return [
        VariantFigures(
            endpoint=endpoint,
            variant=variant,
            first=utc(rows["time"][0]),
            last=utc(rows["time"][-1]),
            median_confidence=float(np.median(rows["confidence"])),
            below_threshold=_share(rows["confidence"] < threshold),
            predicted={name: int((rows["vehicle"] == k).sum()) for k, name in enumerate(predictions.class_names)},
        )
        for number, (endpoint, variant) in enumerate(known)
        if len(rows := predictions.table[variants == number])
    ]


def _decisions(
    found: list[Decision],
    skipped: list[SkippedDecision],
    class_names: Sequence[str],
    group_by: re.Pattern[str] | None,
) -> DecisionFigures:
    counts = Counter(each.status for each in found)
    decided = [each for each in found if each.status != "CLAIMED"]
    classified = [each for each in found if each.status in {"ROUTED", "REVIEW"} or each.reviewed_by is not None]
    seconds = [each.latency for each in decided if each.latency is not None and each.latency >= 0]
    step = _step(_times(each.claimed_at for each in found))
    return DecisionFigures(
        photos=len(found),
        counts={status: counts[status] for status in STATUSES},
        review_rate=share(sum(each.went_to_a_person for each in classified), len(classified)) if classified else None,
        agreement=_agreement(found, class_names),
        audit=measure_audit(classified, group_by),
        oldest_in_review=min((each.claimed_at for each in found if each.status == "REVIEW"), default=None),
        step=step,
        over_time=_outcomes(found, step),
        latency=Latency(
            n=len(seconds),
            quantiles=_quantiles(np.array(seconds), LATENCY_QUANTILES),
            longest=max(seconds),
            unusable=len(decided) - len(seconds),
        )
        if seconds
        else None,
        skipped=skipped,
    )


def _agreement(found: list[Decision], class_names: Sequence[str]) -> ModelAgreement | None:
    rows = sorted(
        (
            each.reviewed_at or each.claimed_at,
            max(each.probabilities, key=each.probabilities.__getitem__),
            each.vehicle or NEITHER,
        )
        for each in found
        if each.reviewed_by is not None and each.audit_share is None and each.probabilities
    )
    if not rows:
        return None
    moments = _times(moment for moment, _, _ in rows)
    guesses = np.array([guess for _, guess, _ in rows])
    agreed = np.array([guess == label for _, guess, label in rows])
    step = _step(moments)
    starts, bins = _bins(moments, step)
    labels = Counter(label for _, _, label in rows)
    return ModelAgreement(
        agreed=_share(agreed),
        by_guess={guess: _share(agreed[guesses == guess]) for guess in np.unique(guesses).tolist()},
        step=step,
        over_time=[AgreementBin(utc(start), _share(agreed[bins == k])) for k, start in enumerate(starts)],
        labels=dict(labels),
        missing={name: ENOUGH_LABELS - labels[name] for name in class_names if labels[name] < ENOUGH_LABELS},
    )


def measure_audit(classified: Sequence[Decision], group_by: re.Pattern[str] | None = None) -> AuditFigures | None:
    """Return how often the model was wrong, from classified photos in order of their claims; None without audits."""
    chosen = [each for each in classified if each.audit_share is not None]
    if not chosen:
        return None
    # Of photos chosen at different shares, some would count more than others; so only the present share counts.
    earlier = [each.claimed_at for each in chosen if each.audit_share != chosen[-1].audit_share]
    chosen = [each for each in chosen if not earlier or each.claimed_at > earlier[-1]]
    since = chosen[0].claimed_at
    recent = [each for each in classified if each.claimed_at >= since]
    accepted = [each for each in recent if not each.went_to_a_person]
    audited = [each for each in chosen if each.reviewed_by is not None]

    step = _step(_times(each.claimed_at for each in audited))
    starts, bins = _bins(_times(each.claimed_at for each in accepted), step)
    bin_of = dict(zip((each.photo for each in accepted), bins.tolist(), strict=True))
    wrong = _wrong(audited, accepted, lambda _: "")
    return AuditFigures(
        since=since,
        accepted=len(accepted),
        waiting=len(chosen) - len(audited),
        is_enough=len(audited) >= ENOUGH_AUDITS,
        wrong=wrong.get("", sampled_share(0, 0, len(accepted))),
        coverage=share(len(accepted), len(recent)),
        by_class=_wrong(audited, accepted, lambda each: each.guess),
        by_group=_by_group(audited, accepted, recent, group_by) if group_by else {},
        step=step,
        over_time=[
            ErrorBin(utc(starts[k]), each)
            for k, each in _wrong(audited, accepted, lambda decision: bin_of[decision.photo]).items()
        ],
        claims=[each.claim for each in audited if each.is_wrong and each.claim],
    )


def _by_group(
    audited: Sequence[Decision], accepted: Sequence[Decision], recent: Sequence[Decision], group_by: re.Pattern[str]
) -> dict[str, GroupErrors]:
    def group(decision: Decision) -> str:
        found = group_by.search(decision.driver or "")
        return found[min(group_by.groups, 1)] or "" if found else ""

    sure, photos = Counter(map(group, accepted)), Counter(map(group, recent))
    errors = _wrong(audited, accepted, group)
    most = sorted(errors, key=lambda name: errors[name].of, reverse=True)[:MOST_GROUPS]
    return {
        name: GroupErrors(errors[name].of >= ENOUGH_AUDITS, errors[name], share(sure[name], photos[name]))
        for name in sorted(most)
    }


def _wrong(
    audited: Sequence[Decision], accepted: Sequence[Decision], key: Callable[[Decision], Key]
) -> dict[Key, Share]:
    """Return the share of wrong answers by key, from the audited ones among the accepted photos."""
    population, sample = Counter(map(key, accepted)), Counter(map(key, audited))
    wrong = Counter(key(each) for each in audited if each.is_wrong)
    return {each: sampled_share(wrong[each], sample[each], population[each]) for each in sorted(sample)}


def _outcomes(found: list[Decision], step: str) -> list[OutcomeBin]:
    starts, bins = _bins(_times(each.claimed_at for each in found), step)
    statuses = np.array([STATUSES.index(each.status) for each in found], dtype=int)
    counts = [np.bincount(statuses[bins == k], minlength=len(STATUSES)).tolist() for k in range(len(starts))]
    return [
        OutcomeBin(utc(start), dict(zip(STATUSES, each, strict=True)))
        for start, each in zip(starts, counts, strict=True)
    ]


def _times(moments: Iterable[datetime]) -> Times:
    return np.array([plain(moment) for moment in moments], dtype="M8[us]")


def _step(times: Times) -> str:
    """Return the name of the shortest time step whose bins are few and full enough."""
    if len(times) == 0:
        return _STEPS[0][0]
    bins = min(max(len(times) // RECORDS_A_BIN, 4), MOST_TIME_BINS)
    span: timedelta = (times[-1] - times[0]).item()
    return next((name for name, _, length in _STEPS if span / length <= bins), _STEPS[-1][0])


def _bins(times: Times, step: str) -> tuple[Times, NDArray[np.intp]]:
    """Return the starts of the non-empty bins, and the bin of each time."""
    unit = next(unit for name, unit, _ in _STEPS if name == step)
    # NumPy counts weeks from Thursday, 1 January 1970; the report's weeks begin on Monday.
    monday = np.timedelta64(4 if unit == "W" else 0, "D")
    begun: Times = np.add((times - monday).astype(f"M8[{unit}]"), monday)
    starts, bins = np.unique(begun, return_inverse=True)
    return starts, bins


def _share(those: NDArray[np.bool_]) -> Share:
    return share(int(those.sum()), len(those))


def _quantiles(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], levels: Sequence[float]) -> dict[str, float]:
    found = np.quantile(values, levels)
    return {f"p{round(100 * level):02}": float(value) for level, value in zip(levels, found, strict=True)}
