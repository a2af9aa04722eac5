"""A benchmark's result: rows of figures, kept as JSON, and printed beside what they were the last time."""

import json
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from . import machine
from .figures import Figure

FOLDER = Path(__file__).parent / "results"
# A change smaller than this is what the next run may take back.
NOTEWORTHY = 0.05


@dataclass(frozen=True)
class Reading:
    """A figure with the name of what it was measured of."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Row:
    """Our figure for one thing, the baseline and the physical limit of the same run, and what was to be reached.

    `reached` is None where nothing was asked. `note` says what a reader must know to judge the row.
    """

    what: str
    unit: str
    ours: Figure
    baseline: Reading | None = None
    limit: Reading | None = None
    reach: str = ""
    reached: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """Everything that one benchmark found in one run; `load` is the machine's load before it."""

    name: str
    title: str
    rows: list[Row]
    load: float
    remarks: list[str] = field(default_factory=list)


def ratio(row: Row, to: Reading | None) -> float | None:
    """Return how many times the other figure ours is."""
    return row.ours.median / to.figure.median if to and to.figure.median else None


def save(result: Result, folder: Path = FOLDER) -> None:
    """Keep a result, replacing the one of the last run."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"taken": date.today().isoformat(), "machine": asdict(machine.describe()), **asdict(result)}
    (folder / f"{result.name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def earlier_figures(name: str, folder: Path = FOLDER) -> dict[str, float]:
    """Return our medians of the last kept run, by what was measured."""
    path = folder / f"{name}.json"
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text())
    return {row["what"]: row["ours"]["median"] for row in kept["rows"]}


def change(now: float, before: float | None) -> str:
    """Say what changed since the last run, in per cent; nothing if it is within the usual spread."""
    if before is None or not before:
        return "new"
    share = now / before - 1
    return "=" if abs(share) < NOTEWORTHY else f"{share:+.0%}"


def table(result: Result, before: dict[str, float]) -> Table:
    """Lay a result out for people."""
    shown = Table(title=f"{result.title} (load {result.load:g})", title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("")
    for heading in ("ours", "spread", "baseline", "ratio", "limit", "ratio", "since last"):
        shown.add_column(heading, justify="right")
    shown.add_column("reach")
    for row in result.rows:
        shown.add_row(
            row.what,
            f"{row.ours} {row.unit}",
            row.ours.spread(),
            _reading(row.baseline),
            _times(ratio(row, row.baseline)),
            _reading(row.limit),
            _times(ratio(row, row.limit)),
            change(row.ours.median, before.get(row.what)),
            _reach(row),
        )
    return shown


def show(result: Result, console: Console) -> None:
    """Print a result, with what changed since the last kept run."""
    console.print(table(result, earlier_figures(result.name)))
    for remark in result.remarks + [f"{row.what}: {row.note}" for row in result.rows if row.note]:
        console.print(f"  {remark}", soft_wrap=True)


def _reading(reading: Reading | None) -> str:
    return f"{reading.figure} [dim]{reading.name}[/dim]" if reading else ""


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ×"


def _reach(row: Row) -> str:
    if row.reached is None:
        return row.reach
    return f"[green]✓[/green] {row.reach}" if row.reached else f"[red]✗[/red] {row.reach}"
