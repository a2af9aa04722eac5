"""Starts and ends the processes of the local stack, each in a process group of its own."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from stack.errors import UserError


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(command: Sequence[str], log: Path, *, cwd: Path, env: Mapping[str, str]) -> int:
    """Start a process that outlives this one, its output appended to `log`; returns its id."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; ending the group ends its children too
        )
    return process.pid


def wait_until_healthy(url: str, pid: int, log: Path, *, seconds: float = 30) -> None:
    """Wait until `url` answers 200.

    Raises:
        UserError: the process ended first, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=2) as answer,  # noqa: S310 - our own loopback address
        ):
            if answer.status == 200:
                return
        if not is_alive(pid):
            raise UserError(f"a process ended while it started; {log} says why")
        time.sleep(0.05)
    raise UserError(f"{url} does not answer after {seconds:.0f} s; {log} may say why")


def is_alive(pid: int) -> bool:
    """Tell whether the process exists and has not ended."""
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:  # our own child: reap it, or it stays as a zombie
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # the id was given to somebody else's process
    return True


def stop(pid: int, *, seconds: float = 8) -> None:
    """End a process that `start` started, and whatever it started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
