"""What bad luck does to the processes of the local stack, and what `up` and `down` make of it."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from loading_bay.local import processes

from .conftest import Run
from .test_demo import assert_nothing_is_left

LOADING_BAY = "loading-bay"


@contextmanager
def running(checkout: Path, command: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the local stack in a terminal of its own, at least until it says something."""
    # Under nohup a child would inherit that a closed terminal is ignored.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(
        [str(checkout / ".venv/bin/loading-bay"), command],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGHUP, inherited)
    assert process.stdout
    try:
        for line in process.stdout:
            if until in line:
                break
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def nothing_runs(run: Run, checkout: Path) -> Iterator[None]:
    run(LOADING_BAY, "down")
    yield
    run(LOADING_BAY, "down")
    assert_nothing_is_left(checkout)


@pytest.mark.usefixtures("nothing_runs")
def test_up_and_down_recover_from_kill_9_of_anything(run: Run, checkout: Path) -> None:
    folder = checkout / ".local"
    with running(checkout, "up", until="sam build") as up:
        second = run(LOADING_BAY, "up")
        up.kill()
    assert second.returncode == 1
    assert "another command is at work on the stack" in second.stderr
    assert processes.of_stack(folder)

    assert run(LOADING_BAY, "up").returncode == 0
    again = run(LOADING_BAY, "up")
    assert again.returncode == 0
    assert "is already running" in again.stdout
    assert stat.S_IMODE((folder / "capture").stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    for process in processes.of_stack(folder):
        if "loading_bay.local.endpoint" in process.cmdline():
            process.kill()
    assert "no local stack is running" in run(LOADING_BAY, "status").stderr

    (folder / "stack.json").write_text('{"aws_url": "http://127.')
    assert "no local stack is running" in run(LOADING_BAY, "status").stderr
    assert "stopped" in run(LOADING_BAY, "down").stdout
    assert processes.of_stack(folder) == []
    nothing = run(LOADING_BAY, "down")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing was running\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.usefixtures("nothing_runs")
def test_a_closed_terminal_or_a_request_to_end_stops_the_demo_s_stack(checkout: Path, number: signal.Signals) -> None:
    with running(checkout, "demo", until="sam build") as demo:
        os.killpg(demo.pid, number)
        assert demo.wait(timeout=30) == 128 + number

    assert_nothing_is_left(checkout)


@pytest.mark.usefixtures("nothing_runs")
def test_down_stops_what_a_killed_demo_left(run: Run, checkout: Path) -> None:
    with running(checkout, "demo", until="endpoint") as demo:
        demo.kill()
    assert processes.of_stack(checkout / ".local/demo")

    assert "stopped" in run(LOADING_BAY, "down").stdout

    assert_nothing_is_left(checkout)


@pytest.mark.usefixtures("nothing_runs")
def test_down_leaves_strangers_alone(run: Run, checkout: Path) -> None:
    folder = checkout / ".local"
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(folder / "aws.log")]
    stranger = subprocess.Popen(command, cwd=folder)
    (folder / "stack.json").write_text(f'{{"pids": {{"aws": {stranger.pid}, "endpoint": {stranger.pid}}}}}')
    try:
        run(LOADING_BAY, "down")

        assert psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.kill()
        stranger.wait()


def test_a_folder_that_cannot_be_written_gets_one_line(run: Run, checkout: Path) -> None:
    (checkout / ".local").rename(checkout / ".elsewhere")
    (checkout / ".local").touch()
    try:
        up = run(LOADING_BAY, "up")
    finally:
        (checkout / ".local").unlink()
        (checkout / ".elsewhere").rename(checkout / ".local")

    assert up.returncode == 1
    assert f"the local stack is kept in {checkout}/.local, which cannot be written" in up.stderr
    assert "Traceback" not in up.stderr
