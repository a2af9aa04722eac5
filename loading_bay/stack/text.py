"""Makes text from captures, keys and decisions safe to show, and formats numbers and times for people."""

import math
from datetime import datetime
from pathlib import Path

NO_BREAK = "\N{NO-BREAK SPACE}"


def printable(text: str) -> str:
    """Escape control, bidirectional and stray codes, which could command a terminal, forge a line or reorder it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == NO_BREAK else ascii(each)[1:-1] for each in text)


def shortened(key: str, width: int) -> str:
    """Return a photo's key in at most `width` characters: the end of its folder and of its name tell photos apart."""
    key = printable(key)
    if len(key) <= width:
        return key
    folder, slash, name = key.rpartition("/")
    if not slash:
        return _end(name, width)
    folder = _end(folder.rpartition("/")[2], max(width // 2 - 2, width - len(name) - 1))
    return f"{folder}/{_end(name, width - len(folder) - 1)}"


def shown(path: Path) -> str:
    """Return a file's name on a page: its path relative to this folder, if it is below it."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def percent(value: float) -> str:
    """0.3812 → `38 %`; one decimal below 10 % and above 90 %; `0 %` and `100 %` mean none and all."""
    if math.isnan(value):
        return "–"
    if 0 < value < 0.001:
        return f"<{NO_BREAK}0.1{NO_BREAK}%"
    if 0.999 < value < 1:
        return f">{NO_BREAK}99.9{NO_BREAK}%"
    decimals = 0 if 0.1 <= value <= 0.9 or value in {0, 1} else 1
    return f"{100 * value:.{decimals}f}{NO_BREAK}%"


def whole(value: int) -> str:
    """1234567 → `1,234,567`."""
    return f"{value:,}"


def moment(value: datetime) -> str:
    """Return a UTC time to the minute."""
    return f"{value:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Return a duration in its one or two largest units: `0.84 s`, `3 min 20 s`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    left = int(seconds)
    for large, small, ratio in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if left >= ratio:
            rest = left % ratio // {"h": 3_600, "min": 60, "s": 1}[small]
            return f"{left // ratio} {large} {rest} {small}" if rest else f"{left // ratio} {large}"
    raise AssertionError("a minute or more has a unit")
