"""Predictors from a file, an address or an endpoint, and their errors."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from PIL import Image

from loading_bay.model import predictors
from loading_bay.model.dataset import Photo
from loading_bay.stack.errors import UserError

GREY = predictors.encode(np.full((32, 32, 3), 128, dtype=np.uint8))
ATTRIBUTES = '{"counts":{"bicycle":1},"box":[0.1,0.2,0.5,0.6],"score":0.7,"reason_code":"UNSURE"}'
FRAME = (0.1, 0.2, 0.5, 0.6)


@pytest.fixture
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            right = body == GREY and self.headers["Content-Type"] == "image/png" and self.path == "/invocations"
            answer = b"[0.25, 0.75]" if right else b"{}"
            self.send_response(200)
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", ATTRIBUTES)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Do not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_shipped_file_answers() -> None:
    answer = predictors.onnx_predictor(Path("training/model/model.onnx"))(GREY)
    assert len(answer) == 2
    assert sum(answer) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_a_file_that_is_not_a_model_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"m\.onnx cannot be served"):
        predictors.onnx_predictor(path)


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_address_answers(address: str, slash: str) -> None:
    predictor = predictors.url_predictor(address + slash)
    assert predictor(GREY) == [0.25, 0.75]
    assert predictor.predict(GREY) == predictors.PhotoPrediction([0.25, 0.75], FRAME, "UNSURE")


def test_an_address_that_is_dead_or_wrong_is_named() -> None:
    with pytest.raises(UserError, match="is the endpoint running"):
        predictors.url_predictor("http://127.0.0.1:9")(GREY)
    with pytest.raises(UserError, match="write http://HOST:PORT"):
        predictors.url_predictor("file:///etc/passwd")


def test_a_sagemaker_endpoint_answers() -> None:
    runtime = boto3.client("sagemaker-runtime")
    with Stubber(runtime) as stub:
        body = StreamingBody(io.BytesIO(b"[0.0073, 0.9927]"), 16)
        expected = {"EndpointName": "bay", "ContentType": "image/png", "Accept": "application/json", "Body": GREY}
        stub.add_response("invoke_endpoint", {"Body": body, "CustomAttributes": ATTRIBUTES}, expected)
        prediction = predictors.endpoint_predictor(runtime, "bay").predict(GREY)
        assert (prediction.probabilities, prediction.frame) == ([0.0073, 0.9927], FRAME)
        stub.add_client_error("invoke_endpoint", "ValidationError", "Endpoint bay of account 1 not found.")
        with pytest.raises(UserError, match=r"endpoint bay does not answer: .*not found"):
            predictors.endpoint_predictor(runtime, "bay")(GREY)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"{}",
        b'"a"',
        b"[0.5]",
        b"[0.5, NaN]",
        b"[0.9, 0.9]",
        b"[-0.5, 1.5]",
        b"[[0.5, 0.5]]",
        b"[0.5, [1]]",
    ],
)
def test_an_answer_that_is_not_a_list_of_probabilities_is_shown(answer: bytes) -> None:
    with pytest.raises(UserError, match="not a list of probabilities"):
        predictors.parse_probabilities(answer)


@pytest.mark.parametrize(
    "attributes", ["", "trace-7", "[]", "{}", '{"box":[1,2,3]}', '{"box":"a"}', '{"box":null}', '"a"']
)
def test_an_endpoint_that_says_nothing_of_what_it_looked_at_answers_all_the_same(attributes: str) -> None:
    assert predictors.parse_prediction(b"[0.5, 0.5]", attributes) == predictors.PhotoPrediction([0.5, 0.5])


def test_a_photo_is_sent_as_what_it_is() -> None:
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    assert predictors.content_type(jpeg.getvalue()) == "image/jpeg"
    assert predictors.content_type(GREY) == "image/png"


class Counting:
    """Answers with the number that a photo's bytes are."""

    def __call__(self, body: bytes) -> list[float]:
        return self.predict(body).probabilities

    def predict(self, body: bytes) -> predictors.PhotoPrediction:
        return predictors.PhotoPrediction([float(body)])


def test_answers_come_in_the_order_of_the_photos() -> None:
    photos = [Photo(str(value), "x", str(value).encode()) for value in range(40)]
    answers = predictors.predict_all(Counting(), photos)
    assert [answer.probabilities[0] for answer in answers] == list(range(40))
