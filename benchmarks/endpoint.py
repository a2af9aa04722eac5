"""The endpoint: the container's server over HTTP, beside the model called directly."""

import asyncio
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from loading_bay.local.processes import end, free_port, start, wait_until_healthy
from training.container.looking import Model, read_photo

from . import machine
from .figures import ROOT, Quartiles
from .results import Reading, Result, Row

MODEL = ROOT / "training" / "model" / "model.onnx"
SERVER = "training.container.serve"
CLIENTS = (1, 16)
SECONDS = 3.0
REACH_OVERHEAD = 2.0
REACH_SHARE = 0.8
# The same two networks, untrained, in the framework that they were trained in.
EAGER = """
import statistics, time, torch
from training.container.detector import Detector
from training.container.network import EfficientNetLite0
from training.container.settings import Settings
torch.set_num_threads(1)
finding, looking = Detector(2).eval(), EfficientNetLite0(3).eval()
frame, side = torch.zeros(1, 3, 320, 416), Settings().square_side
square = torch.zeros(1, 3, side, side)
times = []
with torch.inference_mode():
    for _ in range(60):
        started = time.perf_counter()
        finding(frame)
        looking(square)
        times.append((time.perf_counter() - started) * 1000)
print(statistics.median(times[10:]))
"""


@dataclass(frozen=True)
class Load:
    """The callers' measurements: latencies (ms), answers per second, and processor time per answer (ms)."""

    p50: float
    p99: float
    rate: float
    cpu: float

    @classmethod
    def of(cls, latencies: list[float], seconds: float, cpu_seconds: float) -> "Load":
        """Summarise the latencies (s) of the calls in a number of seconds."""
        p50, p99 = np.percentile(latencies, (50, 99)) * 1000
        return cls(float(p50), float(p99), len(latencies) / seconds, cpu_seconds / len(latencies) * 1000)


def run(runs: int) -> Result:
    """Serve on one and on two cores, to one client and to many, in rounds with direct model calls."""
    before = machine.load()
    rounds, body = max(1, runs // 3), picture()
    cores = sorted(os.sched_getaffinity(0))
    eager = Quartiles.of([_eager() for _ in range(rounds)]) if find_spec("torch") else None
    rows: list[Row] = []
    for count in (1, 2)[: len(cores)]:
        # With one core for the server, the clients get the other core; otherwise they share.
        served, clients_on = set(cores[:count]), set(cores[count:] or cores)
        direct: list[Load] = []
        seen: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder), served) as (port, server):
            for _ in range(rounds):
                with pinned(served):
                    direct.append(call_directly(count))
                with pinned(clients_on):
                    for clients, loads in seen.items():
                        loads.append(asyncio.run(ask(port, server, body, clients)))
        rows += _rows(f"{count} core{'s' if count > 1 else ''}", seen, direct, eager)
    remarks = ["with two cores, server and clients share them, so images/s includes the clients' work"]
    if not eager:
        remarks.append("PyTorch is not installed (make setup-training), so its baseline was skipped")
    return Result("endpoint", "Endpoint: the container's server", rows, before, remarks)


def picture() -> bytes:
    """Return a photo as SerializePhoto sends it: all of it, its longest side reduced to 416 pixels (JPEG)."""
    with Image.open(ROOT / "events" / "photos" / "bicycle-road.jpg") as image:
        image.thumbnail((416, 416))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Keep this process and its new children on some cores."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)


@contextmanager
def serving(folder: Path, cores: set[int]) -> Iterator[tuple[int, psutil.Process]]:
    """Run the container's server on some cores; yield its port and its process."""
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", SERVER, "serve", "--model", str(MODEL), "--host", "127.0.0.1", "--port", str(port)]
    with pinned(cores):
        process = start(command, log, folder=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/ping", process, log)
        yield port, process
    finally:
        end(folder)


class Connection:
    """A client's connection, kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader, self._writer = reader, writer
        head = "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    @classmethod
    async def open(cls, port: int, body: bytes) -> "Connection":
        """Connect, and prepare requests with this picture."""
        return cls(*await asyncio.open_connection("127.0.0.1", port), body)

    async def ask(self) -> None:
        """Send one request and read its answer.

        Raises:
            RuntimeError: the server does not answer 200.
        """
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:40]!r}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


async def ask(port: int, server: psutil.Process, body: bytes, clients: int) -> Load:
    """Let some clients send requests for SECONDS, each right after its last answer."""
    latencies: list[float] = []

    async def client(deadline: float) -> None:
        connection = await Connection.open(port, body)
        while (asked := time.perf_counter()) < deadline:
            await connection.ask()
            latencies.append(time.perf_counter() - asked)
        connection.close()

    cpu, started = sum(server.cpu_times()[:2]), time.perf_counter()
    await asyncio.gather(*(client(started + SECONDS) for _ in range(clients)))
    return Load.of(latencies, time.perf_counter() - started, sum(server.cpu_times()[:2]) - cpu)


async def ask_for(port: int, body: bytes, requests: int) -> None:
    """Let one client send a number of requests."""
    connection = await Connection.open(port, body)
    for _ in range(requests):
        await connection.ask()
    connection.close()


def call_directly(threads: int) -> Load:
    """Run the model on decoded pixels in several threads for SECONDS: no server can be faster."""
    model = Model.load(MODEL, 1)
    pixels = read_photo(picture(), ("JPEG",))

    def call(deadline: float) -> list[float]:
        latencies = []
        while (started := time.perf_counter()) < deadline:
            model.look(pixels)
            latencies.append(time.perf_counter() - started)
        return latencies

    cpu, started = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(call, started + SECONDS) for _ in range(threads)]
        latencies = [latency for each in calls for latency in each.result()]
    return Load.of(latencies, time.perf_counter() - started, time.process_time() - cpu)


def _eager() -> float:
    """Return the median time per image in PyTorch on one thread (ms)."""
    command = [sys.executable, "-c", EAGER]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def _rows(cores: str, seen: dict[int, list[Load]], direct: list[Load], eager: Quartiles | None) -> Iterator[Row]:
    latency = Quartiles.of([load.p50 for load in direct])
    rate = Quartiles.of([load.rate for load in direct])
    for clients, loads in seen.items():
        name = f"{cores}, {clients} client{'s' if clients > 1 else ''}"
        p50, p99 = Quartiles.of([load.p50 for load in loads]), Quartiles.of([load.p99 for load in loads])
        alone = clients == 1
        yield Row(
            f"{name}, latency p50",
            "ms",
            p50,
            Reading("PyTorch eager", eager) if eager and alone else None,
            Reading("model called directly", latency) if alone else None,
            f"≤ limit + {REACH_OVERHEAD:g} ms" if alone else "",
            p50.median - latency.median <= REACH_OVERHEAD if alone else None,
        )
        yield Row(f"{name}, latency p99", "ms", p99)
        answered = Quartiles.of([load.rate for load in loads])
        yield Row(
            f"{name}, images/s",
            "/s",
            answered,
            None,
            Reading("model called directly", rate),
            "" if alone else f"≥ {REACH_SHARE:.0%} of limit",
            None if alone else answered.median >= REACH_SHARE * rate.median,
            f"{statistics.median(load.cpu for load in loads):.2f} ms of the server's processor time per image,  "
            f"{statistics.median(load.cpu for load in direct):.2f} ms called directly",
        )
