"""Shares with their 95 % intervals, as every report gives them."""

import math
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Share:
    """`count` of `of` as a value in [0, 1], with its 95 % interval (Wilson); all NaN where `of` is 0."""

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
    interval = stats.binomtest(count, of).proportion_ci(method="wilson")
    return Share(count / of, float(interval.low), float(interval.high), count, of)
