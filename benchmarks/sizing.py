"""Time and price of each function by memory size, which sets the processor share on Lambda.

Warm processor time and cold start are measured; their increase with less than a whole core is computed:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html gives one vCPU at 1,769 MB.
"""

import importlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loading_bay.stack.prices import Prices
from loading_bay.stack.template import read_template

from . import machine
from .cold_start import FUNCTIONS, SETTINGS, LambdaService, subjects
from .figures import ROOT, Quartiles, processor_seconds, three_digits
from .results import Result, Row

MEGABYTES_OF_A_CORE = 1769
MEMORY_SIZES = (128, 256, 512, 1024, 1769, 3008)
# Time to wait for S3 and the endpoint within a region (ms): assumed, not measured, and independent of the processor.
WAITING = {"serialize": 60.0, "inference": 12.0, "threshold": 0.0}


@dataclass(frozen=True)
class Work:
    """The time of one invocation: on a whole core, warm and cold, and waiting (ms)."""

    cpu: float
    cold_cpu: float
    waiting: float

    def milliseconds(self, memory: int) -> float:
        """Return the warm duration (ms) at a memory size."""
        return self.cpu * _stretch(memory) + self.waiting

    def cold_milliseconds(self, memory: int) -> float:
        """Return the duration (ms) from a fresh process, without the preparations of Lambda."""
        return self.cold_cpu * _stretch(memory) + self.waiting

    def price_of_a_million(self, memory: int, prices: Prices) -> float:
        """Return the price of a million invocations (US dollars); Lambda rounds up to milliseconds."""
        gigabyte_seconds = memory / 1024 * -(-self.milliseconds(memory) // 1) / 1000
        return 1e6 * (gigabyte_seconds * prices["lambda_gb_second"] + prices["lambda_request"])


def _stretch(memory: int) -> float:
    return max(1.0, MEGABYTES_OF_A_CORE / memory)


def run(runs: int) -> Result:
    """Invoke every function on its sample event, warm and from fresh processes, one after the other."""
    before = machine.load()
    prices, template = Prices.read(), read_template()["Resources"]
    rows, remarks = [], []
    service = LambdaService(ROOT / "events" / "photos" / "phone-12mp-rotated.jpg")
    try:
        warm, cold = _warm(service, runs), _cold(service, runs)
    finally:
        service.close()
    for name in FUNCTIONS:
        work = Work(warm[name].median, cold[name].median, WAITING[name])
        chosen = template[f"{FUNCTIONS[name]}Function"]["Properties"]["MemorySize"]
        rows.append(Row(f"{name}, warm", "ms CPU", warm[name], note=f"{chosen} MB chosen"))
        rows.append(Row(f"{name}, cold", "ms CPU", cold[name]))
        table = (
            f"{memory} MB: {three_digits(work.milliseconds(memory))} ms warm, "
            f"{three_digits(work.cold_milliseconds(memory))} ms cold, "
            f"${work.price_of_a_million(memory, prices):.2f} a million"
            for memory in MEMORY_SIZES
        )
        remarks += [f"{name} at {line}" for line in table]
    return Result("sizing", "Memory sizes of the functions", rows, before, remarks)


def _warm(service: LambdaService, runs: int) -> dict[str, Quartiles]:
    """Return the processor time of a warm invocation of each function (ms)."""
    url = f"http://{service.address}"
    os.environ.update(SETTINGS | {"AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url})
    with redirect_stdout(io.StringIO()):  # the functions' logs
        return {name: Quartiles.of(_times(name, 4 * runs)) for name in FUNCTIONS}


def _cold(service: LambdaService, runs: int) -> dict[str, Quartiles]:
    """Return the processor time of a fresh process of each function to its first answer (ms)."""
    with tempfile.TemporaryDirectory() as folder:
        starts = subjects(service, Path(folder))
        found: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
        for _ in range(runs):
            for name, times in found.items():
                starts[name]()
                times.append(service.cpu)
    return {name: Quartiles.of(times) for name, times in found.items()}


def _times(name: str, runs: int) -> list[float]:
    app = importlib.import_module(f"functions.{name}.app")
    handler: Callable[..., Any] = app.handler
    event = json.loads((ROOT / "events" / f"{name}.json").read_text())

    def taken() -> float:
        # Only this thread: the answering service runs in another one. Photos are decoded in a separate process.
        return time.thread_time() + (processor_seconds(app.decoder.start()) if hasattr(app, "decoder") else 0)

    times = []
    for _ in range(runs + 5):
        before = taken()
        handler(event, _Context())
        times.append((taken() - before) * 1000)
    return times[5:]


class _Context:
    function_name = "benchmark"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:benchmark"
    aws_request_id = "1"
