"""The live state in the terminal: outcomes, review rate, what waits for a person, the last decisions."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pages.shares import share
from pages.text import duration, percent, printable, whole

from .decisions import STATUSES, Decision, DecisionsTable, Status
from .sources import Window

LAST_DECISIONS = 10
# The end of a key tells photos apart; in full it would push the rest off a terminal of 80 columns.
LONGEST_KEY = 16
_PLAIN: Final[dict[str, Any]] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0), "header_style": "dim"}
_STYLES = {"ROUTED": "green", "REVIEW": "yellow", "REJECTED": "magenta", "FAILED": "red", "CLAIMED": "dim"}


def show_once(decisions: DecisionsTable, back: timedelta, console: Console) -> None:
    """Print the state of the last `back`."""
    console.print(_state(decisions, back))


def watch_table(decisions: DecisionsTable, back: timedelta, every: float, console: Console) -> None:
    """Show the state anew every so many seconds, until Ctrl-C."""
    with Live(_state(decisions, back), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                live.update(_state(decisions, back), refresh=True)
        except KeyboardInterrupt:
            return


def _state(decisions: DecisionsTable, back: timedelta) -> Group:
    now = datetime.now(UTC)
    window = Window(since=now - back)
    with ThreadPoolExecutor(2 * len(STATUSES)) as pool:
        counting = pool.map(lambda status: decisions.count(status, window), STATUSES)
        listing = pool.map(lambda status: decisions.latest(status, LAST_DECISIONS), STATUSES)
        reviewed = pool.submit(decisions.count_reviewed, window)
        waiting = pool.submit(decisions.oldest, "REVIEW")
        counts = dict(zip(STATUSES, counting, strict=True))
        latest = sorted((each for found in listing for each in found), key=lambda each: each.claimed_at)
    span = f"{back / timedelta(hours=1):g} hours"
    return Group(
        Text(f"Loading Bay, {now:%Y-%m-%d %H:%M:%S} UTC", style="bold"),
        Text(),
        _outcomes(counts, span),
        Text(),
        _review(counts, reviewed.result(), waiting.result(), now),
        _last(latest[: -LAST_DECISIONS - 1 : -1], now),
    )


def _outcomes(counts: Mapping[Status, int], span: str) -> Table:
    table = Table(title=f"Photos of the last {span}", title_justify="left", title_style="bold", **_PLAIN)
    total = sum(counts.values())
    for status in counts:
        table.add_column(status.lower(), justify="right", header_style=_STYLES[status])
    table.add_row(*(whole(count) for count in counts.values()))
    if total:
        table.add_row(*(percent(count / total) for count in counts.values()), style="dim")
    return table


def _review(counts: Mapping[Status, int], reviewed: int, oldest: Decision | None, now: datetime) -> Text:
    text = Text("Review rate: ")
    answered = counts["ROUTED"] + counts["REVIEW"]
    if answered:
        rate = share(counts["REVIEW"] + reviewed, answered)
        text.append(percent(rate.value), style="bold")
        text.append(f" of {whole(answered)} (95 % interval {percent(rate.low)} to {percent(rate.high)})")
    else:
        text.append("no photo was classified")
    text.append("\nOldest photo in review: ")
    if oldest is None:
        text.append("none", style="bold")
    else:
        text.append(duration((now - oldest.claimed_at).total_seconds()), style="bold")
        text.append(f", {printable(oldest.photo)}")
    text.append("\n")
    return text


def _last(latest: list[Decision], now: datetime) -> Table:
    table = Table(title="Last decisions", title_justify="left", title_style="bold", **_PLAIN)
    for name in ("age", "outcome", "vehicle", "confidence", "bay", "orders", "photo"):
        table.add_column(name, justify="right" if name in {"age", "confidence"} else "left", overflow="fold")
    for each in latest:
        table.add_row(
            duration(max((now - each.claimed_at).total_seconds(), 0)),
            Text(each.status.lower(), style=_STYLES[each.status]),
            Text(printable(each.vehicle or each.error or "–")),
            f"{each.confidence:.3f}" if each.confidence is not None else "–",
            Text(printable(each.bay or "–")),
            Text(printable(each.order_range or "–")),
            Text(_end_of_key(each.photo)),
        )
    return table


def _end_of_key(photo: str) -> str:
    """Return the end of the key in `s3://bucket/key#version`."""
    key = printable(photo.removeprefix("s3://").partition("/")[2].rpartition("#")[0] or photo)
    return key if len(key) <= LONGEST_KEY else f"…{key[1 - LONGEST_KEY :]}"
