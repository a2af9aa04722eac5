"""Reading captures: every record is used once, or reported with file, line and reason."""

import base64
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from arro3.io import read_parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from loading_bay.report import captures
from loading_bay.report.predictions import Predictions, read_predictions
from loading_bay.report.sources import capture_files
from loading_bay.stack.window import Window

from .captures import HOUR, lines, place, record, write


def read(
    folder: Path, window: Window | None = None, classes: tuple[str, ...] = ("bicycle", "motorcycle")
) -> Predictions:
    window = window or Window()
    with Progress(disable=True) as progress:
        files = capture_files(str(folder), window, folder.with_name("cache"), progress)
        return read_predictions(files, classes, window)


def test_several_records_in_a_file_are_all_used(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record((0.95, 0.05)), record((0.2, 0.8)), record((0.6, 0.4))))

    found = read(tmp_path)

    assert found.records == found.ids == 3
    assert found.table["confidence"].tolist() == [0.95, 0.8, 0.6]
    assert found.table["vehicle"].tolist() == [0, 1, 0]
    assert found.skipped == []


@pytest.mark.parametrize(
    "answer",
    [
        "[0.25, 0.75]",
        '{"prediction": [0.25, 0.75]}\n',
        '{"predictions": [[0.25, 0.75]]}',
        "[[0.25, 0.75]]",
        " [2.5e-1,\n7.5e-1] ",
    ],
)
@pytest.mark.parametrize("shape", ["text", "value", "base64"])
def test_scores_are_read_in_every_wrapping(tmp_path: Path, answer: str, shape: str) -> None:
    captured = record(answer)
    output = captured["captureData"]["endpointOutput"]
    if shape == "value":
        output["data"] = json.loads(answer)
    elif shape == "base64":
        output |= {"data": base64.b64encode(answer.encode()).decode(), "encoding": "BASE64"}
    write(tmp_path, place(), lines(captured))

    assert read(tmp_path).table["scores"].tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"captureData": {"endpointInput"', "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"x": ' + b"[" * 100_000, "not_json"),
        (b'"just text"', "not_a_capture"),
        (b"null", "not_a_capture"),
        (b'{"captureData": {}, "eventMetadata": {}}', "not_a_capture"),
        (lines(record(event_id="x" * 1000)).strip(), "not_a_capture"),
        (lines(record(request_type="text/csv")).strip(), "not_an_image"),
        (lines(record("0.6,0.4")).strip(), "not_probabilities"),
        (lines(record("")).strip(), "not_probabilities"),
        (lines(record('["0.6", "0.4"]')).strip(), "not_probabilities"),
        (lines(record("[true, false]")).strip(), "not_probabilities"),
        (lines(record("[NaN, 1.0]")).strip(), "not_probabilities"),
        (lines(record("[1e999, 0.5]")).strip(), "not_probabilities"),
        (lines(record("[1.5, -0.5]")).strip(), "not_probabilities"),
        (lines(record("[0.7, 0.7]")).strip(), "not_probabilities"),
        (lines(record("[" * 5000)).strip(), "not_probabilities"),
        (lines(record((0.2, 0.3, 0.5))).strip(), "wrong_number_of_classes"),
        (lines(record("[1.0]")).strip(), "wrong_number_of_classes"),
    ],
)
def test_a_skipped_record_is_named_with_file_line_and_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    write(tmp_path, place(), lines(record(), content, record()))

    found = read(tmp_path)

    assert [(each.file, each.line, each.reason) for each in found.skipped] == [(place(), 2, reason)]
    assert found.skipped_records() == {reason: 1}
    assert (found.records, len(found.table)) == (3, 2)


@pytest.mark.parametrize("request_type", ["", "binary/octet-stream", "application/octet-stream", "image/heic; q=1"])
def test_a_content_type_that_may_be_a_picture_is_taken(tmp_path: Path, request_type: str) -> None:
    write(tmp_path, place(), lines(record(request_type=request_type)))

    assert len(read(tmp_path).table) == 1


def test_scores_in_csv_are_read(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record("0.25,0.75\n", encoding="CSV"), record("0.25,a", encoding="CSV")))

    found = read(tmp_path)

    assert found.table["scores"].tolist() == [[0.25, 0.75]]
    assert found.skipped_records() == {"not_probabilities": 1}


@pytest.mark.parametrize("name", ["march.json", "captures", "a.jsonl.1"])
def test_a_file_that_is_given_by_name_may_have_any_suffix(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, name, lines(record()))

    assert len(read(file).table) == 1


