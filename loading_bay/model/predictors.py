"""Predictors with the same call for every kind of model: an ONNX file, an address, a SageMaker endpoint."""

import io
import json
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image

from loading_bay.stack.errors import UserError
from training.container.looking import BadImage, Model
from training.container.serve import ATTRIBUTES_HEADER

from .dataset import JPEG_START, Photo, Pixels

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

TIMEOUT_SECONDS = 60
CALLS_AT_ONCE = 8

# (left, top, right, bottom) as shares of the photo's sides.
Frame = tuple[float, float, float, float]


@dataclass(frozen=True)
class PhotoPrediction:
    """The answer for one photo: a probability per class and, if the model reports them, its frame and its reason."""

    probabilities: list[float]
    frame: Frame | None = None
    reason_code: str | None = None


class Predictor(Protocol):
    """Anything that classifies one encoded photo, a PNG or a JPEG."""

    def __call__(self, body: bytes) -> list[float]:
        """Return a probability per class.

        Raises:
            UserError: no answer, or one that is not a list of probabilities.
        """


class PhotoPredictor(Predictor, Protocol):
    """A predictor that also returns the frame that the model looked at, if it is known."""

    def predict(self, body: bytes) -> PhotoPrediction:
        """Return probabilities with the frame that the model looked at; raises the same errors as a call."""


def load_model(path: Path) -> Model:
    """Open a model file as the server does.

    Raises:
        UserError: the file is missing or is not a model.
    """
    try:
        return Model.load(path, threads=1)
    # onnxruntime's own errors share no base class below Exception.
    except Exception as error:
        raise UserError(f"{path} cannot be served: {error}") from error


class _Predicting(ABC):
    """The base of all predictors: a call returns the probabilities of `predict`."""

    @abstractmethod
    def predict(self, body: bytes) -> PhotoPrediction: ...

    def __call__(self, body: bytes) -> list[float]:
        return self.predict(body).probabilities


@dataclass(frozen=True)
class _OnnxPredictor(_Predicting):
    model: Model

    def predict(self, body: bytes) -> PhotoPrediction:
        try:
            answer = self.model.answer(body, ("PNG", "JPEG"))
        except BadImage as error:
            raise UserError(str(error)) from error
        return PhotoPrediction(answer.probabilities, answer.box, answer.reason_code)


@dataclass(frozen=True)
class _UrlPredictor(_Predicting):
    url: str

    def predict(self, body: bytes) -> PhotoPrediction:
        headers = {"Content-Type": content_type(body)}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/invocations", body, headers)  # noqa: S310 - http(s) only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                return parse_prediction(answer.read(), answer.headers.get(ATTRIBUTES_HEADER, ""))
        except OSError as error:
            raise UserError(f"{self.url} does not answer: {error}; is the endpoint running?") from error


@dataclass(frozen=True)
class _EndpointPredictor(_Predicting):
    runtime: "SageMakerRuntimeClient"
    endpoint: str

    def predict(self, body: bytes) -> PhotoPrediction:
        try:
            answer = self.runtime.invoke_endpoint(
                EndpointName=self.endpoint, ContentType=content_type(body), Accept="application/json", Body=body
            )
            return parse_prediction(answer["Body"].read(), answer.get("CustomAttributes", ""))
        except (ClientError, BotoCoreError) as error:
            raise UserError(f"endpoint {self.endpoint} does not answer: {error}") from error


def onnx_predictor(path: Path) -> PhotoPredictor:
    """Classify in this process with a model file.

    Raises:
        UserError: the file is missing or is not a model.
    """
    return _OnnxPredictor(load_model(path))


def url_predictor(url: str) -> PhotoPredictor:
    """Classify by `POST <url>/invocations`, as the container of this repository serves it.

    Raises:
        UserError: it is not an HTTP address.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url} is not an address: write http://HOST:PORT")
    return _UrlPredictor(url)


def endpoint_predictor(runtime: "SageMakerRuntimeClient", endpoint: str) -> PhotoPredictor:
    """Classify with a SageMaker endpoint, through a `sagemaker-runtime` client."""
    return _EndpointPredictor(runtime, endpoint)


def content_type(body: bytes) -> str:
    """Return the content type of a PNG or a JPEG."""
    return "image/jpeg" if body.startswith(JPEG_START) else "image/png"


def parse_prediction(answer: bytes, attributes: str) -> PhotoPrediction:
    """Read `[p_0, p_1, …]`, and the frame and the reason from an endpoint's custom attributes, if they hold them.

    Raises:
        UserError: the answer is not a list of two or more finite probabilities that sum to 1.
    """
    probabilities = parse_probabilities(answer)
    try:
        said = json.loads(attributes or "{}")
        left, top, right, bottom = map(float, said["box"])
        frame = left, top, right, bottom
    except (ValueError, TypeError, KeyError):
        # Other kinds of endpoint put something else there, or nothing.
        return PhotoPrediction(probabilities)
    return PhotoPrediction(probabilities, frame, said.get("reason_code"))


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


def predict_all(predictor: PhotoPredictor, photos: Iterable[Photo]) -> Iterator[PhotoPrediction]:
    """Classify photos, several at once, and yield the answers in order.

    Raises:
        UserError: one of them was not answered.
    """
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        yield from pool.map(lambda photo: predictor.predict(photo.data), photos)
