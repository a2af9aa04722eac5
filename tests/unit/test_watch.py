"""The live state in a terminal and in a pipe: counts, waiting photos, the newest decisions."""

import io
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from functions.decisions.decision import Decision, Status
from loading_bay.operations.watch import state, watch

NOW = datetime.now(UTC)


def decision(key: str, status: Status = "ROUTED", minutes: float = 1, **more: Any) -> Decision:
    claimed = NOW - timedelta(minutes=minutes)
    return Decision(f"s3://inbox/{key}#{'0' * 32}", status, claimed, **more)


def shown(decisions: list[Decision], width: int = 100, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(state(decisions, console, "loading-bay"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_counts_stay_visible_with_any_number_of_photos() -> None:
    many = [decision(f"uploads/{number}.jpg") for number in range(1200)]

    lines = shown([*many, decision("uploads/doubt.jpg", "REVIEW")]).splitlines()

    assert len(lines) <= 24
    assert lines[1].split() == ["1,201", "photos", "1,200", "ROUTED", "1", "REVIEW"]


def test_the_newest_come_first() -> None:
    listed = shown([decision(f"uploads/{number:02}.jpg", minutes=number) for number in range(30)])

    assert re.findall(r"\d\d\.jpg", listed)[:5] == ["00.jpg", "01.jpg", "02.jpg", "03.jpg", "04.jpg"]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_two_drivers_differ_at_every_width(width: int) -> None:
    keys = [f"uploads/2026/11/driver-{number}/0d2ab9f4-6c1e-4f4e-9d0e-{number:012}.jpg" for number in (7, 17)]
    long: dict[str, Any] = {"vehicle": "motorcycle", "confidence": 0.9731, "bay": "2", "order_range": "far"}

    listed = shown([decision(key, **long) for key in keys], width)

    assert re.search(r"driver-7/\S*07\.jpg", listed)
    assert re.search(r"driver-17/\S*17\.jpg", listed)
    assert "motorcycle" in listed
    assert "2 ROUTED" in listed
    assert all(len(line) <= width for line in listed.splitlines())


def test_a_photo_that_a_person_routed_still_counts_as_reviewed() -> None:
    decisions = [decision(f"{number}.jpg", vehicle="bicycle") for number in range(8)]
    decisions += [decision("waiting.jpg", "REVIEW"), decision("seen.jpg", reviewed_by="ann")]

    assert "review rate: 20\N{NO-BREAK SPACE}% of 10" in shown(decisions)


def test_the_oldest_photo_in_review_is_named_with_its_age() -> None:
    waiting = [decision("uploads/old.jpg", "REVIEW", 60 * 74 + 1), decision("uploads/new.jpg", "REVIEW")]

    assert "oldest in review: 3 d, uploads/old.jpg" in shown(waiting)


def test_an_empty_table_is_fine() -> None:
    assert "0 photos\nreview rate: nothing classified yet" in shown([])


@pytest.mark.parametrize("terminal", [True, False])
def test_a_key_can_neither_command_the_terminal_nor_forge_a_line(terminal: bool) -> None:
    key = "uploads/[bold]a[/bold]\x1b[2J\n9 photos\u202egpj.exe"
    console = Console(file=io.StringIO(), width=200, force_terminal=terminal, color_system=None)

    found = [decision(key, "REVIEW", bay="\x1b]0;owned\x07", order_range="far")]
    watch(lambda: found, console, title="bay", every=1, until=lambda _: True)

    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert r"[bold]a[/bold]\x1b[2J\n9 photos\u202egpj.exe" in written
    assert not {"\x07", "\u202e"} & set(written)
    assert "\x1b[2J" not in written


def test_in_a_pipe_each_new_decision_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    claimed = decision("uploads/second.jpg", "CLAIMED")
    more: dict[str, Any] = {"confidence": 0.9731, "bay": "1", "order_range": "near", "order": "4711"}
    routed = decision("uploads/second.jpg", vehicle="bicycle", **more)
    looks = [[decision("uploads/first.jpg", "REJECTED", error="PhotoTooLarge")]]
    looks += [[*looks[0], claimed], [*looks[0], routed], [*looks[0], routed]]
    console = Console(file=io.StringIO(), width=60)

    watch(lambda: looks.pop(0), console, title="bay", every=1, until=lambda _: not looks)

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["REJECTED", "PhotoTooLarge", "-", "-", "-", "-", "uploads/first.jpg"],
        ["ROUTED", "bicycle", "0.9731", "1", "near", "4711", "uploads/second.jpg"],
    ]
