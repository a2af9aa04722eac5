"""Shows the newest decisions: live in a terminal, line by line in a pipe."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from functions.decisions.decision import OUTCOMES, Decision, Status
from loading_bay.stack.text import duration, percent, printable, shortened, whole

COLOURS: dict[Status, str] = {
    "ROUTED": "green",
    "REVIEW": "yellow",
    "REJECTED": "magenta",
    "FAILED": "red",
    "CLAIMED": "cyan",
}
Read = Callable[[], list[Decision]]
COLUMNS = ("age", "outcome", "vehicle", "confidence", "bay", "took", "order")
# Columns that need a terminal at least this wide.
WIDTHS = {"confidence": 72, "bay": 88, "took": 100, "order": 112}
RIGHT = {"age", "confidence", "took"}


def watch(
    read: Read, console: Console, *, title: str, every: float, until: Callable[[Sequence[Decision]], bool]
) -> list[Decision]:
    """Show the newest decisions at an interval, until `until` holds; return the last ones read.

    In a pipe or a log, each new decision is printed as one line.
    """
    with Live(console=console, auto_refresh=False, transient=True) as live:
        told: set[tuple[str, str]] = set()
        while True:
            asked = time.monotonic()
            decisions = read()
            if console.is_terminal:
                live.update(state(decisions, console, title), refresh=True)
            else:
                _tell(decisions, console, told)
            if until(decisions):
                return decisions
            # Reading a large table takes time and read units, so at most a tenth of the time is spent on it.
            time.sleep(max(every, 9 * (time.monotonic() - asked)))


def state(decisions: Sequence[Decision], console: Console, title: str) -> Group:
    """Return the counts, the review rate, and as many of the newest decisions as fit into the terminal."""
    head = Text(title, style="bold", no_wrap=True, overflow="ellipsis")
    newest = sorted(decisions, key=lambda each: each.claimed_at, reverse=True)
    rows = max(console.height - 9, 3)
    return Group(head, counts(decisions), in_review(decisions), decisions_table(newest[:rows], console.width))


def counts(decisions: Iterable[Decision]) -> Text:
    """Return one line that counts the photos by outcome."""
    found = Counter(decision.status for decision in decisions)
    text = Text(f"{whole(found.total())} photos")
    for status, colour in COLOURS.items():
        if found[status]:
            text.append("  ").append(f"{whole(found[status])} {status}", style=colour)
    return text


def in_review(decisions: Sequence[Decision]) -> Text:
    """Return the share of photos that the model was unsure of, and the photo that has waited longest for review."""
    asked = [decision for decision in decisions if decision.status in {"ROUTED", "REVIEW"}]
    if not asked:
        return Text("review rate: nothing classified yet")
    unsure = [decision for decision in asked if decision.went_to_a_person]
    text = Text(f"review rate: {percent(len(unsure) / len(asked))} of {whole(len(asked))}")
    waiting = [decision for decision in unsure if decision.status == "REVIEW"]
    if waiting:
        oldest = min(waiting, key=lambda decision: decision.claimed_at)
        text.append(f"\noldest in review: {_age(oldest)}, {printable(oldest.key)}")
    return text


def decisions_table(decisions: Iterable[Decision], width: int) -> Table:
    """Return a table of decisions; narrow terminals get fewer columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("photo")
    names = [name for name in COLUMNS if width >= WIDTHS.get(name, 0)]
    for name in names:
        table.add_column(
            name, justify="right" if name in RIGHT else "left", no_wrap=True, max_width=20 if width >= 72 else 12
        )
    for decision in decisions:
        cells: dict[str, str | Text] = {
            "age": _age(decision),
            "outcome": Text(decision.status, style=COLOURS[decision.status]),
            "vehicle": Text(printable(decision.vehicle or decision.error or "")),
            "confidence": "" if decision.score is None else f"{decision.score:.4f}",
            "bay": Text(printable(decision.place)),
            "took": "" if decision.processing is None else duration(decision.processing),
            "order": Text(printable(decision.order or "")),
        }
        table.add_row(_Key(decision.key), *(cells[name] for name in names))
    return table


@dataclass(frozen=True)
class _Key:
    """A photo's key, cut to the width of its column."""

    key: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(16, options.max_width), min(len(printable(self.key)), options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(shortened(self.key, options.max_width), no_wrap=True)


def line(decision: Decision) -> str:
    """Return a decision as one line of columns separated by spaces."""
    confidence = "-" if decision.score is None else f"{decision.score:.4f}"
    found = decision.vehicle or decision.error or "-"
    place = f"{decision.bay} {decision.order_range}" if decision.bay else "- -"
    claimed = f"{decision.claimed_at:%Y-%m-%dT%H:%M:%SZ}"
    return printable(
        f"{claimed} {decision.status:<8} {found} {confidence} {place} {decision.order or '-'} {decision.key}"
    )


def reasons(decisions: Iterable[Decision]) -> list[str]:
    """Return one line with the reason for each photo that was not routed."""
    return [
        printable(f"{decision.status}  {decision.key}") + f"\n    {printable(decision.why)}"
        for decision in decisions
        if decision.why and decision.status != "ROUTED"
    ]


def _tell(decisions: Iterable[Decision], console: Console, told: set[tuple[str, str]]) -> None:
    for decision in sorted(decisions, key=lambda each: each.claimed_at):
        if decision.status in OUTCOMES and (decision.photo, decision.status) not in told:
            told.add((decision.photo, decision.status))
            console.print(line(decision), markup=False, highlight=False, soft_wrap=True)


def _age(decision: Decision) -> str:
    seconds = max((datetime.now(UTC) - decision.claimed_at).total_seconds(), 0)
    return " ".join(duration(seconds).split()[:2])
