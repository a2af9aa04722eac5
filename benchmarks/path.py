"""The time from upload to decision on the local stack, beside empty state machines on the same local AWS.

The local AWS adds 150 ms to every execution, and 50 ms to every call to collect its log. Neither the stack nor AWS has
these delays, so only the difference is meaningful.
"""

import io
import json
import sys
import tempfile
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loading_bay.local.deployment import BOOTSTRAP
from loading_bay.local.stack import Options, Stack

from . import machine
from .figures import ROOT, Quartiles
from .results import Reading, Result, Row

RATES = (1, 10)
PHOTO = ROOT / "events" / "photos" / "bicycle-road.jpg"
# A role of the stack; the local AWS does not enforce the roles of state machines.
ROLE = "arn:aws:iam::000000000000:role/empty"
STEPS = ("First", "Second", "Third")
PASS = {"Type": "Pass"}
# Writes a line, like the stack's functions: the local AWS waits longer for the log of a silent function.
EMPTY = "def handler(event, context):\n    print('empty')\n    return event\n"
# Prefixes of the inbox, each with the state machine that its uploads start.
OURS, FUNCTIONS, NOTHING = "uploads", "empty-functions", "empty"
WARM_UP = 20
REACH = 60


def run(runs: int) -> Result:
    """Upload photos at each rate to the machines in turn, so all meet the same load."""
    before = machine.load()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.up(Path(folder), Options(), say=lambda _: None)
        try:
            uploads = Uploads(stack)
            uploads.latencies(WARM_UP, 10)
            for rate in RATES:
                # Twenty photos per run at 10 per second, two at 1 per second: about the same duration.
                rows += _rows(rate, uploads.latencies(max(20, 2 * runs * rate), rate))
        finally:
            stack.down()
    return Result("path", "Photo to decision on the local stack", rows, before)


class Uploads:
    """Uploads photos to the workflow, and to two machines of three steps: empty functions, and empty states."""

    def __init__(self, stack: Stack) -> None:
        self._s3, self._sfn = stack.client("s3"), stack.client("stepfunctions")
        self._bucket = stack.outputs["InboxBucket"]
        call = {"Type": "Task", "Resource": _empty_function(stack)}
        self._machines = {
            OURS: stack.outputs["StateMachineArn"],
            FUNCTIONS: _machine(stack, self._bucket, FUNCTIONS, call),
            NOTHING: _machine(stack, self._bucket, NOTHING, PASS),
        }

    def latencies(self, photos: int, per_second: float) -> dict[str, list[float]]:
        """Upload photos to each machine in turn; return the times until their executions end (ms)."""
        body = PHOTO.read_bytes()
        name = uuid.uuid4().hex
        put: dict[str, float] = {}
        started = time.monotonic()

        def upload(index: int, prefix: str) -> None:
            key = f"{prefix}/{name}-{index}.jpg"
            put[key] = time.time()
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

        with ThreadPoolExecutor(8) as pool:
            for index in range(photos):
                for place, prefix in enumerate(self._machines):
                    due = started + (index + place / len(self._machines)) / per_second
                    time.sleep(max(0.0, due - time.monotonic()))
                    pool.submit(upload, index, prefix)
        return {prefix: self._ended(prefix, put, name) for prefix in self._machines}

    def _ended(self, prefix: str, put: dict[str, float], name: str) -> list[float]:
        wanted = {key for key in put if key.startswith(f"{prefix}/{name}")}
        latencies: dict[str, float] = {}
        deadline = time.monotonic() + 60
        while wanted - latencies.keys():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(wanted - latencies.keys())} executions of {prefix} have not ended")
            time.sleep(0.5)
            for execution in self._executions(self._machines[prefix]):
                described = self._sfn.describe_execution(executionArn=execution)
                key = json.loads(described["input"])["object"]["key"]
                if key in wanted and "stopDate" in described:
                    latencies[key] = (described["stopDate"].timestamp() - put[key]) * 1000
        return list(latencies.values())

    def _executions(self, machine_arn: str) -> list[str]:
        pages = self._sfn.get_paginator("list_executions").paginate(stateMachineArn=machine_arn)
        return [execution["executionArn"] for page in pages for execution in page["executions"]]


def _empty_function(stack: Stack) -> str:
    """Create an empty function, run by the same client as the stack's functions."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as zipped:
        zipped.writestr("empty.py", EMPTY)
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        zipped.writestr(bootstrap, BOOTSTRAP.format(python=sys.executable))
    created = stack.client("lambda").create_function(
        FunctionName="empty",
        Runtime="provided.al2023",
        Handler="empty.handler",
        Role=ROLE,
        Code={"ZipFile": package.getvalue()},
    )
    return str(created["FunctionArn"])


def _machine(stack: Stack, bucket: str, prefix: str, step: dict[str, str]) -> str:
    """Create a machine of three equal steps, which uploads under a prefix start."""
    states: dict[str, dict[str, Any]] = {name: dict(step) for name in STEPS}
    for name, following in pairwise(STEPS):
        states[name]["Next"] = following
    states[STEPS[-1]]["End"] = True
    definition = json.dumps({"StartAt": STEPS[0], "States": states})
    created = stack.client("stepfunctions").create_state_machine(name=prefix, definition=definition, roleArn=ROLE)
    arn = str(created["stateMachineArn"])
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": [bucket]}, "object": {"key": [{"prefix": f"{prefix}/"}]}},
    }
    events = stack.client("events")
    events.put_rule(Name=prefix, EventPattern=json.dumps(pattern))
    target = {"Id": prefix, "Arn": arn, "InputPath": "$.detail", "RoleArn": ROLE}
    events.put_targets(Rule=prefix, Targets=[target])
    return arn


def _rows(rate: int, latencies: dict[str, list[float]]) -> list[Row]:
    medians = {prefix: float(np.median(values)) for prefix, values in latencies.items()}
    p99 = {prefix: Quartiles.of([float(np.percentile(values, 99))]) for prefix, values in latencies.items()}
    share = medians[OURS] - medians[FUNCTIONS]
    name = f"{rate} photo{'s' if rate > 1 else ''}/s"
    return [
        Row(
            f"{name}, p50",
            "ms",
            Quartiles.of(latencies[OURS]),
            Reading("three empty functions", Quartiles.of(latencies[FUNCTIONS])),
            Reading("three empty steps", Quartiles.of(latencies[NOTHING])),
            f"our share ≤ {REACH} ms",
            share <= REACH,
            f"our share {share:.0f} ms; {medians[OURS] - medians[NOTHING]:.0f} ms with the calls of the functions",
        ),
        Row(
            f"{name}, p99",
            "ms",
            p99[OURS],
            Reading("three empty functions", p99[FUNCTIONS]),
            Reading("three empty steps", p99[NOTHING]),
        ),
    ]
