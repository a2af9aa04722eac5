"""Streams all captures of a source into one table, in which each record is used once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from arro3.core import Array, DataType, Table
from arro3.io import write_parquet
from numpy.typing import NDArray

from loading_bay.stack.window import Window

from .captures import Captured, Skipped, UnreadableCaptureError, read
from .sources import CaptureFile, SkippedFile

# A record takes about 300 bytes in Python lists and 100 in the table, so rows move to the table in chunks of this size.
ROWS_A_CHUNK = 10_000
# A megabyte of gzip can contain millions of lines that are not records, or one record a million times.
MOST_NAMED = 10_000
DUPLICATE = "duplicate"


class SkippedRecord(NamedTuple):
    """A record, or a whole file (line None), that is not used."""

    file: str
    line: int | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """Every prediction of a source in the window, and the skipped records and files.

    `table` has one row per prediction, in order of time: `event_id`, `inference_id` (the caller's name for the call,
    or None), `time` (UTC, without a zone), `vehicle` (an index into `class_names`), `confidence` (the highest
    probability), `scores` (the probability of each class), `file` (an index into `files`), `line` (from 1), `retimed`
    (the time is the hour of its folder, because the record's time was wrong).

    `skipped` names the first 10,000 skipped records, the first 10,000 repeated ones, and every skipped file; `reasons`
    counts all of these records. `records` counts all non-blank lines: the rows of `table`, the skipped records, and the
    records `outside` the window. `ids` counts the distinct event ids of all records.
    """

    class_names: tuple[str, ...]
    table: NDArray[np.void]
    files: list[CaptureFile]
    skipped: list[SkippedRecord]
    reasons: Counter[str]
    records: int
    ids: int
    outside: int

    def skipped_records(self) -> dict[str, int]:
        """Count the skipped records by reason, the most frequent first."""
        outside = Counter({"outside_window": self.outside})
        return dict((self.reasons + outside).most_common())

    def skipped_files(self) -> dict[str, int]:
        """Count the files that could not be read completely, by reason."""
        return dict(Counter(each.reason for each in self.skipped if each.line is None).most_common())

    def write(self, path: Path) -> None:
        """Write the table as Parquet, with names in place of indices, and times in UTC."""
        table = self.table
        columns: dict[str, Any] = {
            "event_id": _texts(table["event_id"]),
            "inference_id": _texts(table["inference_id"]),
            "time": _numbers(table["time"]).cast(DataType.timestamp("us", tz="UTC")),
            "endpoint": _texts(_chosen([each.endpoint for each in self.files], table["file"])),
            "variant": _texts(_chosen([each.variant for each in self.files], table["file"])),
            "vehicle": _texts(_chosen(self.class_names, table["vehicle"])),
            "confidence": _numbers(table["confidence"]),
            **{f"p_{name}": _numbers(table["scores"][:, k]) for k, name in enumerate(self.class_names)},
            "file": _texts(_chosen([each.name for each in self.files], table["file"])),
            "line": _numbers(table["line"]),
            "retimed": _numbers(table["retimed"]),
        }
        write_parquet(Table.from_pydict(columns), path, compression="zstd(3)")


def _chosen(texts: Sequence[str], indices: NDArray[np.integer]) -> NDArray[np.object_]:
    chosen: NDArray[np.object_] = np.array(texts, dtype=object)[indices]
    return chosen


def _texts(column: NDArray[np.object_]) -> Array:
    return Array(column.tolist(), DataType.string())


def _numbers(column: NDArray[np.generic]) -> Array:
    return Array.from_numpy(np.ascontiguousarray(column))


@dataclass(slots=True)
class _Chunk:
    ids: list[str] = field(default_factory=list)
    inference_ids: list[str | None] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    retimed: list[bool] = field(default_factory=list)

    def table(self, classes: int) -> NDArray[np.void]:
        table = np.empty(
            len(self.ids),
            dtype=[
                ("event_id", "O"),
                ("inference_id", "O"),
                ("time", "M8[us]"),
                ("vehicle", "u2"),
                ("confidence", "f8"),
                ("scores", "f8", (classes,)),
                ("file", "u4"),
                ("line", "u4"),
                ("retimed", "?"),
            ],
        )
        scores = np.array(self.scores).reshape(-1, classes)
        table["event_id"], table["inference_id"] = self.ids, self.inference_ids
        table["time"] = np.array(self.times, dtype="M8[us]")
        table["vehicle"], table["confidence"], table["scores"] = scores.argmax(axis=1), scores.max(axis=1), scores
        table["file"], table["line"], table["retimed"] = self.files, self.lines, self.retimed
        return table


def read_predictions(
    found: Iterable[CaptureFile | SkippedFile], class_names: tuple[str, ...], window: Window
) -> Predictions:
    """Read all files once, in the given order; of several records with the same event id, the first is used."""
    classes = len(class_names)
    files: list[CaptureFile] = []
    skipped: list[SkippedRecord] = []
    reasons: Counter[str] = Counter()
    chunk = _Chunk()
    parts: list[NDArray[np.void]] = []
    ids: set[str] = set()
    unused_ids: set[str] = set()
    again: list[tuple[CaptureFile, Captured]] = []
    records = 0
    for each in found:
        if isinstance(each, SkippedFile):
            skipped.append(SkippedRecord(each.name, None, each.reason, each.detail))
            continue
        number = len(files)
        files.append(each)
        try:
            for item in read(each, classes):
                records += 1
                if isinstance(item, Skipped):
                    if reasons.total() - reasons[DUPLICATE] < MOST_NAMED:
                        skipped.append(SkippedRecord(each.name, item.line, item.reason, item.detail))
                    reasons[item.reason] += 1
                    if item.event_id is not None:
                        unused_ids.add(item.event_id)
                elif item.event_id in ids:
                    if len(again) < MOST_NAMED:
                        again.append((each, item))
                    reasons[DUPLICATE] += 1
                else:
                    ids.add(item.event_id)
                    chunk.ids.append(item.event_id)
                    chunk.inference_ids.append(item.inference_id)
                    chunk.times.append(item.time)
                    chunk.scores.append(item.probabilities)
                    chunk.files.append(number)
                    chunk.lines.append(item.line)
                    chunk.retimed.append(item.retimed)
                    if len(chunk.ids) >= ROWS_A_CHUNK:
                        parts.append(chunk.table(classes))
                        chunk = _Chunk()
        except UnreadableCaptureError as error:
            skipped.append(SkippedRecord(each.name, None, error.reason, f"line {error.line}: {error.detail}"))
    parts.append(chunk.table(classes))
    table = np.concatenate(parts)
    skipped += _duplicates(again, table, files)
    inside = _inside(table["time"], window)
    chosen = table[inside]
    return Predictions(
        class_names=class_names,
        table=chosen[chosen["time"].argsort(kind="stable")],
        files=files,
        skipped=skipped,
        reasons=reasons,
        records=records,
        ids=len(ids | unused_ids),
        outside=len(table) - len(chosen),
    )


def _duplicates(
    again: Sequence[tuple[CaptureFile, Captured]], table: NDArray[np.void], files: Sequence[CaptureFile]
) -> Iterator[SkippedRecord]:
    wanted = {item.event_id for _, item in again}
    first = {event_id: k for k, event_id in enumerate(table["event_id"]) if event_id in wanted}
    for file, item in again:
        row = table[first[item.event_id]]
        place = f"{files[row['file']].name}, line {row['line']}"
        yield SkippedRecord(file.name, item.line, DUPLICATE, f"event {item.event_id} is in {place}")


def _inside(times: NDArray[np.datetime64], window: Window) -> NDArray[np.bool_]:
    inside = np.full(len(times), True)
    if window.since is not None:
        inside &= times >= plain(window.since)
    if window.until is not None:
        inside &= times < plain(window.until)
    return inside


def plain(moment: datetime) -> np.datetime64:
    """Return a time in the table's form: UTC, without a zone."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def utc(moment: np.datetime64) -> datetime:
    """Return a time from the table with its zone, UTC."""
    plain_moment: datetime = moment.astype("M8[us]").item()
    return plain_moment.replace(tzinfo=UTC)
