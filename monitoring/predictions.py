"""The streaming pass: all captures of a source become one table, in which each record is used once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from stack.window import Window

from .captures import Captured, UnreadableCaptureError, read
from .sources import CaptureFile, SkippedFile

# Python lists hold a record in some 300 bytes, the table in some 100: rows move over this often.
ROWS_A_CHUNK = 50_000


class SkippedRecord(NamedTuple):
    """A record, or a file as a whole (line None), that is not used."""

    file: str
    line: int | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Predictions:
    """Every prediction of a source within the window, and what was passed over on the way.

    `table` has one row a prediction, in order of time: `event_id`, `inference_id` (what the caller named the call,
    or null), `time` (UTC, without a zone), `vehicle`
    (an index into `class_names`), `confidence` (the highest probability), `p_0`, `p_1` … (one column a
    class), `file` (an index into `files`), `line` (from 1), `retimed` (its time is its folder's hour, for
    its own clock was off).

    `records` counts every line that is not blank: it is the rows of `table`, the skipped records and those
    `outside` the window together. `ids` counts the distinct event ids of all records.
    """

    class_names: tuple[str, ...]
    table: pl.DataFrame
    files: list[CaptureFile]
    skipped: list[SkippedRecord]
    records: int
    ids: int
    outside: int

    def skipped_records(self) -> dict[str, int]:
        """How many records were not used, by reason, the most frequent first."""
        reasons = Counter(each.reason for each in self.skipped if each.line is not None)
        if self.outside:
            reasons["outside_window"] = self.outside
        return dict(reasons.most_common())

    def skipped_files(self) -> dict[str, int]:
        """How many files could not be read, or not to their end, by reason."""
        return dict(Counter(each.reason for each in self.skipped if each.line is None).most_common())

    def probabilities(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return all probabilities, shape (predictions, classes)."""
        return self.table.select(pl.col(f"p_{k}") for k in range(len(self.class_names))).to_numpy()

    def write(self, path: Path) -> None:
        """Write the table as Parquet, with names in place of indices and UTC in its times."""
        places = pl.DataFrame(
            {
                "file": pl.Series(range(len(self.files)), dtype=pl.UInt32),
                "path": pl.Series([each.name for each in self.files], dtype=pl.Categorical),
                "endpoint": pl.Series([each.endpoint for each in self.files], dtype=pl.Categorical),
                "variant": pl.Series([each.variant for each in self.files], dtype=pl.Categorical),
            }
        )
        self.table.join(places, on="file", how="left", maintain_order="left").select(
            "event_id",
            "inference_id",
            pl.col("time").dt.replace_time_zone("UTC"),
            "endpoint",
            "variant",
            pl.col("vehicle").replace_strict(
                range(len(self.class_names)), self.class_names, return_dtype=pl.Categorical
            ),
            "confidence",
            *(pl.col(f"p_{k}").alias(f"p_{name}") for k, name in enumerate(self.class_names)),
            pl.col("path").alias("file"),
            "line",
            "retimed",
        ).write_parquet(path)


@dataclass(slots=True)
class _Chunk:
    ids: list[str] = field(default_factory=list)
    inference_ids: list[str | None] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    retimed: list[bool] = field(default_factory=list)

    def table(self, classes: int) -> pl.DataFrame:
        scores = np.array(self.probabilities, dtype=np.float64).reshape(-1, classes)
        return pl.DataFrame(
            {
                "event_id": pl.Series(self.ids, dtype=pl.String),
                "inference_id": pl.Series(self.inference_ids, dtype=pl.String),
                "time": pl.Series(self.times, dtype=pl.Int64).cast(pl.Datetime("us")),
                "vehicle": pl.Series(scores.argmax(axis=1) if len(scores) else [], dtype=pl.UInt16),
                "confidence": pl.Series(scores.max(axis=1) if len(scores) else [], dtype=pl.Float64),
                **{f"p_{k}": np.ascontiguousarray(scores[:, k]) for k in range(classes)},
                "file": pl.Series(self.files, dtype=pl.UInt32),
                "line": pl.Series(self.lines, dtype=pl.UInt32),
                "retimed": pl.Series(self.retimed, dtype=pl.Boolean),
            }
        )


def read_predictions(
    found: Iterable[CaptureFile | SkippedFile], class_names: tuple[str, ...], window: Window
) -> Predictions:
    """Read all files once, in the order given; of several records with one event id the first is used."""
    classes = len(class_names)
    files: list[CaptureFile] = []
    skipped: list[SkippedRecord] = []
    chunk = _Chunk()
    parts: list[pl.DataFrame] = []
    unused_ids: list[str] = []
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
                if isinstance(item, Captured):
                    chunk.ids.append(item.event_id)
                    chunk.inference_ids.append(item.inference_id)
                    chunk.times.append(item.time)
                    chunk.probabilities.append(item.probabilities)
                    chunk.files.append(number)
                    chunk.lines.append(item.line)
                    chunk.retimed.append(item.retimed)
                    if len(chunk.ids) >= ROWS_A_CHUNK:
                        parts.append(chunk.table(classes))
                        chunk = _Chunk()
                else:
                    skipped.append(SkippedRecord(each.name, item.line, item.reason, item.detail))
                    if item.event_id is not None:
                        unused_ids.append(item.event_id)
        except UnreadableCaptureError as error:
            skipped.append(SkippedRecord(each.name, None, error.reason, f"line {error.line}: {error.detail}"))
    parts.append(chunk.table(classes))
    table = pl.concat(parts)
    ids = pl.concat([table["event_id"], pl.Series(unused_ids, dtype=pl.String)]).n_unique()
    first = table["event_id"].is_first_distinct()
    skipped += _duplicates(table.filter(~first), table, files)
    table = table.filter(first)
    inside = _inside(table, window)
    return Predictions(
        class_names=class_names,
        table=table.filter(inside).sort("time", maintain_order=True),
        files=files,
        skipped=skipped,
        records=records,
        ids=ids,
        outside=len(table) - int(inside.sum()),
    )


def _duplicates(again: pl.DataFrame, table: pl.DataFrame, files: list[CaptureFile]) -> list[SkippedRecord]:
    firsts = table.join(again.select("event_id").unique(), on="event_id", how="semi").unique(
        "event_id", keep="first", maintain_order=True
    )
    pairs = again.join(firsts, on="event_id", suffix="_first", maintain_order="left")
    return [
        SkippedRecord(
            files[row["file"]].name,
            row["line"],
            "duplicate",
            f"event {row['event_id']} is in {files[row['file_first']].name}, line {row['line_first']}",
        )
        for row in pairs.select("file", "line", "event_id", "file_first", "line_first").iter_rows(named=True)
    ]


def _inside(table: pl.DataFrame, window: Window) -> pl.Series:
    inside = pl.repeat(True, len(table), eager=True)
    if window.since is not None:
        inside &= table["time"] >= _plain(window.since)
    if window.until is not None:
        inside &= table["time"] < _plain(window.until)
    return inside


def _plain(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
