"""Starts and ends the processes of a local stack.

Each process of a stack has the stack's folder in its environment, and so does every process that it starts. So, without
a file of process ids, a process that outlived a `kill -9` is found again, and no other process is ended.
"""

import fcntl
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from loading_bay.stack.errors import UserError

MARK = "LOADING_BAY_FOLDER"


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, readable only by its owner, and hold its lock while the block runs.

    The lock ensures that one command at a time brings the stack up or down.

    Raises:
        UserError: another command holds it, or the folder cannot be written.
    """
    usual = os.umask(0o077)  # the folder holds photos and the stack's secret
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise UserError(f"the local stack is kept in {folder}, which cannot be written: {error.strerror}") from None
    finally:
        os.umask(usual)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, however it ends
        except BlockingIOError:
            raise UserError(f"another command is using the stack in {folder}: wait for it, or stop it") from None
        yield


def start(command: Sequence[str], log: Path, *, folder: Path, env: Mapping[str, str]) -> psutil.Popen:
    """Start a process of the stack in `folder` that outlives this one; its output is appended to `log`."""
    with log.open("ab") as output:
        return psutil.Popen(
            command,
            cwd=folder,
            env={**env, MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C and a closed terminal reach only this process
        )


def is_healthy(url: str) -> bool:
    """Tell whether `url` answers 200."""
    with (
        suppress(urllib.error.URLError, ConnectionError, TimeoutError),
        urllib.request.urlopen(url, timeout=2) as answer,  # noqa: S310 - a loopback address
    ):
        return bool(answer.status == 200)
    return False


def wait_until_healthy(url: str, process: psutil.Popen, log: Path, *, seconds: float = 30) -> None:
    """Wait until `url` answers 200.

    Raises:
        UserError: the process ended first, or the time is up.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_healthy(url):
            return
        if process.poll() is not None:
            raise UserError(f"a process ended during its start; see {log}")
        time.sleep(0.05)
    raise UserError(f"{url} does not answer after {seconds:.0f} s; see {log}")


def of_stack(folder: Path) -> list[psutil.Process]:
    """Return the processes of the stack in `folder`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended in the meantime, or another user's
            if process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def end(folder: Path, *, seconds: float = 2) -> bool:
    """End every process of the stack in `folder`, by force after so many seconds; return whether there was any."""
    any_found = False
    while found := of_stack(folder):
        any_found = True
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        deadline = time.monotonic() + seconds
        while (alive := [each for each in found if _runs(each)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=0)  # reaps this process's own children
    return any_found


def _runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended; one that its parent has not reaped has ended, and holds nothing."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
