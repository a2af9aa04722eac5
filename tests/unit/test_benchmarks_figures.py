"""Medians, spreads, growth, and the stored result of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import results
from benchmarks.figures import Quartiles, exponent, fresh_process, interleave, three_digits
from benchmarks.results import Reading, Result, Row, change, earlier_figures, ratio, save


def result(median: float, reached: bool | None = None) -> Result:
    measured = Quartiles(median, median, median, 1)
    row = Row("a thing", "ms", measured, Reading("the usual way", Quartiles.of([40])), None, "≤ 12", reached)
    return Result("thing", "A thing", [row], load=0.1)


def test_a_figure_is_the_median_with_its_quartiles() -> None:
    assert Quartiles.of([5, 1, 4, 2, 3]) == Quartiles(median=3, low=2, high=4, runs=5)


def test_one_run_has_no_spread() -> None:
    assert Quartiles.of([7]) == Quartiles(7, 7, 7, 1)
    assert Quartiles.of([7]).spread() == "one run"


def test_subjects_run_in_rounds() -> None:
    order = []

    def subject(name: str) -> float:
        order.append(name)
        return len(order)

    found = interleave({"a": lambda: subject("a"), "b": lambda: subject("b")}, runs=3)

    assert order == ["a", "b", "a", "b", "a", "b"]
    assert (found["a"].median, found["b"].median) == (3, 4)


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (3, "3")],
)
def test_numbers_are_written_with_three_digits(value: float, written: str) -> None:
    assert three_digits(value) == written


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    sizes = (1, 10, 100)
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_the_exponent_survives_noise() -> None:
    chance = np.random.default_rng(0)
    sizes = (1, 10, 100)
    times = [5 * size * (1 + chance.uniform(-0.1, 0.1)) for size in sizes]
    assert exponent(sizes, times) == pytest.approx(1, abs=0.1)


def test_a_fresh_process_does_not_inherit_this_one_s_memory() -> None:
    ballast = np.ones(60_000_000 // 8)
    code = "import re; print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024)"
    assert fresh_process(code)[0] < ballast.nbytes / 2**20


def test_a_later_run_shows_changes(tmp_path: Path) -> None:
    save(result(10), tmp_path)
    before = earlier_figures("thing", tmp_path)

    assert before == {"a thing": 10}
    assert change(15, before["a thing"]) == "+50%"
    assert change(8, before["a thing"]) == "-20%"
    assert change(10.2, before["a thing"]) == "="
    assert change(10, before.get("another thing")) == "new"


def test_a_kept_result_describes_the_machine_without_its_name(tmp_path: Path) -> None:
    save(result(10), tmp_path)
    kept = json.loads((tmp_path / "thing.json").read_text())

    assert set(kept["machine"]) == {"processor", "cores", "memory", "system", "python", "packages"}
    assert str(Path.home()) not in json.dumps(kept)


def test_a_figure_is_compared_with_the_baseline() -> None:
    (row,) = result(10).rows
    assert ratio(row, row.baseline) == 0.25
    assert ratio(row, row.limit) is None


@pytest.mark.parametrize(("reached", "mark"), [(True, "✓ ≤ 12"), (False, "✗ ≤ 12"), (None, "≤ 12")])
def test_the_table_says_whether_a_reach_was_reached(reached: bool | None, mark: str) -> None:
    console = Console(width=150, record=True, quiet=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(results.table(result(10, reached), {}))
    text = console.export_text()
    assert mark in text
    assert "40 the usual way" in text
