"""A SageMaker runtime on loopback: the container's server, the runtime's API, and data capture."""

import json
import re
from pathlib import Path

import click
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from training.container.serve import ImpatientProtocol, create_app

from .capture import CaptureWriter

INVOKE_PATH = re.compile(r"/endpoints/([^/]+)/invocations")


class SageMakerRuntime:
    """Answers boto3's `invoke_endpoint` like SageMaker, by calling the container.

    Every other path goes to the container unchanged.
    """

    def __init__(self, container: ASGIApp, endpoint: str, variant: str, capture: CaptureWriter) -> None:
        self._container = container
        self._endpoint = endpoint
        self._variant = variant
        self._capture = capture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request."""
        called = INVOKE_PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if not called:
            await self._container(scope, receive, send)
            return
        answer = await self._invoke(called[1], Request(scope, receive))
        await answer(scope, receive, send)

    async def _invoke(self, endpoint: str, request: Request) -> Response:
        if endpoint != self._endpoint:
            return _error(400, "ValidationError", {"Message": f"Endpoint {endpoint} not found."})
        body = await request.body()
        status, answer = await _ask(self._container, request.scope, body)
        if status != 200:
            said = {
                "Message": f"Received error ({status}) from primary with message {answer.decode()!r}",
                "OriginalStatusCode": status,
                "OriginalMessage": answer.decode(errors="replace"),
            }
            return _error(424, "ModelError", said)
        content_type = request.headers.get("content-type", "")
        self._capture.write(content_type, body, answer, request.headers.get("x-amzn-sagemaker-inference-id"))
        headers = {"x-Amzn-Invoked-Production-Variant": self._variant}
        return Response(answer, media_type="application/json", headers=headers)


async def _ask(container: ASGIApp, scope: Scope, body: bytes) -> tuple[int, bytes]:
    """Send a request body to the container's /invocations; return the status and the answer."""
    status, chunks = 500, []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            chunks.append(message.get("body", b""))

    await container({**scope, "path": "/invocations", "raw_path": b"/invocations"}, receive, send)
    return status, b"".join(chunks)


def _error(status: int, name: str, content: dict[str, object]) -> Response:
    return Response(
        json.dumps(content),
        status_code=status,
        media_type="application/json",
        headers={"x-amzn-ErrorType": name},
    )


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--port", type=int, required=True)
@click.option("--name", required=True, help="The endpoint's name.")
@click.option("--variant", default="AllTraffic", show_default=True)
@click.option("--capture-folder", type=click.Path(path_type=Path), required=True)
@click.option("--capture-percentage", type=click.IntRange(0, 100), default=100, show_default=True)
def main(model: Path, port: int, name: str, variant: str, capture_folder: Path, capture_percentage: int) -> None:
    """Serve MODEL as a SageMaker endpoint on loopback until terminated."""
    capture = CaptureWriter(capture_folder, name, variant, capture_percentage)
    app = SageMakerRuntime(create_app(model), name, variant, capture)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", http=ImpatientProtocol)


if __name__ == "__main__":
    main()
