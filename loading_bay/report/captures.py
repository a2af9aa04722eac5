"""Reads a SageMaker capture file: each record becomes a prediction, or is skipped with a reason."""

import base64
import gzip
import io
import math
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from .sources import CLOCK_TOLERANCE, CaptureFile

# SageMaker accepted requests of 6 MB for years, a third more in base64; a longer line is not a capture record.
LONGEST_LINE = 8 << 20
# A picture of 4 MiB, in base64; a larger one is counted, but not shown.
LONGEST_PICTURE = (4 << 20) * 4 // 3
# A kilobyte of gzip may contain a megabyte of one answer, so only a record's picture may be large.
MOST_BESIDE_PICTURE = 64 << 10
# gzip shrinks junk a thousandfold: a file with more junk than so many times its size is given up.
MOST_EXPANSION = 50
SMALL = 1 << 20  # bytes of junk that any file may have
# An event's id is a UUID.
LONGEST_ID = 64
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
LONGEST_INFERENCE_ID = 64
# Softmax in 32-bit floats, rounded to a few decimals by some servers, still sums to 1 within this tolerance.
SUM_TOLERANCE = 0.01
# Times outside these years come from a broken clock.
PLAUSIBLE_YEARS = range(2000, 2100)

MAY_BE_AN_IMAGE = {"", "application/x-image", "application/octet-stream", "binary/octet-stream"}
_SCORE_KEYS = ("prediction", "predictions", "probabilities", "scores")
_READ_AHEAD = 1 << 20
_TOO_LONG = b"(too long)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Captured(NamedTuple):
    """A usable prediction: `time` in µs since 1970 UTC; `probabilities` in the order of the classes.

    `inference_id` is the caller's name for the call; for the workflow, the photo's claim. `retimed` means that the
    record's time was missing or wrong, and `time` is the hour of its folder.
    """

    line: int
    event_id: str
    inference_id: str | None
    time: int
    probabilities: list[float]
    retimed: bool


class Skipped(NamedTuple):
    """A record that is not used: its line (from 1), and the reason as in metrics.json.

    `event_id` is None if it cannot be read.
    """

    line: int
    reason: str
    detail: str
    event_id: str | None


class UnreadableCaptureError(Exception):
    """The file cannot be read from `line` on; `reason` is as in metrics.json."""

    def __init__(self, reason: str, line: int, detail: str) -> None:
        super().__init__(reason, line, detail)
        self.reason, self.line, self.detail = reason, line, detail


class _Input(msgspec.Struct, rename="camel"):
    # `data` is left out on purpose, so the decoder skips the photo without copying it.
    observed_content_type: str | None = None


class _Output(msgspec.Struct):
    data: str | list[object] | dict[str, object] | None = None
    encoding: str | None = None


class _CaptureData(msgspec.Struct, rename="camel"):
    endpoint_output: _Output
    endpoint_input: _Input | None = None


class _EventMetadata(msgspec.Struct, rename="camel"):
    event_id: str
    inference_id: str | None = None
    inference_time: str | None = None


class _Record(msgspec.Struct, rename="camel"):
    capture_data: _CaptureData
    event_metadata: _EventMetadata


