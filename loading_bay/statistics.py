"""Statistics for every report: shares with intervals, exact tests, p-values corrected for multiple tests.

SciPy would add a hundred megabytes for these few lines; the tests compare them with it.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

NORMAL = NormalDist()
TAIL = 0.025  # on each side of a 95 % interval
# Counts outcomes as equally likely despite rounding, as R and SciPy do.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Share:
    """The share `count` / `of` in [0, 1], with its 95 % interval (Wilson); all NaN if `of` is 0."""

    value: float
    low: float
    high: float
    count: int
    of: int


def share(count: int, of: int) -> Share:
    """Return `count` of `of` with its 95 % interval.

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    if of == 0:
        return Share(math.nan, math.nan, math.nan, count, of)
    z = NORMAL.inv_cdf(0.975)
    centre = (count + z * z / 2) / (of + z * z)
    reach = z * math.sqrt(count * (of - count) / of + z * z / 4) / (of + z * z)
    low = 0.0 if count == 0 else centre - reach
    high = 1.0 if count == of else centre + reach
    return Share(count / of, low, high, count, of)


def sampled_share(count: int, of: int, population: int) -> Share:
    """Return the share of a population, of which `count` of `of` were found in a sample, with its exact 95 % interval.

    The sample is drawn without replacement, so the interval shrinks to a point as the sample becomes the population.

    Source: W. Cochran, Sampling Techniques, 1977, section 3.6: both tails of the hypergeometric distribution.
    """
    if of == 0:
        return Share(math.nan, math.nan, math.nan, count, of)
    outcomes = np.arange(min(of, population) + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, population + 1)))])

    def tails(in_population: int) -> tuple[float, float]:
        """Return the probabilities of at most, and of at least, `count` in the sample."""
        possible = outcomes[(outcomes <= in_population) & (of - outcomes <= population - in_population)]
        others = population - in_population
        log_chances = (
            logs[in_population] - logs[possible] - logs[in_population - possible]
            + logs[others] - logs[of - possible] - logs[others - of + possible]
        )  # fmt: skip
        chances = np.exp(log_chances - log_chances.max())
        chances /= chances.sum()
        return float(chances[possible <= count].sum()), float(chances[possible >= count].sum())

    candidates = range(count, population - of + count + 1)
    least = bisect_left(candidates, True, key=lambda found: tails(found)[1] > TAIL)
    most = bisect_left(candidates, True, key=lambda found: tails(found)[0] <= TAIL)
    return Share(count / of, candidates[least] / population, candidates[most - 1] / population, count, of)


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa, 1 for agreement and 0 for that of chance, with its 95 % interval; all NaN if it is undefined."""

    value: float
    low: float
    high: float


def kappa(counts: NDArray[np.integer]) -> Kappa:
    """Return the agreement of two people beyond chance, with its 95 % interval within [-1, 1].

    Kappa is undefined if both people gave only one answer, the same. If they always agree, the interval is a point.

    Args:
        counts: square; entry (i, j) is how often the first person answered i and the second j.

    Source: J. Cohen, A Coefficient of Agreement for Nominal Scales, 1960; the interval is that of J. L. Fleiss,
    J. Cohen and B. S. Everitt, Large Sample Standard Errors of Kappa and Weighted Kappa, 1969.
    """
    of = counts.sum()
    shares = counts / max(of, 1)
    first, second = shares.sum(axis=1), shares.sum(axis=0)
    agreed, by_chance = np.trace(shares), first @ second
    if of == 0 or by_chance == 1:
        return Kappa(math.nan, math.nan, math.nan)
    value = float((agreed - by_chance) / (1 - by_chance))
    same = np.diag(shares) @ (1 - (first + second) * (1 - value)) ** 2
    sums = second[:, None] + first[None, :]
    different = (1 - value) ** 2 * (shares * sums**2 * (1 - np.eye(len(counts)))).sum()
    variance = max(same + different - (value - by_chance * (1 - value)) ** 2, 0) / of
    reach = NORMAL.inv_cdf(1 - TAIL) * math.sqrt(variance) / (1 - by_chance)
    return Kappa(value, float(max(value - reach, -1)), float(min(value + reach, 1)))


def binomial_test(count: int, of: int, expected: float) -> float:
    """Return the exact two-sided p-value of `count` among `of` against the share `expected`."""
    if expected in {0, 1}:
        return float(count == of * expected)
    outcomes = np.arange(of + 1)
    logs = outcomes * math.log(expected) + (of - outcomes) * math.log1p(-expected)
    return _no_likelier(logs + _log_choose(of, outcomes), count)


def fisher_test(count: int, of: int, other_count: int, other_of: int) -> float:
    """Return the exact two-sided p-value of the hypothesis that two shares are equal."""
    together = count + other_count
    least = max(0, together - other_of)
    outcomes = np.arange(least, min(of, together) + 1)
    logs = _log_choose(of, outcomes) + _log_choose(other_of, together - outcomes)
    return _no_likelier(logs, count - least)


def _log_choose(of: int, counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the logarithms of the binomial coefficients (`of` over each of `counts`)."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, of + 1)))])
    chosen: NDArray[np.float64] = logs[of] - logs[counts] - logs[of - counts]
    return chosen


def _no_likelier(logs: NDArray[np.float64], seen: int) -> float:
    """Return the probability of outcomes no likelier than `seen`; `logs` are their log-likelihoods."""
    likelihoods = np.exp(logs - logs.max())
    return float(likelihoods[logs <= logs[seen] + _ROUNDING].sum() / likelihoods.sum())


def kolmogorov(distance: float, n: int, m: int) -> float:
    """Return the probability of at least this distance between samples of `n` and `m` if nothing changed.

    Source: M. A. Stephens, Use of the Kolmogorov–Smirnov Statistics, 1970, good to about 0.01.
    """
    root = math.sqrt(n * m / (n + m))
    reached = (root + 0.12 + 0.11 / root) * distance
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * (k * reached) ** 2) for k in range(1, 101))
    return min(max(math.fsum(terms), 0), 1) if reached > 0.2 else 1.0


def chi_squared(level: float, freedom: int) -> float:
    """Return the chi-squared value that is exceeded with the probability `level`.

    Source: E. B. Wilson and M. M. Hilferty, The Distribution of Chi-Square, 1931.
    """
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread - NORMAL.inv_cdf(level) * math.sqrt(spread)) ** 3)


def exceeding(value: float, freedom: int, noncentrality: float) -> float:
    """Return the probability that a non-central chi-squared variable exceeds `value`.

    Source: M. Sankaran, Approximations to the Non-Central Chi-Square Distribution, 1963; good to about 0.01.
    """
    mean, spread = freedom + noncentrality, freedom + 2 * noncentrality
    h = 1 - 2 * mean * (freedom + 3 * noncentrality) / (3 * spread**2)
    p = spread / mean**2
    m = (h - 1) * (1 - 3 * h)
    expected = 1 + h * p * (h - 1 - (2 - h) * m * p / 2)
    return NORMAL.cdf(-((value / mean) ** h - expected) / (h * math.sqrt(2 * p) * (1 + m * p / 2)))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = np.argsort(values)
    steps = np.array(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in corrected]
