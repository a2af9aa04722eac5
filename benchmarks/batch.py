"""ClassifyBatch on the local stack: photos per second by concurrency and by size, and memory use."""

import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from loading_bay.local import processes
from loading_bay.local.stack import AWS_COMMAND, Options, Stack
from loading_bay.operations.batch import Batch

from . import machine
from .figures import ROOT, Quartiles
from .results import Reading, Result, Row

CONCURRENCIES = (1, 4, 8, 16)
SIZES = (1000, 5000)
SMALL = 100
# The template's default concurrency.
USUAL = 8
PHOTO = ROOT / "events" / "photos" / "bicycle-road.jpg"
REACH_OF_MEMORY = 1.25
REACH_OF_CORES = 0.8


@dataclass(frozen=True)
class BatchRun:
    """One batch: photos per second, processor time per photo (s), peak memory of the stack and the local AWS (MiB)."""

    rate: float
    cpu: float
    memory: float
    emulator: float


def run(runs: int) -> Result:
    """Run small batches at every concurrency, and large ones at the default."""
    before = machine.load()
    rounds = max(1, runs // 5)
    small: dict[int, list[BatchRun]] = {}
    large: dict[int, BatchRun] = {}
    for concurrency in CONCURRENCIES:
        with deployed(concurrency) as stack:
            classify(stack, 4 * concurrency)  # the functions' processes start
            small[concurrency] = [classify(stack, SMALL) for _ in range(rounds)]
            if concurrency == USUAL:
                large = {size: classify(stack, size) for size in SIZES}
    return Result("batch", "ClassifyBatch on the local stack", list(_rows(small, large)), before)


@contextmanager
def deployed(concurrency: int) -> Iterator[Stack]:
    """Start a stack with this concurrency, which the local AWS reads only from a Map's definition."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(parameters={"BatchMaxConcurrency": str(concurrency)}, capture_percentage=0)
        stack = Stack.up(Path(folder), options, say=lambda _: None)
        try:
            yield stack
        finally:
            stack.down()


def classify(stack: Stack, photos: int) -> BatchRun:
    """Upload photos outside the upload prefix, then classify them as one batch."""
    prefix = f"backfill/{uuid.uuid4().hex}/"
    s3, body = stack.client("s3"), PHOTO.read_bytes()
    with ThreadPoolExecutor(8) as pool:
        keys = [f"{prefix}{index}.jpg" for index in range(photos)]
        list(pool.map(lambda key: s3.put_object(Bucket=stack.outputs["InboxBucket"], Key=key, Body=body), keys))
    with Watch(stack) as watch:
        started = time.monotonic()
        batch = Batch.start(stack.deployed, prefix=prefix)
        while batch.status() == "RUNNING":
            time.sleep(0.1)
        seconds = time.monotonic() - started
    summary = batch.summary()
    if int(summary["photos"]) != photos or batch.status() != "SUCCEEDED":
        raise RuntimeError(f"the batch of {photos} photos ended as {summary}")
    return BatchRun(photos / seconds, watch.cpu / photos, watch.peak, watch.peak_emulator)


class Watch:
    """Samples the memory and sums the processor time of a stack's processes while a block runs."""

    def __init__(self, stack: Stack) -> None:
        by_program = {process.cmdline()[2]: process for process in processes.of_stack(stack.folder)}
        self._emulator, self._endpoint = by_program[AWS_COMMAND[2]], by_program["loading_bay.local.endpoint"]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = self.peak_emulator = self.cpu = 0.0

    def __enter__(self) -> "Watch":
        """Start."""
        self.cpu = -self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()
        self.cpu += self._cpu()

    def _processes(self) -> list[psutil.Process]:
        return [self._endpoint, *self._emulator.children(recursive=True)]

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in [self._emulator, *self._processes()])

    def _sample(self) -> None:
        while not self._ended.wait(1):
            # Proportional set size counts shared memory once.
            memory = sum(process.memory_full_info().pss for process in self._processes()) / 2**20
            self.peak = max(self.peak, memory)
            self.peak_emulator = max(self.peak_emulator, self._emulator.memory_full_info().pss / 2**20)


def _rows(small: dict[int, list[BatchRun]], large: dict[int, BatchRun]) -> Iterator[Row]:
    cores = psutil.cpu_count() or 1
    one = Reading("one after the other", Quartiles.of([each.rate for each in small[1]]))
    for concurrency, measured in small.items():
        limit = Quartiles.of([cores / each.cpu for each in measured])
        rate = Quartiles.of([each.rate for each in measured])
        asked = concurrency == max(small)
        yield Row(
            f"{SMALL} photos, {concurrency} at once",
            "photos/s",
            rate,
            one,
            Reading(f"{cores} cores at work", limit),
            f"≥ {REACH_OF_CORES:.0%} of limit" if asked else "",
            rate.median >= REACH_OF_CORES * limit.median if asked else None,
        )
    memory = Reading(f"{SMALL} photos", Quartiles.of([each.memory for each in small[USUAL]]))
    for size, measured_once in large.items():
        yield Row(
            f"{size:,} photos, {USUAL} at once",
            "photos/s",
            Quartiles.of([measured_once.rate]),
            one,
            Reading(f"{cores} cores at work", Quartiles.of([cores / measured_once.cpu])),
        )
        yield Row(
            f"{size:,} photos, memory of functions and endpoint",
            "MiB",
            Quartiles.of([measured_once.memory]),
            memory,
            reach=f"≤ {REACH_OF_MEMORY} × {SMALL} photos",
            reached=measured_once.memory <= REACH_OF_MEMORY * memory.figure.median,
            note=f"the local AWS itself, which keeps every execution: {measured_once.emulator:,.0f} MiB",
        )
