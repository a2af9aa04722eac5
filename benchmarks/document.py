"""Writes kept figures into the pages, between markers, so the pages show exactly the measurements.

Markers, each up to `<!-- end -->`:

    <!-- table serialize -->           the kept result of a benchmark as a table
    <!-- table serialize memory -->    only its rows whose name matches a pattern
    <!-- table bill -->                the monthly bill by photos a month; bill_short, bill_lines
    <!-- table sources whole -->       the shipped model's test of whole photos, crops or small pictures, by source
    <!-- record test.whole.accuracy --> a share in the shipped model's record, as a percentage
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from loading_bay.stack.prices import Prices

from .cost import SETUPS, Timing, Workload, bills_of
from .figures import ROOT, three_digits
from .results import FOLDER

RECORD = ROOT / "training" / "model" / "record.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "model.md", ROOT / "docs" / "performance.md")
MARKED = re.compile(r"(<!-- (table|record) ([\w.]+)(?: ([^>]+?))? -->).*?(<!-- end -->)", re.DOTALL)
HEADINGS = ("", "result", "baseline", "ratio", "lower bound", "ratio", "target")
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def written(page: str, results: Path = FOLDER, record: Path = RECORD) -> str:
    """Return a page's text with the current figures between its markers.

    Raises:
        KeyError: a marker names a table or a share that does not exist.
        FileNotFoundError: a marker names a benchmark without a kept result.
    """
    model = json.loads(record.read_text())

    def replace(place: re.Match[str]) -> str:
        start, kind, name, pattern, end = place.groups()
        if kind == "record":
            return f"{start}{percent(reduce(lambda value, key: value[key], name.split('.'), model))}{end}"
        if name in TABLES:
            return f"{start}\n{TABLES[name](model, pattern)}{end}"
        return f"{start}\n{markdown(json.loads((results / f'{name}.json').read_text()), pattern or '')}{end}"

    return MARKED.sub(replace, page)


def stale_pages() -> list[Path]:
    """Return the pages whose figures differ from those that are kept."""
    return [page for page in PAGES if written(page.read_text()) != page.read_text()]


def percent(share: float | Mapping[str, float]) -> str:
    """Return a share, or the value of one with its interval, as a percentage."""
    return f"{100 * (share if isinstance(share, (int, float)) else share['value']):.1f} %"


def markdown(kept: Mapping[str, Any], pattern: str = "") -> str:
    """Return the rows of a kept result that match a pattern as a Markdown table, with its time and machine."""
    machine = kept["machine"]
    rows = [list(_cells(row)) for row in kept["rows"] if re.search(pattern, row["case"])]
    taken = f"{kept['title']}. {kept['taken']}, load {kept['load']:g}, {machine['cores']} cores of "
    return f"{taken}{machine['processor']}.\n\n{_table(HEADINGS, rows)}"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    measured = row["measured"]
    yield row["case"]
    yield f"{three_digits(measured['median'])} {row['unit']}".strip()
    for reading in (row["baseline"], row["limit"]):
        yield f"{three_digits(reading['figure']['median'])} {reading['name']}" if reading else ""
        yield f"{measured['median'] / reading['figure']['median']:.2f} ×" if reading else ""
    yield f"{ {True: '✓ ', False: '✗ ', None: ''}[row['reached']] }{row['reach']}".strip()


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"| --- |{' ---: |' * (len(headings) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), "", ""])


def _bill(_: Mapping[str, Any], __: str) -> str:
    """Return the bills of all setups, by photos a month."""
    prices, timing = Prices.read(), Timing.read()
    bills = {size: bills_of(Workload(size), timing, prices) for size in (*SIZES, 100_000_000)}
    rows = [[f"{size:,}", *(f"{sum(bills[size][setup].values()):,.0f}" for setup in SETUPS)] for size in bills]
    return _priced(prices) + _table(("photos a month", *(f"{each.workflow}, {each.hosting}" for each in SETUPS)), rows)


def _bill_short(_: Mapping[str, Any], __: str) -> str:
    """Return the bills of the setups with a real-time endpoint, by photos a month."""
    prices, timing = Prices.read(), Timing.read()
    bills = [bills_of(Workload(size), timing, prices) for size in SIZES]
    rows = [
        [f"`{setup.workflow.upper()}`", *(f"${sum(bill[setup].values()):,.0f}" for bill in bills)]
        for setup in SETUPS
        if setup.hosting == "real-time"
    ]
    return _priced(prices) + _table(("photos a month", *(f"{size:,}" for size in SIZES)), rows)


def _bill_lines(_: Mapping[str, Any], __: str) -> str:
    """Return the lines of the bill of a million photos."""
    bills = bills_of(Workload(1_000_000), Timing.read(), Prices.read())
    lines = list(bills[SETUPS[0]])
    rows = [[line, *(f"{bills[setup][line]:,.2f}" for setup in SETUPS)] for line in lines]
    return _table(("a million photos a month", *(f"{each.workflow}, {each.hosting}" for each in SETUPS)), rows)


def _priced(prices: Prices) -> str:
    """Return the source of the prices, with their region and date."""
    source = "[AWS list prices](https://aws.amazon.com/pricing/)"
    return f"{source} of {prices.region}, noted on {prices.noted}.\n\n"


def _sources(model: Mapping[str, Any], pictures: str) -> str:
    """Return the figures of a part of the test (whole, crops or small), by source of the pictures."""
    test = model["test"][pictures]
    rows = [_measured(f"`{part['name']}`", part) for part in test["by_source"]]
    headings = ("source", "vehicles", "right", "accepted", "of these right", "others", "accepted")
    return _table(headings, [*rows, _measured("**all of these**", test)])


def _measured(name: str, part: Mapping[str, Any]) -> list[str]:
    shares = [part[each] for each in ("accuracy", "coverage", "selective_accuracy")]
    others = part["outliers_accepted"]
    return [name, _count(part["photos"]), *map(_interval, shares), _count(part["outliers"]), _interval(others)]


def _count(count: int) -> str:
    return f"{count:,}" if count else ""


def _interval(share: Mapping[str, float]) -> str:
    """Return a share with its interval, or nothing if it is a share of nothing."""
    if not share["of"]:
        return ""
    return f"{percent(share)} ({100 * share['low']:.1f}–{100 * share['high']:.1f})"


TABLES: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "bill": _bill,
    "bill_short": _bill_short,
    "bill_lines": _bill_lines,
    "sources": _sources,
}
