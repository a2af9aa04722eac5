"""The endpoint over HTTP, called like SageMaker, with the model that ships."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

import boto3
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.types import ASGIApp

from functions.inference.endpoint import predict
from loading_bay.local.capture import CaptureWriter
from loading_bay.local.endpoint import SageMakerRuntime
from loading_bay.stack.image_size import served_size
from training.container import serve
from training.container.settings import THRESHOLD

MODEL = Path("training/model/model.onnx")


@pytest.fixture(scope="module")
def app() -> Starlette:
    return serve.create_app(MODEL)


@contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """Serve an application on loopback; gives its port."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", http=serve.ImpatientProtocol)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def port(app: Starlette) -> Iterator[int]:
    with served(app) as port:
        yield port


def call(port: int, method: str, path: str, body: bytes = b"", kind: str | None = "image/png") -> tuple[int, bytes]:
    status, answer, _ = call_in_full(port, method, path, body, kind)
    return status, answer


def call_in_full(port: int, method: str, path: str, body: bytes, kind: str | None) -> tuple[int, bytes, Message]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def picture(file_format: str, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(file, file_format)
    return file.getvalue()


def reason(answer: bytes) -> str:
    text = json.loads(answer)["error"]
    assert "\n" not in text
    return str(text)


def test_ping_answers_at_once(port: int) -> None:
    assert call(port, "GET", "/ping") == (200, b"")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (picture("PNG"), "image/png"),
        (picture("JPEG"), "image/jpeg"),
        (picture("PNG"), "application/x-image"),
        (picture("JPEG"), "application/x-image"),
        (picture("JPEG", (1600, 900)), "image/jpeg; charset=binary"),
        (picture("PNG", (7, 50)), "IMAGE/PNG"),
        (picture("PNG", mode="L"), "image/png"),
        (picture("PNG", mode="RGBA"), "image/png"),
        (picture("PNG", mode="P"), "image/png"),
        (picture("JPEG", mode="CMYK"), "image/jpeg"),
    ],
)
def test_an_image_is_answered_with_probabilities(port: int, body: bytes, kind: str) -> None:
    status, answer = call(port, "POST", "/invocations", body, kind)
    assert status == 200
    scores = json.loads(answer)
    assert len(scores) == 2
    assert all(0 <= score <= 1 for score in scores)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (416, 312), (200, 416), (3000, 2000)])
def test_what_was_found_is_said_in_sagemakers_attributes(port: int, size: tuple[int, int]) -> None:
    _, answer, headers = call_in_full(port, "POST", "/invocations", picture("JPEG", size), "image/jpeg")
    text = headers["X-Amzn-SageMaker-Custom-Attributes"]
    assert text.isascii()
    assert len(text) <= 1024
    said = json.loads(text)
    assert set(said) <= {"box", "score", "counts", "reason_code"}
    assert set(said["counts"]) == {"bicycle", "motorcycle"}
    assert said.get("reason_code") in {None, "NO_VEHICLE", "SEVERAL_VEHICLES", "TOO_SMALL", "UNSURE"}
    assert ("reason_code" in said) == (max(json.loads(answer)) < THRESHOLD)


def test_what_was_found_reaches_the_function_through_the_local_sagemaker(app: Starlette, tmp_path: Path) -> None:
    photo = picture("JPEG", (416, 312))
    runtime = SageMakerRuntime(app, "bay", "AllTraffic", CaptureWriter(tmp_path, "bay", "AllTraffic", 100))
    with served(runtime) as port:
        _, _, headers = call_in_full(port, "POST", "/invocations", photo, "image/jpeg")
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=f"http://127.0.0.1:{port}",
        )
        prediction = predict(client, "bay", photo, content_type="image/jpeg", class_names=("bicycle", "motorcycle"))

    assert prediction.fault == ""
    assert prediction.detection
    assert prediction.detection["counts"] == json.loads(headers["X-Amzn-SageMaker-Custom-Attributes"])["counts"]


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (b"", "image/png", "empty"),
        (b"not an image", "image/png", "not a readable PNG"),
        (picture("PNG")[:-40], "image/png", "not a readable PNG"),
        (picture("JPEG"), "image/png", "not a readable PNG"),
        (picture("PNG"), "image/jpeg", "not a readable JPEG"),
        (picture("GIF"), "application/x-image", "not a readable PNG or JPEG"),
        (picture("PNG", (9000, 6000), "L"), "image/png", "54000000|9000 × 6000"),
    ],
)
def test_a_bad_body_is_refused_with_the_reason(port: int, body: bytes, kind: str, why: str) -> None:
    status, answer = call(port, "POST", "/invocations", body, kind)
    assert status == 400
    assert any(part in reason(answer) for part in why.split("|"))


@pytest.mark.parametrize("kind", ["text/csv", "application/json", "image/webp", None])
def test_another_content_type_is_refused(port: int, kind: str | None) -> None:
    status, answer = call(port, "POST", "/invocations", picture("PNG"), kind)
    assert status == 415
    assert "image/png" in reason(answer)


def test_a_body_over_the_limit_is_refused(port: int) -> None:
    status, answer = call(port, "POST", "/invocations", b"\0" * (serve.MAX_BYTES + 1))
    assert status == 413
    assert str(serve.MAX_BYTES) in reason(answer)


def test_a_wrong_method_is_refused(port: int) -> None:
    assert call(port, "GET", "/invocations")[0] == 405


def test_an_upside_down_photo_is_turned_by_its_exif(port: int) -> None:
    upright = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180°
    turned = io.BytesIO()
    upright.rotate(180).save(turned, "PNG", exif=exif)
    assert json.loads(call(port, "POST", "/invocations", turned.getvalue())[1]) == pytest.approx(
        json.loads(call(port, "POST", "/invocations", picture("PNG"))[1]), abs=1e-6
    )


def test_concurrent_requests_do_not_change_an_answer(port: int) -> None:
    alone = call(port, "POST", "/invocations", picture("PNG"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(port, "POST", "/invocations", picture("PNG")), range(40)))
    assert answers == [alone] * 40


def test_ping_returns_the_models_picture_size(port: int) -> None:
    assert served_size(f"http://127.0.0.1:{port}") == 416


def test_ping_answers_while_images_are_classified(port: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(call, port, "POST", "/invocations", picture("PNG", (4000, 3000))) for _ in range(4)]
        started = time.monotonic()
        assert call(port, "GET", "/ping")[0] == 200
        assert time.monotonic() - started < 2
        assert {future.result()[0] for future in working} == {200}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /pi",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nab",
        b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\nGET /pi",
    ],
    ids=["nothing", "half a head", "half a body", "half a second request"],
)
def test_a_stalled_connection_is_closed(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:  # idle ones stay open for longer
        connection.sendall(sent)
        while connection.recv(65_536):
            pass


def test_a_slow_but_complete_request_is_answered(port: int) -> None:
    body = picture("PNG")
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in (head[:20], head[20:], body[:50], body[50:]):
            connection.sendall(part)
            time.sleep(0.05)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.onnx"):
        serve.create_app(tmp_path / "nothing.onnx")


def test_the_command_line_names_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        serve.main(["serve", "--model", str(tmp_path / "nothing.onnx")])
    assert capsys.readouterr().err == f"there is no model at {tmp_path / 'nothing.onnx'}\n"