class _Sized(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()  # a view of the line, not a copy


class _SizedData(msgspec.Struct, rename="camel"):
    endpoint_input: _Sized | None = None


class _SizedRecord(msgspec.Struct, rename="camel"):
    capture_data: _SizedData | None = None

    @property
    def picture(self) -> int:
        request = self.capture_data and self.capture_data.endpoint_input
        return len(memoryview(request.data)) if request else 0


class _Photo(msgspec.Struct):
    data: msgspec.Raw
    encoding: str


class _PhotoData(msgspec.Struct, rename="camel"):
    endpoint_input: _Photo


class _PhotoRecord(msgspec.Struct, rename="camel"):
    capture_data: _PhotoData


_decode_record = msgspec.json.Decoder(_Record).decode
_decode_sizes = msgspec.json.Decoder(_SizedRecord).decode
_decode_photo = msgspec.json.Decoder(_PhotoRecord).decode
_decode_scores = msgspec.json.Decoder(list[float]).decode


class _UnusableError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read(file: CaptureFile, classes: int) -> Iterator[Captured | Skipped]:
    """Yield the content of each record in a file, which may be compressed with gzip.

    `classes` is the number of probabilities in an answer. Blank lines are not records. Raises UnreadableCaptureError
    if the file cannot be read on; all earlier records have been yielded by then.

    Source of the format: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-interpreting-results.html
    and 73 records of real endpoints.
    """
    number = 0
    try:
        left = max(MOST_EXPANSION * Path(file.path).stat().st_size, SMALL)
        for number, line in _lines(Path(file.path)):
            if left < 0:
                raise UnreadableCaptureError(
                    "damaged", number, f"it has more than {MOST_EXPANSION} times its size of junk"
                )
            if not line or line.isspace():
                left -= len(line)
                continue
            event_id = None
            try:
                record = _record(line)
                event_id = record.event_metadata.event_id
                scores = _probabilities(record.capture_data, classes)
                time, retimed = _time(record.event_metadata.inference_time, file.hour)
                yield Captured(number, event_id, record.event_metadata.inference_id, time, scores, retimed)
            except _UnusableError as unusable:
                left -= len(line)
                yield Skipped(number, unusable.reason, unusable.detail, event_id)
    except (EOFError, zlib.error, gzip.BadGzipFile) as damage:
        raise UnreadableCaptureError("damaged", number + 1, f"gzip: {damage}") from damage
    except OSError as error:
        raise UnreadableCaptureError("unreadable", number + 1, error.strerror or str(error)) from error


def photos(file: CaptureFile, lines: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the request bodies of these lines of a file, each with its line; lines without a body are left out.

    `lines` has at least one line, and only lines that `read` found to be predictions.
    """
    last = max(lines)
    with suppress(OSError):  # the file may have been deleted since; its predictions still count
        for number, line in _lines(Path(file.path)):
            if number in lines and (body := _body(line)) is not None:
                yield number, body
            if number >= last:
                break


def _body(line: bytes) -> bytes | None:
    try:
        photo = _decode_photo(line).capture_data.endpoint_input
        text = memoryview(photo.data)
        if photo.encoding != "BASE64" or len(text) > LONGEST_PICTURE:
            return None
        return base64.b64decode(msgspec.json.decode(photo.data, type=str), validate=True)
    except (msgspec.MsgspecError, ValueError):  # answers may be captured without their requests
        return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with io.BufferedReader(io.FileIO(path), _READ_AHEAD) as raw:
        # Recognised by its first bytes, because a gzip file may have any name.
        compressed = raw.peek(2)[:2] == b"\x1f\x8b"
        stream = gzip.GzipFile(fileobj=raw) if compressed else raw
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                line = _TOO_LONG
                while (rest := stream.readline(_READ_AHEAD)) and not rest.endswith(b"\n"):
                    pass
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _record(line: bytes) -> _Record:
    if line is _TOO_LONG:
        raise _UnusableError("line_too_long", f"longer than {LONGEST_LINE >> 20} MiB")
    try:
        if len(line) > MOST_BESIDE_PICTURE and len(line) - _decode_sizes(line).picture > MOST_BESIDE_PICTURE:
            raise _UnusableError("not_a_capture", f"more than {MOST_BESIDE_PICTURE >> 10} KiB beside the picture")
        record = _decode_record(line)
    except msgspec.ValidationError as error:
        raise _UnusableError("not_a_capture", _short(error)) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _UnusableError("not_json", _short(error)) from error
    length = len(record.event_metadata.event_id)
    if not 0 < length <= LONGEST_ID:
        raise _UnusableError("not_a_capture", f"an event id of {length} characters")
    if len(record.event_metadata.inference_id or "") > LONGEST_INFERENCE_ID:
        raise _UnusableError("not_a_capture", f"an inference id longer than {LONGEST_INFERENCE_ID} characters")
    return record


@lru_cache(64)  # there are few types, and a million checks take a second
def _is_image(content_type: str | None) -> bool:
    if content_type is None:
        return True
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("image/") or kind in MAY_BE_AN_IMAGE


def _probabilities(captured: _CaptureData, classes: int) -> list[float]:
    request, output = captured.endpoint_input, captured.endpoint_output
    if request is not None and not _is_image(request.observed_content_type):
        raise _UnusableError("not_an_image", f"the request is {_short(request.observed_content_type)}")
    data = output.data
    try:
        if isinstance(data, str):
            # Without CaptureContentTypeHeader in its configuration, an endpoint captures even JSON as base64.
            text = base64.b64decode(data, validate=True) if output.encoding == "BASE64" else data
            if output.encoding == "CSV":
                text = f"[{data}]"
            try:
                scores = _decode_scores(text)
            except msgspec.ValidationError:
                scores = msgspec.convert(_unwrapped(msgspec.json.decode(text)), list[float])
        else:
            scores = msgspec.convert(_unwrapped(data), list[float])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _UnusableError("not_probabilities", _short(error)) from error
    if len(scores) != classes:
        raise _UnusableError("wrong_number_of_classes", f"{len(scores)} scores for {classes} classes")
    if not all(0 <= score <= 1 for score in scores) or not math.isclose(sum(scores), 1, abs_tol=SUM_TOLERANCE):
        raise _UnusableError("not_probabilities", f"{_short(scores)} is not a distribution over the classes")
    return scores


def _unwrapped(value: object) -> object:
    """Unwrap scores from `{"prediction": […]}`, or from a batch of one, `[[…]]`."""
    if isinstance(value, dict):
        value = next((value[key] for key in _SCORE_KEYS if key in value), value)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return value[0]
    return value


def _time(text: str | None, hour: datetime | None) -> tuple[int, bool]:
    moment = _parsed(text)
    if hour is None:
        if moment is None:
            raise _UnusableError("no_time", f"inferenceTime is {_short(text)}")
        return (moment - _EPOCH) // _MICROSECOND, False
    if moment is None or not -CLOCK_TOLERANCE <= moment - hour <= timedelta(hours=1) + CLOCK_TOLERANCE:
        return (hour - _EPOCH) // _MICROSECOND, True
    return (moment - _EPOCH) // _MICROSECOND, False


def _parsed(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if moment.year not in PLAUSIBLE_YEARS:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
