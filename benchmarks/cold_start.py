"""Cold starts: from a fresh process to a function's first answer, through the AWS runtime client.

The packages come from `sam build`, with bytecode only if they ship it, in a read-only folder as on Lambda. The Runtime
API, S3 and the endpoint answer on loopback.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import psutil

from loading_bay.stack.template import read_template

from . import machine
from .figures import ROOT, Quartiles, interleave, processor_seconds
from .results import Reading, Result, Row

# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
NEXT = "/2018-06-01/runtime/invocation/next"
FUNCTIONS = {"threshold": "Threshold", "inference": "Inference", "serialize": "Serialize"}
CLIENTS = {"inference": "sagemaker-runtime", "serialize": "s3"}
# The client crashes without any of these.
INVOCATION = {
    "Content-Type": "application/json",
    "Lambda-Runtime-Deadline-Ms": "4102444800000",
    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:benchmark",
    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
}
REACH_OF_BARE = 1.5
REACH_BEYOND_CLIENT = 60
PHOTO = ROOT / "events" / "photos" / "bicycle-road.jpg"
BARE = "def handler(event, context):\n    return event\n"
WITH_CLIENT = "import boto3\nclient = boto3.client({service!r})\n" + BARE
# The import in the functions of published versions of this project, at its place in v3 of the SDK.
WITH_SDK = """import sys
sys.path.append({site!r})
from sagemaker.core.serializers import IdentitySerializer
from {module} import handler
"""
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "benchmark",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
    "CONFIDENCE_THRESHOLD": "0.9",
    "AUDIT_SHARE": "0.02",
    "AUDIT_SALT": "salt",
    "ENDPOINT_NAME": "loading-bay",
    "IMAGE_SHAPE": str(read_template()["Parameters"]["ImageShape"]["Default"]),
    "IMAGE_SIZE": str(read_template()["Parameters"]["ImageSize"]["Default"]),
    "MAX_PHOTO_BYTES": "26214400",
    "MAX_PHOTO_PIXELS": "50000000",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "POWERTOOLS_METRICS_NAMESPACE": "LoadingBay/benchmark",
    "POWERTOOLS_SERVICE_NAME": "loading-bay",
    "PYTHONDONTWRITEBYTECODE": "1",
    "VEHICLE_CLASSES": "bicycle:1:near,motorcycle:2:far",
    # For the review page.
    "ANNOUNCE_REVIEW_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:benchmark",
    "CLIENT_ID": "benchmark",
    "DECISIONS_TABLE": "benchmark",
    "GUIDELINES": "",
    "SIGN_IN_URL": "https://example.com",
    "UNDO_SECONDS": "5",
    "SECOND_SHARE": "0.05",
    "SALT": "salt",
    "UPLOAD_PREFIX": "uploads/",
}


class Handler(BaseHTTPRequestHandler):
    """Answers in place of the Lambda Runtime API, S3 and the endpoint."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise every answer waits 40 ms
    server: "LambdaService"

    def do_GET(self) -> None:
        """Return the next event, or the photo."""
        if self.path == NEXT:
            self._answer(self.server.event, INVOCATION | {"Lambda-Runtime-Aws-Request-Id": str(self.server.request)})
        else:
            self._answer(self.server.photo.read_bytes(), {"Last-Modified": "Fri, 20 Nov 2026 05:00:00 GMT"})

    def do_POST(self) -> None:
        """Return probabilities, or note the function's answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/endpoints/"):
            self._answer(b"[0.97, 0.03]", {"x-Amzn-Invoked-Production-Variant": "AllTraffic"})
            return
        # A process may answer once more before it is killed.
        if f"/{self.server.request}/" in self.path:
            self.server.error = "" if self.path.endswith("/response") else body.decode()
            self.server.answered.set()
        self._answer(b"", {}, 202)

    def _answer(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


class LambdaService(ThreadingHTTPServer):
    """The Lambda Runtime API for one process at a time, with an S3 object and an endpoint."""

    daemon_threads = True

    def __init__(self, photo: Path = PHOTO) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.photo = photo
        self.event = b""
        self.request = 0
        self.answered = threading.Event()
        self.error = ""
        self.cpu = 0.0
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that ended with their process."""

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()

    def cold_start(self, handler: str, event: dict[str, object], folders: list[Path]) -> float:
        """Return the time from the start of a fresh process to its first answer (ms); `cpu` is its processor time.

        Raises:
            RuntimeError: the function answered with an error, or not at all.
        """
        self.event = json.dumps(event).encode()
        self.request += 1
        self.answered.clear()
        url = f"http://{self.address}"
        env = SETTINGS | {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
            "AWS_LAMBDA_RUNTIME_API": self.address,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
        }
        cpu, started = _cpu_of_children(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            env=env,
            cwd=folders[0],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            in_time = self.answered.wait(60)
            took = (time.perf_counter() - started) * 1000
        finally:
            # Nobody waits for the function's child processes, so the system does not count their time.
            grandchildren = sum(processor_seconds(child.pid) for child in psutil.Process(process.pid).children())
            process.kill()
            process.wait()
            self.cpu = (_cpu_of_children() - cpu + grandchildren) * 1000
        if not in_time or self.error:
            raise RuntimeError(f"{handler}: {self.error or 'no answer'}")
        return took


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(runs: int) -> Result:
    """Start every function, the bare client and, if installed, the SDK, in rounds."""
    before = machine.load()
    service = LambdaService()
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = interleave(subjects(service, Path(folder)), runs)
    finally:
        service.close()
    rows = [_row(function, found) for function in FUNCTIONS]
    limit = Reading("bare + client", found["serialize client"])
    rows.append(Row("review, the page", "ms", found["review"], None, limit, "", None))
    remarks = [f"bare client {found['bare']} ms ({found['bare'].spread()})"]
    if not _sdk_site():
        remarks.append("the SageMaker SDK is not installed (make setup-training), so its baseline was skipped")
    return Result("cold_start", "Cold start: fresh process to first answer", rows, before, remarks)


def subjects(service: LambdaService, folder: Path) -> dict[str, partial[float]]:
    """Build every package, and every handler to compare with."""
    events = {name: json.loads((ROOT / "events" / f"{name}.json").read_text()) for name in FUNCTIONS}
    handlers = {"bare": BARE} | {f"{name} client": WITH_CLIENT.format(service=s) for name, s in CLIENTS.items()}
    found = {}
    for name, code in handlers.items():
        place = folder / name.replace(" ", "_")
        place.mkdir()
        (place / "app.py").write_text(code)
        found[name] = partial(service.cold_start, "app.handler", {}, [place])
    request = json.loads((ROOT / "events" / "review" / "http-api.json").read_text())
    request["rawPath"] = request["requestContext"]["http"]["path"] = "/"
    request["requestContext"]["http"]["method"] = "GET"
    page = _package("Review", folder / "packages" / "review")
    found["review"] = partial(service.cold_start, _handler("Review"), request, [page])
    for name, logical in FUNCTIONS.items():
        package = _package(logical, folder / "packages" / name)
        handler = _handler(logical)
        found[name] = partial(service.cold_start, handler, events[name], [package])
        if site := _sdk_site():
            place = folder / f"{name}_sdk"
            place.mkdir()
            (place / "with_sdk.py").write_text(WITH_SDK.format(site=str(site), module=handler.removesuffix(".handler")))
            found[f"{name} SDK"] = partial(service.cold_start, "with_sdk.handler", events[name], [place, package])
    return found


def _handler(logical: str) -> str:
    """Return the handler of a function in the template."""
    return str(read_template()["Resources"][f"{logical}Function"]["Properties"]["Handler"])


def _package(logical: str, folder: Path) -> Path:
    """Build a function's package like SAM, for this machine."""
    folder.mkdir(parents=True)
    build = ["make", "--silent", "-C", str(ROOT / "functions"), f"build-{logical}Function"]
    build += [f"ARTIFACTS_DIR={folder}", f"LAMBDA_PYTHON={sys.executable}"]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def _sdk_site() -> Path | None:
    """Return the folder of packages that holds the SDK, if it is installed."""
    found = find_spec("sagemaker")
    return Path(next(iter(found.submodule_search_locations or []))).parent if found else None


def _row(function: str, found: dict[str, Quartiles]) -> Row:
    measured, sdk = found[function], found.get(f"{function} SDK")
    if function in CLIENTS:
        limit = Reading("bare + client", found[f"{function} client"])
        reach = f"≤ limit + {REACH_BEYOND_CLIENT} ms"
        reached = measured.median <= limit.figure.median + REACH_BEYOND_CLIENT
    else:
        limit = Reading("bare", found["bare"])
        reach = f"≤ {REACH_OF_BARE} × limit"
        reached = measured.median <= REACH_OF_BARE * limit.figure.median
    return Row(
        function,
        "ms",
        measured,
        Reading("importing the SDK", sdk) if sdk else None,
        limit,
        reach,
        reached,
    )
