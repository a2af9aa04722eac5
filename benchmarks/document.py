"""Writes the kept figures into docs/performance.md, so the page shows exactly the measurements."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .figures import ROOT, three_digits

DOCUMENT = ROOT / "docs" / "performance.md"
# Each table is between two such comments, and is replaced.
PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
HEADINGS = ("", "ours", "half of the runs", "baseline", "ratio", "limit", "ratio", "reach")


def write_tables(results: Path, document: Path) -> None:
    """Replace every table in the document by that of the kept result named in its comment."""

    def replace(place: re.Match[str]) -> str:
        kept = json.loads((results / f"{place[2]}.json").read_text())
        return f"{place[1]}{markdown(kept)}{place[3]}"

    document.write_text(PLACE.sub(replace, document.read_text()))


def markdown(kept: Mapping[str, Any]) -> str:
    """Return a kept result as a Markdown table, with its time and the machine's load."""
    machine = kept["machine"]
    lines = [
        f"{kept['title']}. {kept['taken']}, load {kept['load']:g} beforehand, {machine['cores']} cores of "
        f"{machine['processor']}, Python {machine['python']}.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"| --- |{' ---: |' * (len(HEADINGS) - 2)} --- |",
        *(f"| {' | '.join(_cells(row))} |" for row in kept["rows"]),
        "",
    ]
    notes = [*kept["remarks"], *(f"{row['what']}: {row['note']}" for row in kept["rows"] if row["note"])]
    lines += [f"- {note}" for note in notes]
    return "\n".join([*lines, ""]) + ("\n" if notes else "")


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    ours = row["ours"]
    yield row["what"]
    yield f"{three_digits(ours['median'])} {row['unit']}".strip()
    yield f"{three_digits(ours['low'])}–{three_digits(ours['high'])}" if ours["runs"] > 1 else "one run"
    for reading in (row["baseline"], row["limit"]):
        yield f"{three_digits(reading['figure']['median'])} {reading['name']}" if reading else ""
        yield f"{ours['median'] / reading['figure']['median']:.2f} ×" if reading else ""
    yield f"{ {True: '✓ ', False: '✗ ', None: ''}[row['reached']] }{row['reach']}".strip()
