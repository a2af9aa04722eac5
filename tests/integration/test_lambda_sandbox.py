"""All functions as on Lambda: only /tmp is writable, named shared memory is missing, and they freeze between calls."""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from loading_bay.stack.template import ROOT

from .bay import Bay, picture, wait_for
from .reviewing import ReviewApi

# Makes everything but $TMPDIR read-only for the command that follows.
SANDBOX = r"""
mount --bind "$TMPDIR" "$TMPDIR"
mount -t tmpfs -o ro none /dev/shm
while read -r _ place _; do
  case "$place" in "$TMPDIR" | /dev | /dev/* | /proc* | /sys*) ;; *) mount -o remount,bind,ro "$place" ;; esac
done < /proc/self/mounts
exec "$@"
"""
UNSHARE = ["unshare", "--map-root-user", "--mount"]
Call = Callable[[str, dict[str, Any]], dict[str, Any]]


def can_unshare() -> bool:
    """Tell whether users of this system may have their own namespaces."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [pytest.mark.long, pytest.mark.skipif(not can_unshare(), reason="needs Linux namespaces (unshare)")]


@pytest.fixture
def sandbox(bay: Bay, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    functions = bay.stack.client("lambda").list_functions()["Functions"]
    settings = [function["Environment"]["Variables"] for function in functions]
    env = {name: value for each in settings for name, value in each.items()} | bay.stack.environment()
    env |= {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    env |= {"AWS_ENDPOINT_URL_S3": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    driver = [sys.executable, str(Path(__file__).with_name("lambda_sandbox.py"))]
    command = [*UNSHARE, "sh", "-euc", SANDBOX, "sh", *driver]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def call(sandbox: subprocess.Popen[str]) -> Call:
    """Return a function that calls one of the sandbox's functions."""

    def call(name: str, event: dict[str, Any]) -> dict[str, Any]:
        assert sandbox.stdin
        assert sandbox.stdout
        sandbox.stdin.write(json.dumps([name, event]) + "\n")
        sandbox.stdin.flush()
        for line in sandbox.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise AssertionError(f"the sandbox ended with status {sandbox.wait()}")

    return call


def freeze(process: psutil.Process) -> None:
    """Stop a function and its decoders like Lambda between two calls, and resume them."""
    everything = [process, *process.children(recursive=True)]
    assert len(everything) > 1, "the decoding process is missing"
    for each in everything:
        each.send_signal(signal.SIGSTOP)
    wait_for(lambda: all(each.status() == psutil.STATUS_STOPPED for each in everything))
    for each in everything:
        each.send_signal(signal.SIGCONT)


def test_photos_pass_through_all_functions_before_and_after_the_sandbox_was_frozen(
    bay: Bay, sandbox: subprocess.Popen[str], call: Call
) -> None:
    def outcome(photo: bytes) -> str:
        key = f"sandbox/{uuid.uuid4()}"
        bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=photo)
        record = call("threshold", call("inference", call("serialize", {"s3_bucket": bay.bucket, "s3_key": key})))
        return str(record["vehicle"])

    assert outcome(picture("red")) == "bicycle"
    freeze(psutil.Process(sandbox.pid))
    assert outcome(picture("blue", "AVIF", (1200, 800))) == "motorcycle"
    assert outcome(picture("red", "PNG", (900, 1600))) == "bicycle"


def test_a_reviewer_sees_photos_before_and_after_the_sandbox_was_frozen(
    bay: Bay, sandbox: subprocess.Popen[str], call: Call
) -> None:
    def shown(colour: str) -> tuple[int, ...]:
        decision = bay.outcome(bay.upload(picture(colour, "WEBP")))
        event = json.loads((ROOT / "events" / "review" / "http-api.json").read_text())
        event |= {"rawPath": "/api/picture", "routeKey": "POST /api/picture"}
        event |= {"body": json.dumps({"photo": decision.photo})}
        event["requestContext"]["http"] |= {"method": "POST", "path": "/api/picture"}
        claims = {"client_id": ReviewApi(bay.stack).client_id, "exp": "99999999999"}
        event["requestContext"]["authorizer"]["jwt"]["claims"] |= claims
        answer = call("review", event)
        assert answer["statusCode"] == 200, answer
        pixel = Image.open(io.BytesIO(base64.b64decode(answer["body"]))).getpixel((5, 5))
        assert isinstance(pixel, tuple)
        return tuple(int(channel) for channel in pixel)

    assert shown("grey") == pytest.approx((128, 128, 128), abs=8)
    freeze(psutil.Process(sandbox.pid))
    assert shown("white") == pytest.approx((255, 255, 255), abs=8)
