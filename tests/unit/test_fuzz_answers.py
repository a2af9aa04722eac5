"""Any answer of the endpoint over a real connection gives valid probabilities or one of the two errors.

`FUZZ_EXAMPLES` sets the number of examples.
"""

import json
import math
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from functions.inference.endpoint import EndpointUnavailable, InvalidPrediction, predict

CLASSES = ("bicycle", "motorcycle")
EXAMPLES = max(150, int(os.environ.get("FUZZ_EXAMPLES", "0")) // 20)  # each is a call over a connection

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.lists(st.floats(), min_size=2, max_size=2).map(lambda pair: json.dumps(pair).encode())
    | st.floats(0, 1).map(lambda p: json.dumps([p, 1 - p]).encode())
    | st.sampled_from([b"[1e999, 0]", b"[" + b"9" * 5000 + b", 0]", b"[" * 5000, b"\xef\xbb\xbf[0.5, 0.5]"])
)
NAMES = st.sampled_from(
    ["ModelError", "ValidationError", "ThrottlingException", "ServiceUnavailable", "AccessDeniedException", ""]
) | st.from_regex(r"[A-Za-z#:/.]{1,30}", fullmatch=True)


class Scripted(BaseHTTPRequestHandler):
    """Answers every request with the test's bytes."""

    status: int
    headers_sent: dict[str, str]
    body: bytes

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(Scripted.status)
        for name, value in Scripted.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(Scripted.body)))
        self.end_headers()
        self.wfile.write(Scripted.body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Do not log."""


@pytest.fixture(scope="module")
def runtime() -> Iterator[object]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
    )
    server.shutdown()
    server.server_close()


fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzz
@given(body=BODIES)
def test_any_answer_is_a_pair_of_probabilities_or_an_error(runtime: object, body: bytes) -> None:
    Scripted.status, Scripted.headers_sent, Scripted.body = 200, {"Content-Type": "application/json"}, body

    try:
        prediction = predict(runtime, "loading-bay", b"png", content_type="image/png", class_names=CLASSES)
    except InvalidPrediction as refusal:
        reason = str(refusal)
        assert len(reason) < 500, "it goes into the state, the record and a mail"
        return
    assert len(prediction.probabilities) == 2
    assert all(math.isfinite(p) and 0 <= p <= 1 for p in prediction.probabilities)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=0.01)


@fuzz
@given(
    status=st.sampled_from([400, 403, 404, 424, 429, 500, 503]),
    name=NAMES,
    body=BODIES
    | st.fixed_dictionaries({"Message": JSON, "OriginalStatusCode": JSON}).map(lambda d: json.dumps(d).encode()),
)
@example(status=400, name="ValidationError", body=b'{"Message": null}')
def test_a_failure_is_named_and_retried_if_it_may_pass(runtime: object, status: int, name: str, body: bytes) -> None:
    Scripted.status, Scripted.body = status, body
    Scripted.headers_sent = {"Content-Type": "application/json", "x-amzn-ErrorType": name}

    with pytest.raises((EndpointUnavailable, InvalidPrediction, ClientError)) as raised:
        predict(runtime, "loading-bay", b"png", content_type="image/png", class_names=CLASSES)

    if status >= 500:
        assert raised.type is not ClientError
