"""A benchmark that is ended leaves nothing running."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from loading_bay.stack.template import ROOT

SERVER = "training.container.serve"
SECONDS = 300  # more than a busy machine needs


@pytest.fixture
def benchmark() -> Iterator[psutil.Popen]:
    command = [sys.executable, "-m", "benchmarks", "run", "endpoint", "--runs", "1", "--no-save"]
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    if process.is_running():
        process.kill()
        process.wait()


def server_of(benchmark: psutil.Popen) -> psutil.Process:
    """Wait for the server that the benchmark starts."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and benchmark.poll() is None:
        for child in benchmark.children():
            if SERVER in child.cmdline():
                return child
        time.sleep(0.05)
    pytest.fail("the benchmark started no server")


def test_a_benchmark_that_is_ended_leaves_no_server_running(
    benchmark: psutil.Popen,
) -> None:
    server = server_of(benchmark)
    try:
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(SECONDS) == 128 + signal.SIGTERM
        assert not server.is_running()
    finally:
        if server.is_running():
            server.kill()