def test_a_record_without_a_time_is_skipped_outside_an_hour_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        "odd.jsonl",
        lines(record(time=None), record(time="yesterday"), record(time="0001-01-01T00:00:00Z")),
    )

    assert read(tmp_path).skipped_records() == {"no_time": 3}


@pytest.mark.parametrize(
    "time", [None, "yesterday", "1970-01-01T00:00:00Z", "2026-11-20T09:30:00Z", "9999-12-31T23:59:59-23:59"]
)
def test_the_hour_of_the_folder_replaces_a_wrong_clock(tmp_path: Path, time: str | None) -> None:
    write(tmp_path, place(), lines(record(time=time), record(time="2026-11-20T05:10:00Z")))

    found = read(tmp_path)

    assert found.table["time"].tolist() == [
        HOUR.replace(tzinfo=None),
        HOUR.replace(tzinfo=None, hour=5, minute=10),
    ]
    assert found.table["retimed"].tolist() == [True, False]


def test_times_with_an_offset_become_utc(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record(time="2026-11-20T06:10:00+02:00"), record(time="2026-11-20T04:20:00")))

    assert [f"{each:%H:%M}" for each in read(tmp_path).table["time"].tolist()] == ["04:10", "04:20"]


def test_a_repeated_record_is_used_once_and_names_its_first_place(tmp_path: Path) -> None:
    write(tmp_path, place(name="a.jsonl"), lines(record(), record((0.9, 0.1), event_id="same")))
    write(
        tmp_path,
        place(name="b.jsonl"),
        lines(record((0.3, 0.7), event_id="same"), record((0.3, 0.7), event_id="same")),
    )

    found = read(tmp_path)

    assert found.table["scores"][found.table["event_id"] == "same"].tolist() == [[0.9, 0.1]]
    assert [(each.file, each.line, each.reason) for each in found.skipped] == [
        (place(name="b.jsonl"), 1, "duplicate"),
        (place(name="b.jsonl"), 2, "duplicate"),
    ]
    assert f"{place(name='a.jsonl')}, line 2" in found.skipped[0].detail
    assert (found.records, found.ids) == (4, 2)


def test_ids_also_count_skipped_records(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record(), record(request_type="text/csv")))

    assert read(tmp_path).ids == 2


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_gzip_is_read_under_any_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, place(name=name), gzip.compress(lines(record(), record())))

    assert len(read(tmp_path).table) == 2


def test_a_file_of_blank_lines_is_given_up_and_named(tmp_path: Path) -> None:
    write(tmp_path, place(name="blank.jsonl.gz"), gzip.compress(lines(record()) + b"\n" * 20_000_000 + lines(record())))

    found = read(tmp_path)

    assert found.ids == 1
    assert found.skipped_files() == {"damaged": 1}


LARGE = record(body=b"")
OUTPUT = LARGE["captureData"]["endpointOutput"]
# Each is a kilobyte or so of gzip.
BOMBS = {
    "lines that are no records": [b"x\n" * 500_000],
    "one record again and again": [lines(record(event_id="one")) * 300_000],
    "a line without end": [b"x" * (80 << 20)],
    "an answer of millions of scores": [lines(LARGE | {"captureData": {"endpointOutput": {"data": [0] * 2_000_000}}})],
    "the same as text": [
        lines(LARGE | {"captureData": {"endpointOutput": OUTPUT | {"data": f"[{'0,' * 3_000_000}0]"}}})
    ],
    "a long id": [
        lines(LARGE | {"eventMetadata": {"eventId": "ID"}}).replace(b"ID", b"x" * 7_000_000 + b"\xf0\x9f\x9a\xb2")
    ],
}
READ = """
import resource, sys
from pathlib import Path
from rich.progress import Progress
from loading_bay.report.predictions import read_predictions
from loading_bay.report.sources import capture_files
from loading_bay.stack.window import Window
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
files = capture_files(sys.argv[1], Window(), Path(sys.argv[1]).with_name("cache"), Progress(disable=True))
found = read_predictions(files, ("bicycle", "motorcycle"), Window())
print(peak() - before, len(found.table), sum(found.skipped_records().values()), len(found.skipped))
"""


# One kind in each run: the others take seconds each.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "a long id" else pytest.mark.long) for kind in BOMBS]
)
def test_a_small_file_takes_little_memory_whatever_is_in_it(tmp_path: Path, kind: str) -> None:
    place_of = write(tmp_path, place(), gzip.compress(b"".join([lines(record()), *BOMBS[kind]]), 9))
    assert place_of.stat().st_size < 1 << 20

    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=True)

    more, used, counted, named = map(int, done.stdout.split())
    assert more < 40, "megabytes"
    assert used in {1, 2}
    assert counted > 0
    assert named <= 20_001


