"""Shows on the terminal what becomes of photos."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from .decisions import FINAL, Decision

COLOURS = {"ROUTED": "green", "REVIEW": "yellow", "REJECTED": "magenta", "FAILED": "red", "CLAIMED": "cyan"}


def decisions_table(decisions: Iterable[Decision]) -> Table:
    """Return a table of photo, outcome, vehicle, confidence, bay and milliseconds."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("photo", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("outcome", no_wrap=True)
    table.add_column("vehicle", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("bay (orders)", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for decision in sorted(decisions, key=lambda decision: decision.key):
        confidence, milliseconds = decision.confidence, decision.milliseconds
        table.add_row(
            escape(PurePosixPath(decision.key).name),
            f"[{COLOURS[decision.status]}]{decision.status}[/]",
            escape(decision.vehicle),
            "" if confidence is None else f"{confidence:.4f}",
            escape(decision.bay),
            "" if milliseconds is None else f"{milliseconds:.0f}",
        )
    return table


def reasons(decisions: Iterable[Decision]) -> list[str]:
    """Return a line for each photo that was not routed, with the reason."""
    return [
        f"{decision.status}  {decision.key}\n    {decision.reason}"
        for decision in sorted(decisions, key=lambda decision: decision.key)
        if decision.reason and decision.status != "ROUTED"
    ]


def summary(decisions: Iterable[Decision]) -> str:
    """Return one line that counts the photos by outcome."""
    counts = Counter(decision.status for decision in decisions)
    parts = ", ".join(f"{counts[status]} {status}" for status in COLOURS if counts[status])
    return f"{counts.total()} photos: {parts or 'none yet'}"


def follow(
    read: Callable[[], list[Decision]],
    console: Console,
    *,
    expected: int | None = None,
    seconds: float | None = None,
) -> list[Decision]:
    """Show the outcomes as they come, until `expected` photos have one or `seconds` are over."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            decisions = read()
            live.update(decisions_table(decisions))
            done = sum(decision.status in FINAL for decision in decisions)
            if (expected is not None and done >= expected) or (deadline and time.monotonic() > deadline):
                return decisions
            time.sleep(0.2)
