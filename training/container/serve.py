"""The endpoint: the SageMaker container contract over one ONNX model.

`GET /ping` and `POST /invocations` on port 8080, as
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html asks. A photo goes in,
`[p_0, p_1, …]` comes out in the order of the model's class names, and the vehicles found come out in the header that
SageMaker hands on to its caller. looking.py is the only other module of this project that it needs, so the image that
SageMaker starts holds these two files and the model.
"""

import argparse
import asyncio
import os
from pathlib import Path

import anyio.to_thread
import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from .looking import PHOTO_SIDE, BadImage, Model

__all__ = ["ImpatientProtocol", "Model", "create_app", "main"]

# A photo that comes through the pipeline has 200 KB at most.
MAX_BYTES = 1024 * 1024
# A request must arrive in full within this time. SageMaker sends it, and is not behind a slow network.
REQUEST_SECONDS = 20
FORMATS = {
    "image/png": ("PNG",),
    "image/jpeg": ("JPEG",),
    "application/x-image": ("PNG", "JPEG"),
}
# Threads of one inference. More than one pays only where few requests meet many cores.
THREADS_VARIABLE = "LOADING_BAY_THREADS"
MODEL_PATH = Path("/opt/ml/model/model.onnx")
PORT = 8080
# /ping returns the longest side that a photo needs in this header, and anyone who sends photos can check it.
IMAGE_SIZE_HEADER = "X-Image-Size"
# SageMaker hands this header on to the caller of InvokeEndpoint: at most 1,024 characters of ASCII.
ATTRIBUTES_HEADER = "X-Amzn-SageMaker-Custom-Attributes"


def create_app(model_path: Path, threads: int | None = None) -> Starlette:
    """Build the application around one model.

    Args:
        model_path: the ONNX file.
        threads: of one inference; by default LOADING_BAY_THREADS, else 1.

    Raises:
        FileNotFoundError, ValueError: as `Model.load`.
    """
    model = Model.load(model_path, threads or int(os.environ.get(THREADS_VARIABLE, "1")))
    # On several cores one image more than cores fills the gap while an answer is handed over (8 % more images on two);
    # on one core it would only push the other out of the caches (3 % fewer).
    cores = usable_cores()
    at_once = anyio.CapacityLimiter(cores + 1 if cores > 1 else 1)

    async def ping(request: Request) -> Response:
        return Response(headers={IMAGE_SIZE_HEADER: str(PHOTO_SIDE)})

    async def invocations(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in FORMATS:
            raise HTTPException(415, f"content type {kind or 'missing'}: send {', '.join(FORMATS)}")
        body = await read_body(request)
        try:
            answer = await anyio.to_thread.run_sync(model.answer, body, FORMATS[kind], limiter=at_once)
        except BadImage as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(answer.probabilities, headers={ATTRIBUTES_HEADER: answer.attributes()})

    return Starlette(
        routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])],
        exception_handlers={HTTPException: refuse},
    )


class ImpatientProtocol(H11Protocol):
    """HTTP that closes a connection whose request does not arrive in full: a stalled client holds nothing for long."""

    stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self.stalled = self.loop.call_later(REQUEST_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a request that has begun."""
        super().data_received(data)
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._expect_nothing()
        else:
            self._expect_the_rest()

    def on_response_complete(self) -> None:
        """Wait for the rest of a request that arrived behind the one that is answered now."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._expect_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_the_rest(self) -> None:
        if self.stalled is None:
            self.stalled = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _expect_nothing(self) -> None:
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None


def usable_cores() -> int:
    """Return how many cores this process may run on: in a container, or pinned, fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def read_body(request: Request) -> bytes:
    """Read the body, and give up as soon as it is too large: the length that it claims does not count."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise HTTPException(413, f"the body is larger than {MAX_BYTES} bytes")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body broke off") from error
    return bytes(body)


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a refused request with the reason, in one line of JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


def main(arguments: list[str] | None = None) -> None:
    """Serve the model until stopped."""
    parser = argparse.ArgumentParser(description="Serve a Loading Bay model as SageMaker's endpoints do.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="SageMaker passes this word")
    parser.add_argument("--model", type=Path, default=MODEL_PATH, help="the ONNX file (default %(default)s)")
    # SageMaker connects from outside the container, so the server listens on every address of the container.
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default %(default)s)")  # noqa: S104
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        app = create_app(chosen.model)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    uvicorn.run(
        app, host=chosen.host, port=chosen.port, access_log=False, timeout_keep_alive=75, http=ImpatientProtocol
    )


if __name__ == "__main__":
    main()
