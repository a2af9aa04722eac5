"""An endpoint with configurable answers: by default, it answers by a photo's colour."""

import inspect
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loading_bay.local.processes import free_port

Answer = Callable[[bytes], Response | Awaitable[Response]]


def scores(*probabilities: float, found: object = None) -> Response:
    """Answer as the real endpoint does; with `found`, as one that also reports a detection."""
    headers = {"x-Amzn-Invoked-Production-Variant": "AllTraffic"}
    if found is not None:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = json.dumps(found)
    return Response(json.dumps(probabilities), media_type="application/json", headers=headers)


def failure(status: int, name: str, **content: object) -> Response:
    """Answer with an error, in the form of the SageMaker runtime."""
    return Response(json.dumps({"Message": f"a {name}", **content}), status, {"x-amzn-ErrorType": name})


def by_colour(body: bytes) -> Response:
    """Red is a bicycle, blue is a motorcycle, and the model is unsure of all other colours."""
    red, _, blue = Image.open(io.BytesIO(body)).resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    if red > blue + 64:
        return scores(0.97, 0.03)
    if blue > red + 64:
        return scores(0.02, 0.98)
    return scores(0.52, 0.48)


class Endpoint:
    """Serves on loopback until closed; counts its calls."""

    def __init__(self) -> None:
        self.answer: Answer = by_colour
        self.calls = 0
        self._lock = threading.Lock()
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._serve()

    @contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Use this answer while the block runs."""
        self.answer, self.calls = answer, 0
        try:
            yield
        finally:
            self.answer = by_colour

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join()

    def restart(self, seconds: float) -> None:
        """Stop serving for a while."""
        self.close()
        time.sleep(seconds)
        self._serve()

    def _serve(self) -> None:
        route = Route("/endpoints/{name}/invocations", self._invoke, methods=["POST"])
        app = Starlette(routes=[route])
        # Callers keep their connections open; a restart does not wait for them.
        config = uvicorn.Config(app, host="127.0.0.1", port=self._port, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    async def _invoke(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            self.calls += 1
        answer = self.answer(body)
        return await answer if inspect.isawaitable(answer) else answer
