"""The endpoint: SageMaker's container contract over one ONNX model.

`GET /ping` and `POST /invocations` on port 8080, as
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html asks. An image goes in,
`[p_0, p_1, …]` comes out in the order of the model's class names. Depends on nothing else of this project,
so that the image that SageMaker starts holds this file and the model.
"""

import argparse
import asyncio
import io
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import h11
import numpy as np
import onnxruntime
import uvicorn
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngImageFile
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

# SageMaker's own limit on a request to a real-time endpoint was 6 MB for years; a photo reduced to the
# model's size is 3 KB, so nothing that is meant for this endpoint comes near.
MAX_BYTES = 6 * 1024 * 1024
MAX_PIXELS = 50_000_000
# A request has to come in whole in this time. SageMaker, which sends it, is not on the other side of a slow network.
REQUEST_SECONDS = 20
# Decoding a JPEG at reduced scale must leave enough for the reduction to average over.
DRAFT_FACTOR = 4
FORMATS = {
    "image/png": ("PNG",),
    "image/jpeg": ("JPEG",),
    "application/x-image": ("PNG", "JPEG"),
}
# Threads of one inference. More than one pays only where few requests meet many cores.
THREADS_VARIABLE = "LOADING_BAY_THREADS"
MODEL_PATH = Path("/opt/ml/model/model.onnx")
PORT = 8080
# What /ping says beyond being well, so that whoever sends pictures can check that they have the model's size.
IMAGE_SIZE_HEADER = "X-Image-Size"


class BadImage(Exception):
    """The body is not an image that this endpoint reads; the message says why, in one line."""


@dataclass(frozen=True)
class Model:
    """An ONNX session with what its metadata says of it."""

    session: onnxruntime.InferenceSession
    class_names: list[str]
    side: int

    @classmethod
    def load(cls, path: Path, threads: int) -> "Model":
        """Open a model file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no model of ours: its metadata name no classes.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no model at {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        metadata = session.get_modelmeta().custom_metadata_map
        if "class_names" not in metadata or "input_size" not in metadata:
            raise ValueError(f"{path} names no class_names and input_size in its metadata")
        return cls(session, json.loads(metadata["class_names"]), int(metadata["input_size"]))

    def probabilities(self, body: bytes, formats: tuple[str, ...]) -> list[float]:
        """Classify one encoded image: a probability per class, in class order.

        Raises:
            BadImage: the body cannot be read as an image of one of the formats.
        """
        pixels = read_pixels(body, formats, self.side)
        (scores,) = self.session.run(["probabilities"], {"image": pixels[np.newaxis]})
        return [float(score) for score in scores[0]]


def read_pixels(body: bytes, formats: tuple[str, ...], side: int) -> NDArray[np.uint8]:
    """Decode one image to RGB uint8 [side, side, 3]: upright, centre-cropped to a square, reduced, over white.

    Does to every image, pixel by pixel, what the pipeline's functions/serialize/photo.py does to a photo; a test
    compares them.

    Raises:
        BadImage: the body is empty, damaged, of another format, or too large.
    """
    if not body:
        raise BadImage("the body is empty; send the bytes of one image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(body), formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(f"{image.width} × {image.height} pixels are more than {MAX_PIXELS}")
                return np.asarray(_upright_square(image, side))
        except BadImage:
            raise
        except Exception as error:  # decoders raise whatever they trip over, from SyntaxError to struct.error
            raise BadImage(f"the body is not a readable {' or '.join(formats)} image") from error


def _upright_square(image: Image.Image, side: int) -> Image.Image:
    image.draft("RGB", (DRAFT_FACTOR * side, DRAFT_FACTOR * side))
    whole = _eight_bit(image)
    edge = min(whole.size)
    left, top = (whole.width - edge) / 2, (whole.height - edge) / 2
    # Of Pillow's filters, bicubic leaves a photo with the sharpness of the images that the model learned from.
    square = whole.resize(
        (side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge), reducing_gap=4.0
    )
    if "A" in square.getbands():
        layer = square.convert("RGBA")
        square = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    square.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return _in_srgb(ImageOps.exif_transpose(square.convert("RGB")), image.info.get("icc_profile") or b"")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits per channel; a PNG's transparent colour, in the PNG's own depth, becomes alpha."""
    rawmode = image.tile[0][3] if isinstance(image, PngImageFile) else ""
    image.load()
    transparent = image.info.get("transparency")
    if image.mode == "I;16":
        grey = np.asarray(image)
        high = Image.fromarray((grey >> 8).astype(np.uint8))
        if transparent is None:
            return high
        return Image.merge("LA", (high, Image.fromarray(255 * (grey != transparent).astype(np.uint8))))
    if transparent is None:
        return image.convert("RGBA") if image.mode in {"P", "1"} else image
    if rawmode in {"L;2", "L;4"}:
        image.info["transparency"] = transparent * 255 // (2 ** int(rawmode[-1]) - 1)
    elif rawmode == "RGB;16B":
        image.info["transparency"] = tuple(channel >> 8 for channel in transparent)
    return image.convert("RGBA")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if profile[16:20] != b"RGB ":
        return image
    try:
        to_srgb = ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), "RGB", "RGB")
        return ImageCms.applyTransform(image, to_srgb) or image
    except ImageCms.PyCMSError:  # a profile that is none: the colours are taken as they are
        return image


def create_app(model_path: Path, threads: int | None = None) -> Starlette:
    """Build the application around one model; `app.state.class_names` and `.input_size` describe it.

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
        return Response(headers={IMAGE_SIZE_HEADER: str(model.side)})

    async def invocations(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in FORMATS:
            raise HTTPException(415, f"content type {kind or 'missing'}: send {', '.join(FORMATS)}")
        body = await read_body(request)
        try:
            scores = await anyio.to_thread.run_sync(model.probabilities, body, FORMATS[kind], limiter=at_once)
        except BadImage as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(scores)

    app = Starlette(
        routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])],
        exception_handlers={HTTPException: refuse},
    )
    app.state.class_names = model.class_names
    app.state.input_size = model.side
    return app


class ImpatientProtocol(H11Protocol):
    """HTTP that closes a connection whose request does not come in whole: a stalled client holds nothing for long."""

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
        """Wait for the rest of a request that came in behind the one that is answered now."""
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
    """Read the body, giving up as soon as it is too large, whatever length it claimed."""
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
    """Answer a request that is not served, with the reason in one line of JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


def main(arguments: list[str] | None = None) -> None:
    """Serve the model until stopped."""
    parser = argparse.ArgumentParser(description="Serve a Loading Bay model as SageMaker's endpoints do.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="what SageMaker says")
    parser.add_argument("--model", type=Path, default=MODEL_PATH, help="the ONNX file (default %(default)s)")
    # SageMaker reaches the container from outside it, so every address of the container is right here.
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
