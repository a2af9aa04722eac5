"""Finding captures in a folder: endpoints, variants, hours, and ignored files."""

import errno
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from loading_bay.report.sources import CaptureFile, SkippedFile, capture_files
from loading_bay.stack.errors import UserError
from loading_bay.stack.window import Window

from .captures import HOUR, lines, place, record, write


def find(source: Path, window: Window | None = None) -> list[CaptureFile | SkippedFile]:
    with Progress(disable=True) as progress:
        return list(capture_files(str(source), window or Window(), source / "cache", progress))


def files(source: Path, window: Window | None = None) -> list[CaptureFile]:
    return [each for each in find(source, window) if isinstance(each, CaptureFile)]


@pytest.mark.parametrize("start", ["", "loading-bay", "loading-bay/AllTraffic", "loading-bay/AllTraffic/2026/11"])
def test_endpoint_variant_and_hour_are_known_from_any_folder_of_the_layout(tmp_path: Path, start: str) -> None:
    write(tmp_path, place(), lines(record()))

    (found,) = files(tmp_path / start)

    assert (found.endpoint, found.variant, found.hour) == ("loading-bay", "AllTraffic", HOUR)


def test_one_file_can_be_the_source(tmp_path: Path) -> None:
    file = write(tmp_path, place(), lines(record()))

    (found,) = files(file)

    assert (found.name, found.endpoint, found.hour) == (file.name, "loading-bay", HOUR)


def test_outside_the_layout_the_folder_stands_for_the_endpoint(tmp_path: Path) -> None:
    write(tmp_path, "endpoint-1/a.jsonl", lines(record()))

    (found,) = files(tmp_path)

    assert (found.endpoint, found.variant, found.hour) == ("endpoint-1", "", None)


def test_a_folder_that_only_looks_like_an_hour_is_harmless(tmp_path: Path) -> None:
    write(tmp_path, "loading-bay/AllTraffic/2026/13/45/99/a.jsonl", lines(record()))

    (found,) = files(tmp_path, Window(since=HOUR))

    assert found.hour is None


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("c.jsonl", "a.jsonl", "b.jsonl"):
        write(tmp_path, place(name=name), lines(record()))

    assert [each.name for each in files(tmp_path)] == [place(name=f"{each}.jsonl") for each in "abc"]


def test_other_files_are_named_not_read(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record()))
    write(tmp_path, "notes.txt", b"no capture")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")

    skipped = {each.name: each.reason for each in find(tmp_path) if isinstance(each, SkippedFile)}

    assert skipped == {"notes.txt": "not_a_capture_file", "gone.jsonl": "unreadable"}


@pytest.mark.parametrize(
    ("since", "until", "read"),
    [
        (None, None, True),
        (HOUR + timedelta(minutes=59), None, True),
        (HOUR + timedelta(hours=2, minutes=59), None, True),  # its clock may be two hours behind
        (HOUR + timedelta(hours=3), None, False),
        (None, HOUR - timedelta(hours=1), True),
        (None, HOUR - timedelta(hours=2), False),
    ],
)
def test_only_hours_that_can_hold_the_window_are_read(
    tmp_path: Path, since: datetime | None, until: datetime | None, read: bool
) -> None:
    write(tmp_path, place(), lines(record()))

    assert bool(files(tmp_path, Window(since, until))) is read


def test_a_source_with_nothing_in_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find(tmp_path / "nowhere")
    with pytest.raises(UserError, match="does not contain any files"):
        find(tmp_path)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS's file system takes no such name")
def test_a_name_that_is_not_utf_8_can_be_printed(tmp_path: Path) -> None:
    folder = write(tmp_path, place(), lines(record())).parent
    for suffix in (b".jsonl", b".txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe" + suffix)).write_bytes(lines(record()))

    found = find(tmp_path)

    assert [each.name.encode().decode() for each in found][1:] == [
        place(name="\\xff\\xfe.jsonl"),
        place(name="\\xff\\xfe.txt"),
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, place(), lines(record()))
    write(tmp_path, "closed/a.jsonl", lines(record()))
    opened = os.scandir

    def refused(folder: str) -> Any:  # root may read every folder, so removing permissions changes nothing
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return opened(folder)

    monkeypatch.setattr(os, "scandir", refused)

    assert SkippedFile("closed/", "unreadable", "Permission denied") in find(tmp_path)
