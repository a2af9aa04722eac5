"""Whatever answers with probabilities, behind one call: an ONNX file, an address, a SageMaker endpoint."""

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image

from loading_bay.stack.errors import UserError
from training.container.serve import BadImage, Model

from .dataset import Photo, Pixels

CONTENT_TYPE = "image/png"
TIMEOUT_SECONDS = 60
CALLS_AT_ONCE = 8


class Predictor(Protocol):
    """Anything that classifies one encoded image."""

    def __call__(self, body: bytes) -> list[float]:
        """Return a probability per class for PNG bytes.

        Raises:
            UserError: no answer, or one that is not a list of probabilities.
        """


def load_model(path: Path) -> Model:
    """Open a model file as the server does.

    Raises:
        UserError: the file is missing or no model.
    """
    try:
        return Model.load(path, threads=1)
    # onnxruntime's own errors share no base class below Exception.
    except Exception as error:
        raise UserError(f"{path} cannot be served: {error}") from error


def onnx_predictor(path: Path) -> Predictor:
    """Classify in this process with a model file.

    Raises:
        UserError: the file is missing or no model.
    """
    model = load_model(path)

    def predict(body: bytes) -> list[float]:
        try:
            return model.probabilities(body, ("PNG",))
        except BadImage as error:
            raise UserError(str(error)) from error

    return predict


def url_predictor(url: str) -> Predictor:
    """Classify by `POST <url>/invocations`: our container, wherever it listens.

    Raises:
        UserError: the address is not of HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url} is not an address: write http://HOST:PORT")

    def predict(body: bytes) -> list[float]:
        headers = {"Content-Type": CONTENT_TYPE}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                return parse_probabilities(answer.read())
        except OSError as error:
            raise UserError(f"{url} does not answer: {error}; is the endpoint running?") from error

    return predict


def endpoint_predictor(runtime: Any, endpoint: str) -> Predictor:
    """Classify with a SageMaker endpoint, through a `sagemaker-runtime` client."""

    def predict(body: bytes) -> list[float]:
        try:
            answer = runtime.invoke_endpoint(
                EndpointName=endpoint, ContentType=CONTENT_TYPE, Accept="application/json", Body=body
            )
            return parse_probabilities(answer["Body"].read())
        except (ClientError, BotoCoreError) as error:
            raise UserError(f"endpoint {endpoint} does not answer: {error}") from error

    return predict


def parse_probabilities(answer: bytes) -> list[float]:
    """Read `[p_0, p_1, …]`.

    Raises:
        UserError: it is not a list of two or more finite probabilities that sum to 1.
    """
    try:
        content = json.loads(answer)
        values = np.array(content, dtype=float)
    except (ValueError, TypeError) as error:
        raise UserError(f"the endpoint answered {answer[:80]!r}, not a list of probabilities") from error
    valid = values.ndim == 1 and len(values) > 1 and np.isfinite(values).all() and (values >= 0).all()
    if not valid or abs(values.sum() - 1) > 0.01:
        raise UserError(f"the endpoint answered {answer[:80]!r}, not a list of probabilities")
    return [float(value) for value in values]


def encode(pixels: Pixels) -> bytes:
    """Return RGB pixels [H, W, 3] as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def predict_all(predictor: Predictor, photos: Iterable[Photo]) -> Iterator[list[float]]:
    """Classify photos, several at once, and give the answers in order.

    Raises:
        UserError: one of them was not answered.
    """
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        yield from pool.map(lambda photo: predictor(encode(photo.pixels)), photos)
