"""The guarded local AWS, which can fail the calls of Step Functions, and records each of them.

This module runs in the environment of the local AWS, in place of its command. In the given folder, `faults.json` lists
the calls that fail (read at every call), and `journal.jsonl` gets a line when a call is requested, and one when it is
done or has failed. While a file `halted` exists, every caller stops.
"""

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv.pop())
# As in the cloud, stored data survives a restart; unlike there, running executions do not.
PERSISTENCE = {
    "PERSIST_STATE": "1",
    "STATE_DIR": str(FOLDER / "state"),
    "S3_PERSIST": "1",
    "S3_DATA_DIR": str(FOLDER / "s3"),
}
journal_lock = threading.Lock()
injected: Counter[str] = Counter()


def write(phase: str, call: str, request: dict[str, Any], fault: str | None = None) -> None:
    """Append a line to the journal; pictures stay out of it."""
    about = request if call.startswith(("dynamodb:", "events:", "sqs:")) else {}
    line = json.dumps({"at": time.time(), "phase": phase, "call": call, "request": about, "fault": fault})
    with journal_lock, (FOLDER / "journal.jsonl").open("a") as journal:
        journal.write(line + "\n")


def choose(call: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fault that this call meets, if any."""
    text = json.dumps(request)
    for fault in json.loads((FOLDER / "faults.json").read_text()):
        left = fault["limit"] is None or injected[fault["id"]] < fault["limit"]
        meant = fault["call"] == call and fault["about"] in text
        if meant and left and random.random() < fault["share"]:
            injected[fault["id"]] += 1
            return dict(fault)
    return None


def tap(stepfunctions: Any) -> None:
    """Intercept every task of every execution."""
    invoke = stepfunctions._invoke_resource

    def tapped(resource: str, request: dict[str, Any]) -> Any:
        call = resource.removeprefix("arn:aws:states:::").removeprefix("aws-sdk:")
        if (FOLDER / "halted").exists():
            raise SystemExit  # of this execution's thread
        fault = choose(call, request)
        error = fault["error"] if fault else None
        write("asked", call, request, error)
        if fault and not fault["lost_answer"]:
            raise stepfunctions._ExecutionError(error, f"{fault['cause']}: nothing was done")
        try:
            result = invoke(resource, request)
        except stepfunctions._ExecutionError:
            write("failed", call, request)
            raise
        write("done", call, request, error)
        if fault:
            raise stepfunctions._ExecutionError(error, f"{fault['cause']}: it was done, but the answer was lost")
        return result

    stepfunctions._invoke_resource = tapped


def save_whole(ministack: Any) -> None:
    """Save each service's state even during writes to it, which would otherwise leave the service out."""
    getters = ministack._build_persistence_save_dict

    def patient(get_state: Callable[[], Any]) -> Callable[[], Any]:
        def get() -> Any:
            while True:
                try:
                    return get_state()
                except RuntimeError:  # a dictionary changed size meanwhile
                    time.sleep(0.02)

        return get

    ministack._build_persistence_save_dict = lambda: {name: patient(get) for name, get in getters().items()}


if __name__ == "__main__":
    (FOLDER / "environment.json").write_text(json.dumps(dict(os.environ)))
    os.environ.update(PERSISTENCE)
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from ministack import app
    from ministack.services import cloudwatch_logs, stepfunctions

    from loading_bay.local import guard
    from tests.integration.express import Express

    tap(stepfunctions)
    save_whole(app)
    Express(stepfunctions, cloudwatch_logs, FOLDER).install()
    guard.main()
