"""Shares with their 95 % intervals, and p-values corrected for their number, as every report gives them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = np.argsort(values)
    steps = np.array(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in corrected]
