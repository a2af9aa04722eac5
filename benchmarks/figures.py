"""A measured figure: the median of several runs with its spread, and functions that measure."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Quartiles:
    """The median and the quartiles of `runs` runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quartiles":
        """Summarise the values of some runs; a single run is its own quartiles."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def __str__(self) -> str:
        """Write the median with three significant digits."""
        return three_digits(self.median)

    def spread(self) -> str:
        """Write the quartiles."""
        return f"{three_digits(self.low)}–{three_digits(self.high)}" if self.runs > 1 else "one run"


def three_digits(value: float) -> str:
    """Write a number with three significant digits, and never with an exponent."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def interleave(subjects: Mapping[str, Callable[[], float]], runs: int) -> dict[str, Quartiles]:
    """Run every subject `runs` times in rounds; each returns its measurement.

    With rounds instead of blocks, other load on the machine affects all subjects alike.
    """
    values: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(runs):
        for name, measure in subjects.items():
            values[name].append(measure())
    return {name: Quartiles.of(found) for name, found in values.items()}


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """Return the k of the best fit time = c × size^k: the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def cpu_milliseconds(work: Callable[[], object]) -> Callable[[], float]:
    """Turn work into a measurement of its processor time in all threads (ms)."""

    def measure() -> float:
        before = time.process_time()
        work()
        return (time.process_time() - before) * 1000

    return measure


def processor_seconds(process: int) -> float:
    """Return the processor time of another process so far (s; Linux)."""
    return time.clock_gettime((~process << 3) | 2)  # its clock, as clock_getcpuclockid gives it


def fresh_process(code: str, *arguments: str) -> list[float]:
    """Run Python code in a separate process; return the numbers that it prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return [float(number) for number in done.stdout.split()]
