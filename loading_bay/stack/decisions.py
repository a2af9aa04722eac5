"""The decisions of a span of time, from the table or from a file of its items."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from functions.decisions.decision import Decision, SkippedDecision, decision_of, separated
from functions.decisions.table import DecisionsTable, decisions_in

from .errors import UserError
from .window import Window

SEGMENTS = 8


def all_decisions(table: DecisionsTable) -> list[Decision]:
    """Return every decision of the table."""
    return separated(decisions_in_table(table, Window()))[0]


def decisions_in_table(table: DecisionsTable, window: Window) -> Iterator[Decision | SkippedDecision]:
    """Yield the decisions claimed in the window; reads the whole table, in parallel segments."""

    def read(segment: int) -> list[Decision | SkippedDecision]:
        scan = table.dynamodb.get_paginator("scan")
        pages = scan.paginate(TableName=table.name, Segment=segment, TotalSegments=SEGMENTS)
        return list(decisions_in(pages))

    with ThreadPoolExecutor(SEGMENTS) as pool:
        for found in pool.map(read, range(SEGMENTS)):
            yield from _inside(found, window)


def decisions_in_file(path: Path, window: Window) -> Iterator[Decision | SkippedDecision]:
    """Yield the decisions in a file (a JSON list, or one JSON object per line) that were claimed in the window.

    Raises:
        UserError: the file is missing, or is neither of the two.
    """
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"["):
            items = msgspec.json.decode(content, type=list[object])
        else:
            items = msgspec.json.Decoder().decode_lines(content)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UserError(f"{path} is not a list of decisions in JSON: {error}") from error
    return _inside(map(decision_of, items), window)


def _inside(found: Iterable[Decision | SkippedDecision], window: Window) -> Iterator[Decision | SkippedDecision]:
    for each in found:
        if isinstance(each, SkippedDecision) or window.holds(each.claimed_at):
            yield each