def test_all_skipped_records_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    again = lines(record(event_id="one"))
    write(tmp_path, place(), b"no\n" * 12_000 + again * 10_500)

    found = read(tmp_path)

    assert found.skipped_records() == {"not_json": 12_000, "duplicate": 10_499}
    assert Counter(each.reason for each in found.skipped) == {"not_json": 10_000, "duplicate": 10_000}
    assert found.records == 22_500


def test_pictures_that_are_all_alike_are_all_used(tmp_path: Path) -> None:
    """Somebody sends one photo a thousand times: gzip shrinks it as well as any bomb."""
    write(tmp_path, place(), gzip.compress(lines(*(record(body=b"\0" * 10_000) for _ in range(1_000))), 9))

    assert len(read(tmp_path).table) == 1_000


def test_a_broken_gzip_file_gives_the_records_before_the_damage(tmp_path: Path) -> None:
    many = lines(*(record(body=bytes([k]) * 3000) for k in range(200)))
    packed = gzip.compress(many)
    write(tmp_path, place(name="a.jsonl.gz"), packed[: len(packed) // 2])
    write(tmp_path, place(name="b.jsonl"), lines(record()))

    found = read(tmp_path)

    assert 1 < len(found.table) < 201
    assert found.skipped_files() == {"damaged": 1}
    assert found.skipped[-1].file == place(name="a.jsonl.gz")


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    write(tmp_path, place(), b"\xef\xbb\xbf" + lines(record(), b"", b"  \t", record()).replace(b"\n", b"\r\n"))

    found = read(tmp_path)

    assert (found.records, len(found.table), found.skipped) == (2, 2, [])


def test_a_line_without_end_is_not_taken_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "LONGEST_LINE", 10_000)
    write(tmp_path, place(), lines(record(), b"x" * 35_000, record()))

    found = read(tmp_path)

    assert [(each.line, each.reason) for each in found.skipped] == [(2, "line_too_long")]
    assert found.table["line"].tolist() == [1, 3]


def test_an_answer_captured_without_its_request_still_counts(tmp_path: Path) -> None:
    captured = record()
    del captured["captureData"]["endpointInput"]
    write(tmp_path, place(), lines(captured))

    assert len(read(tmp_path).table) == 1


def test_records_outside_the_window_are_counted_but_not_used(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(*(record(time=f"2026-11-20T04:{minute}:00Z") for minute in (10, 20, 30))))

    found = read(tmp_path, Window(since=HOUR.replace(minute=20), until=HOUR.replace(minute=30)))

    assert [each.minute for each in found.table["time"].tolist()] == [20]
    assert found.skipped_records() == {"outside_window": 2}


def test_more_than_two_classes(tmp_path: Path) -> None:
    write(tmp_path, place(), lines(record((0.2, 0.3, 0.5)), record((0.5, 0.5))))

    found = read(tmp_path, classes=("bicycle", "motorcycle", "van"))

    assert found.table["vehicle"].tolist() == [2]
    assert found.skipped_records() == {"wrong_number_of_classes": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged_records(draw: st.DrawFn) -> bytes:
    """Return a capture line with one value replaced by anything, bytes flipped, or its end cut off."""
    captured = record(draw(st.text() | st.lists(st.floats(), max_size=3)))
    inner = [captured, captured["eventMetadata"], captured["captureData"], *captured["captureData"].values()]
    branch = draw(st.sampled_from(inner))
    branch[draw(st.sampled_from(sorted(branch)))] = draw(JSON)
    line = bytearray(json.dumps(captured).encode("utf-8", "surrogatepass"))
    for position in draw(st.lists(st.integers(0, len(line) - 1), max_size=3)):
        line[position] = draw(st.integers(0, 255))
    return bytes(line[: draw(st.integers(0, len(line)))])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.binary() | damaged_records() | JSON.map(lambda value: json.dumps(value).encode()), max_size=5)
)
def test_no_line_is_fatal_and_every_record_is_counted(tmp_path: Path, content: list[bytes]) -> None:
    # The first record is valid, because a damaged one could look like the start of a compressed file.
    sound = lines(record(event_id="first"), record(event_id="last")).splitlines()
    write(tmp_path, place(), b"\n".join([sound[0], *content, sound[1]]))

    found = read(tmp_path)

    assert {"first", "last"} <= set(found.table["event_id"])
    assert found.records == len(found.table) + sum(found.skipped_records().values())
    found.write(tmp_path / "predictions.parquet")
    assert len(read_parquet(tmp_path / "predictions.parquet").read_all()) == len(found.table)
