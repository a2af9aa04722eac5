"""Runs the functions' handlers one call after another, like Lambda: python lambda_sandbox.py, calls on stdin.

Each line of input is `[function, event]`, each line of output the answer.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Never

CONTEXT = SimpleNamespace(
    function_name="function", memory_limit_in_mb=1769, invoked_function_arn="arn:aws:lambda:::f", aws_request_id="1"
)
FUNCTIONS = ("serialize", "inference", "threshold", "review")


def refuse(*_: object) -> Never:
    """Answer like a sandbox that does not allow memfd_create."""
    raise PermissionError(1, "Operation not permitted")


def is_writable(folder: str) -> bool:
    """Tell whether a file can be made there."""
    try:
        (Path(folder) / "written").touch()
    except OSError:
        return False
    return True


def main() -> None:
    """Load the functions, and answer calls."""
    writable = [folder for folder in (".", "/", "/dev/shm", os.environ["HOME"]) if is_writable(folder)]
    if writable or not is_writable(os.environ["TMPDIR"]):
        sys.exit(f"unlike Lambda, {writable} is writable")
    setattr(os, "memfd_create", refuse)  # noqa: B010
    functions = {name: importlib.import_module(f"functions.{name}.app") for name in FUNCTIONS}
    for line in sys.stdin:
        name, event = json.loads(line)
        print("ANSWER", json.dumps(functions[name].handler(event, CONTEXT)), flush=True)


if __name__ == "__main__":
    main()
