"""A benchmark's result: rows of figures, stored as JSON, and printed beside those of the last run."""

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from . import machine
from .figures import Quartiles

FOLDER = Path(__file__).parent / "results"
# Smaller changes may be noise.
NOTEWORTHY = 0.05


@dataclass(frozen=True)
class Reading:
    """A figure with the name of its subject."""

    name: str
    figure: Quartiles


@dataclass(frozen=True)
class Row:
    """The project's figure for one subject, with the baseline and lower bound of the same run, and the target.

    `reached` is None without a target. `note` helps the reader to judge the row.
    """

    case: str
    unit: str
    measured: Quartiles
    baseline: Reading | None = None
    limit: Reading | None = None
    reach: str = ""
    reached: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """The results of a run of a benchmark; `load` is the machine's load before it."""

    name: str
    title: str
    rows: list[Row]
    load: float
    remarks: list[str] = field(default_factory=list)


def ratio(row: Row, to: Reading | None) -> float | None:
    """Return the ratio of the project's figure to another one."""
    return row.measured.median / to.figure.median if to and to.figure.median else None


def save(result: Result, folder: Path = FOLDER) -> None:
    """Store a result in place of that of the last run."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"taken": date.today().isoformat(), "machine": asdict(machine.describe()), **asdict(result)}
    (folder / f"{result.name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def earlier_figures(name: str, folder: Path = FOLDER) -> dict[str, float]:
    """Return the project's medians of the last kept run, by subject."""
    path = folder / f"{name}.json"
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text())
    return {row["case"]: row["measured"]["median"] for row in kept["rows"]}


def change(now: float, before: float | None) -> str:
    """Describe the change since the last run in per cent; a change within the usual spread is `=`."""
    if before is None or not before:
        return "new"
    share = now / before - 1
    return "=" if abs(share) < NOTEWORTHY else f"{share:+.0%}"


def table(result: Result, before: dict[str, float]) -> Table:
    """Format a result as a table."""
    shown = Table(title=f"{result.title} (load {result.load:g})", title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("")
    for heading in ("result", "spread", "baseline", "ratio", "lower bound", "ratio", "since last"):
        shown.add_column(heading, justify="right")
    shown.add_column("target")
    for row in result.rows:
        shown.add_row(
            row.case,
            f"{row.measured} {row.unit}",
            row.measured.spread(),
            _reading(row.baseline),
            _times(ratio(row, row.baseline)),
            _reading(row.limit),
            _times(ratio(row, row.limit)),
            change(row.measured.median, before.get(row.case)),
            _reach(row),
        )
    return shown


def show(result: Result, console: Console) -> None:
    """Print a result, with the changes since the last kept run."""
    console.print(table(result, earlier_figures(result.name)))
    for remark in result.remarks + [f"{row.case}: {row.note}" for row in result.rows if row.note]:
        console.print(f"  {remark}", soft_wrap=True)


def _reading(reading: Reading | None) -> str:
    return f"{reading.figure} [dim]{reading.name}[/dim]" if reading else ""


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ×"


def _reach(row: Row) -> str:
    if row.reached is None:
        return row.reach
    return f"[green]✓[/green] {row.reach}" if row.reached else f"[red]✗[/red] {row.reach}"
