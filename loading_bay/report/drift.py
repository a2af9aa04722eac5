"""Tests whether the model's answers have changed since validation: four questions, each with a plain verdict."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from loading_bay.statistics import NORMAL, binomial_test, chi_squared, exceeding, fisher_test, holm, kolmogorov

from .baseline import Baseline

Measure = Literal["spread", "score", "share"]
Verdict = Literal["fine", "look", "too few records to say"]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

SIGNIFICANCE = 0.05  # probability that a report without any change says "look" anywhere
POWER = 0.8  # probability of noticing a significant change; below this, nothing is called fine
# The approximate power of a test is too high for small samples: below this size, nothing is called fine.
FEWEST_RECORDS = 100

# Significant changes. By convention, a population stability index above 0.25 calls for action (N. Siddiqi, Credit
# Risk Scorecards, 2006). This project chose the others: a fifth of all scores moves across some value; the share of a
# class or of reviews changes by one photo in eight.
PSI_THRESHOLD = 0.25
KS_THRESHOLD = 0.2
SHARE_THRESHOLD = 0.125

BINS = 20
# Baselines keep this many decimals. Unrounded captures such as 0.9999971 would all rank below a baseline's 1.0, so
# every comparison of ranks would see a change.
DECIMALS = 5
_SHUFFLES = 9_999
_MOST_RECORDS = 100_000_000


class DriftCheck(msgspec.Struct, frozen=True):
    """A test of `n` predictions against `n_baseline` (None if the expected value is a fixed number).

    `observed` and `expected` are shares or mean scores, by `measure`, and None for a whole distribution. `p` is
    corrected for the number of tests (Holm). `power` is the probability of noticing a change of `threshold` with this
    many records. `needed` is the number of records for a power of POWER, or None if the baseline is too small for it.
    """

    name: str
    question: str
    n: int
    n_baseline: int | None
    measure: Measure
    observed: float | None
    expected: float | None
    statistic: float
    threshold: float
    p: float
    power: float
    needed: int | None
    verdict: Verdict


class _Test(msgspec.Struct, frozen=True):
    name: str
    question: str
    n_baseline: int | None
    measure: Measure
    observed: float | None
    expected: float | None
    statistic: float
    threshold: float
    p: float
    power: Callable[[float, int], float]  # of (significance level, n)


def compare(
    scores: Floats,
    class_names: Sequence[str],
    review_threshold: float,
    baseline: Baseline | None,
    expected_shares: Sequence[float] | None,
) -> list[DriftCheck]:
    """Test `scores` (predictions × classes) against the baseline's, and the classes against their shares.

    With two classes only the first is tested, because the second is its complement. Without a baseline, only the class
    balance is tested, and only if expected shares are given.
    """
    n = len(scores)
    if n == 0:
        return []
    scores = scores.round(DECIMALS)
    tested = range(len(class_names) if len(class_names) > 2 else 1)
    tests = []
    if baseline is not None:
        before = np.asarray(baseline.scores).round(DECIMALS)
        for k in tested:
            tests.append(_stability_test(class_names[k], scores[:, k], before[:, k]))
            tests.append(_kolmogorov_smirnov_test(class_names[k], scores[:, k], before[:, k]))
    if expected_shares is not None:
        chosen = scores.argmax(axis=1)
        tests += [_balance_test(class_names[k], int((chosen == k).sum()), n, expected_shares[k]) for k in tested]
    if baseline is not None:
        tests.append(_review_test(scores.max(axis=1), before.max(axis=1), review_threshold))
    return _judged(tests, n) if tests else []


def overall(checks: Sequence[DriftCheck]) -> Verdict:
    """Return the gravest verdict of the checks."""
    found = {check.verdict for check in checks}
    if "look" in found:
        return "look"
    return "fine" if found == {"fine"} else "too few records to say"


def histogram(scores: Floats) -> Integers:
    """Count scores in BINS equal bins of [0, 1]; 1 belongs to the last."""
    return np.histogram(scores, bins=BINS, range=(0, 1))[0]


def stability_index(now: Integers, before: Integers) -> Floats:
    """Return the population stability index of histograms (… × bins), Σ (pᵢ − qᵢ) ln(pᵢ / qᵢ), shape (…).

    Half a record is added to each bin, so an empty bin does not make the index infinite.
    """
    p, q = ((counts + 0.5) / (counts.sum(axis=-1, keepdims=True) + 0.5 * counts.shape[-1]) for counts in (now, before))
    index: Floats = np.sum((p - q) * np.log(p / q), axis=-1)
    return index


def _judged(tests: Sequence[_Test], n: int) -> list[DriftCheck]:
    corrected = holm([test.p for test in tests])
    level = SIGNIFICANCE / len(tests)  # the strictest level in Holm's method
    return [
        DriftCheck(
            name=test.name,
            question=test.question,
            n=n,
            n_baseline=test.n_baseline,
            measure=test.measure,
            observed=test.observed,
            expected=test.expected,
            statistic=test.statistic,
            threshold=test.threshold,
            p=p,
            power=test.power(level, n),
            needed=_needed(test, level),
            verdict=_verdict(test, p, test.power(level, n), n),
        )
        for test, p in zip(tests, corrected, strict=True)
    ]


def _verdict(test: _Test, p: float, power: float, n: int) -> Verdict:
    if p < SIGNIFICANCE and test.statistic >= test.threshold:
        return "look"
    return "fine" if power >= POWER and n >= FEWEST_RECORDS else "too few records to say"


def _needed(test: _Test, level: float) -> int | None:
    if test.power(level, _MOST_RECORDS) < POWER:
        return None
    few, enough = FEWEST_RECORDS, _MOST_RECORDS
    while few < enough:
        middle = (few + enough) // 2
        if test.power(level, middle) >= POWER:
            enough = middle
        else:
            few = middle + 1
    return enough


def _stability_test(name: str, now: Floats, before: Floats) -> _Test:
    counts, counts_before = histogram(now), histogram(before)
    observed = float(stability_index(counts, counts_before))
    pooled = counts + counts_before
    # If nothing changed, records are new or old by chance: shuffle them and count how often the index is as high. This
    # is exact for any number of records, unlike the usual chi-squared rule.
    dealt = np.random.default_rng(0).multivariate_hypergeometric(pooled, len(before), size=_SHUFFLES)
    higher = int((stability_index(pooled - dealt, dealt) >= observed - 1e-12).sum())
    freedom = max(int((pooled > 0).sum()) - 1, 1)

    def power(level: float, n: int) -> float:
        # B. Yurdakul, Statistical Properties of Population Stability Index, 2018: the index over
        # (1/n + 1/m) is chi-squared, non-central where there is a change.
        unit = 1 / n + 1 / len(before)
        return exceeding(chi_squared(level, freedom), freedom, PSI_THRESHOLD / unit)

    return _Test(
        name=f"stability index, score for {name}",
        question=f"Is the distribution of scores for {name} unchanged?",
        n_baseline=len(before),
        measure="spread",
        observed=None,
        expected=None,
        statistic=observed,
        threshold=PSI_THRESHOLD,
        p=(1 + higher) / (1 + _SHUFFLES),
        power=power,
    )


def _kolmogorov_smirnov_test(name: str, now: Floats, before: Floats) -> _Test:
    values = np.concatenate([now, before])
    below, below_before = (np.searchsorted(np.sort(each), values, side="right") / len(each) for each in (now, before))
    distance = float(abs(below - below_before).max())

    def power(level: float, n: int) -> float:
        # F. J. Massey, A Note on the Power of a Non-Parametric Test, 1950: a lower bound.
        spread = math.sqrt(1 / n + 1 / len(before))
        critical = math.sqrt(-math.log(level / 2) / 2) * spread
        return NORMAL.cdf((KS_THRESHOLD - critical) / (spread / 2))

    return _Test(
        name=f"Kolmogorov–Smirnov, score for {name}",
        question=f"Are the scores for {name} as high as before?",
        n_baseline=len(before),
        measure="score",
        observed=float(np.mean(now)),
        expected=float(np.mean(before)),
        statistic=distance,
        threshold=KS_THRESHOLD,
        p=kolmogorov(distance, len(now), len(before)),
        power=power,
    )


def _balance_test(name: str, count: int, n: int, expected: float) -> _Test:
    def power(level: float, n: int) -> float:
        return _share_power(level, expected, 1 / n, 0)

    return _Test(
        name=f"class balance, {name}",
        question=f"Is the share of {name} the expected one?",
        n_baseline=None,
        measure="share",
        observed=count / n,
        expected=expected,
        statistic=abs(count / n - expected),
        threshold=SHARE_THRESHOLD,
        p=binomial_test(count, n, expected),
        power=power,
    )


def _review_test(now: Floats, before: Floats, threshold: float) -> _Test:
    n, m = len(now), len(before)
    below, below_before = int((now < threshold).sum()), int((before < threshold).sum())
    expected = below_before / m

    def power(level: float, n: int) -> float:
        return _share_power(level, expected, 1 / n, 1 / m)

    return _Test(
        name="review rate",
        question="Do as many photos go to a person as before?",
        n_baseline=m,
        measure="share",
        observed=below / n,
        expected=expected,
        statistic=abs(below / n - expected),
        threshold=SHARE_THRESHOLD,
        p=fisher_test(below, n, below_before, m),
        power=power,
    )


def _share_power(level: float, expected: float, one_over_n: float, one_over_m: float) -> float:
    """Probability of noticing a share that moved by SHARE_THRESHOLD from `expected` towards 0.5, the noisier side."""
    changed = expected + math.copysign(SHARE_THRESHOLD, 0.5 - expected)
    if one_over_m:
        pooled = (changed / one_over_n + expected / one_over_m) / (1 / one_over_n + 1 / one_over_m)
        assumed = pooled * (1 - pooled) * (one_over_n + one_over_m)
    else:
        assumed = expected * (1 - expected) * one_over_n
    actual = changed * (1 - changed) * one_over_n + expected * (1 - expected) * one_over_m
    critical = -NORMAL.inv_cdf(level / 2) * math.sqrt(assumed)
    return NORMAL.cdf((SHARE_THRESHOLD - critical) / math.sqrt(actual))
