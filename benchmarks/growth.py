"""How time grows with size: each thing at 1×, 10× and 100×, and the exponent that fits."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

from functions.serialize.photo import central_square

from . import batch, captures, endpoint, machine, serialize
from .figures import Figure, cpu_milliseconds, exponent, interleave, three_digits
from .results import Result, Row

# 0.5, 5 and 50 megapixels.
SIDES = ((816, 612), (2580, 1935), serialize.LARGEST)
REQUESTS = (30, 300, 3000)
PHOTOS = (10, 100, 1000)
RECORDS = (1_000, 10_000, 100_000)
# A time that grows with the square of a hundred times the size is a thousand times too long; noise is not that much.
LINEAR = 1.1


def run(runs: int) -> Result:
    """Take the times of every size in rounds; batches are long and run once."""
    before = machine.load()
    rounds = max(1, runs // 5)
    rows = [
        _row("serialize a JPEG", "pixels", [width * height for width, height in SIDES], "ms CPU", _serialize(rounds)),
        _row("ask the endpoint", "requests", REQUESTS, "s", _endpoint(rounds)),
        _row("read captures", "records", RECORDS, "s", _captures(rounds)),
        _row("classify a batch", "photos", PHOTOS, "s", _batches()),
    ]
    return Result("growth", "Growth: time over size", rows, before)


def _serialize(rounds: int) -> list[Figure]:
    data = {str(side): serialize.photo("JPEG", side) for side in SIDES}
    work = {
        name: cpu_milliseconds(partial(central_square, photo, size=serialize.SIZE, max_pixels=serialize.MAX_PIXELS))
        for name, photo in data.items()
    }
    return list(interleave(work, 3 * rounds).values())


def _endpoint(rounds: int) -> list[Figure]:
    body = endpoint.picture()
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint.serving(Path(folder), os.sched_getaffinity(0)) as (port, _),
    ):
        work = {str(count): _seconds(partial(_ask, port, body, count)) for count in REQUESTS}
        return list(interleave(work, rounds).values())


def _ask(port: int, body: bytes, count: int) -> None:
    asyncio.run(endpoint.ask_for(port, body, count))


def _captures(rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as made, redirect_stdout(StringIO()):
        work = {}
        for records in RECORDS:
            folder = Path(made, str(records))
            folder.mkdir()
            captures.write_captures(folder, records)
            work[str(records)] = _seconds(partial(captures.streaming_pass, folder))
        for measure in work.values():
            measure()  # modules load at their first use
        return list(interleave(work, rounds).values())


def _batches() -> list[Figure]:
    with batch.deployed(batch.USUAL) as stack:
        batch.classify(stack, 4 * batch.USUAL)  # the functions' processes start
        return [Figure.of([photos / batch.classify(stack, photos).rate]) for photos in PHOTOS]


def _seconds(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measure


def _row(what: str, unit: str, sizes: Sequence[int], time_unit: str, times: list[Figure]) -> Row:
    found = exponent(sizes, [each.median for each in times])
    seen = ", ".join(
        f"{size:,} {unit} {three_digits(t.median)} {time_unit}" for size, t in zip(sizes, times, strict=True)
    )
    return Row(what, "", Figure.of([found]), reach=f"≤ {LINEAR}", reached=found <= LINEAR, note=seen)
