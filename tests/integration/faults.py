"""Faults that a test injects: into the calls of Step Functions, the functions, the endpoint and the local AWS."""

import asyncio
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from starlette.responses import Response

from loading_bay.local import processes
from loading_bay.local.deployment import PYTHON
from loading_bay.local.stack import Stack

from .bay import lines_of
from .endpoint import by_colour, failure

FAULTY_AWS = Path(__file__).parent / "faulty_aws.py"


@dataclass(frozen=True)
class Fault:
    """The share (0 to 1) of one kind of Step Functions call that fails, at most `limit` times.

    The call fails before its effect, or after it with `lost_answer`; with `about`, only if the request contains this
    text. `cause` is the error's message.
    """

    call: str
    error: str
    share: float
    lost_answer: bool = False
    limit: int | None = None
    about: str = ""
    cause: str = "injected"


# A text that occurs in the request of only one of a photo's three writes.
CLAIM, RECORD, CONFIRM = '"CLAIMED"', "decided_at = :decided_at", "SET announced_at"


@dataclass(frozen=True)
class Call:
    """A line of the journal; `phase` is `asked`, `done` or `failed`."""

    at: float
    phase: str
    call: str
    request: dict[str, Any]
    fault: str | None


class FaultyAws:
    """The local AWS of a stack, which can fail calls and be restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.command = (str(PYTHON), "-P", str(FAULTY_AWS), str(folder))
        (folder / "journal.jsonl").touch()
        self.inject()

    def inject(self, *faults: Fault) -> None:
        """From now on, make exactly these calls fail."""
        self._tell("faults.json", [asdict(fault) | {"id": str(uuid.uuid4())} for fault in faults])

    def share(self, shares: dict[str, float]) -> None:
        """From now on, make these shares of the Express executions run twice, restart or die."""
        self._tell("express.json", shares)

    def _tell(self, name: str, content: Any) -> None:
        # The local AWS reads the file at every call: it finds the old or the new version, never a part.
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(content))
        new.replace(self.folder / name)

    def journal(self) -> list[Call]:
        """Return every call that Step Functions has made, in order."""
        return [Call(**line) for line in lines_of(self.folder / "journal.jsonl")]

    def restart(self, stack: Stack) -> None:
        """Stop the local AWS cleanly, and start it again at the same address; running executions are lost."""
        env = json.loads((self.folder / "environment.json").read_text())
        log = stack.folder / "aws.log"
        # It continues while it saves its state, and would lose the changes made meanwhile.
        halted = self.folder / "halted"
        halted.touch()
        time.sleep(0.2)
        processes.end(stack.folder, seconds=30)
        halted.unlink()
        process = processes.start(self.command, log, folder=stack.folder, env=env)
        processes.wait_until_healthy(stack.aws_health, process, log)


def workers(stack: Stack, handler: str = "") -> list[int]:
    """Return the ids of the started processes of this stack's functions, or of one function.

    When one process fails to start, the local AWS ends all processes of the function, even busy ones. This fault of the
    emulator would hide the intended faults.
    """
    found, started_up = [], time.time() - 5
    for process in processes.of_stack(stack.folder):
        with suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if process.create_time() < started_up and "awslambdaric" in command and handler in command:
                found.append(process.pid)
    return found


def signal_worker(stack: Stack, number: signal.Signals, handler: str = "") -> None:
    """Send a signal to one process that runs a function, if there is one."""
    if running := workers(stack, handler):
        with suppress(ProcessLookupError):
            os.kill(random.choice(running), number)


def endpoint_faults() -> Iterator[Response]:
    """Yield the answers of a failing endpoint, in a cycle."""
    while True:
        yield failure(503, "ServiceUnavailable")
        yield failure(429, "ThrottlingException")
        yield failure(424, "ModelError", OriginalStatusCode=500, OriginalMessage="out of memory")
        yield failure(400, "ValidationError", Message="Endpoint loading-bay of account 1 not found.")
        yield Response("Internal Server Error", 500)
        yield Response("<html>It works!</html>", media_type="text/html")
        yield failure(424, "ModelError", OriginalStatusCode=400, OriginalMessage="no picture")
        yield Response(b"[0.9", headers={"Content-Length": "4"}, media_type="application/json")


class Storm:
    """Answers most pictures by their colour, and the rest late, wrongly or not at all."""

    def __init__(self, share: float, slow: float) -> None:
        self._share = share
        self._slow = slow
        self._faults = endpoint_faults()

    async def __call__(self, body: bytes) -> Response:
        """Answer one picture."""
        if random.random() < self._slow:
            await asyncio.sleep(6)  # longer than the function waits
        if random.random() < self._share:
            return next(self._faults)
        return by_colour(body)
