"""Calling the endpoint: the request, the failures to retry, and invalid answers."""

import io
import json
from collections.abc import Sequence
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.inference.endpoint import EndpointUnavailable, InvalidPrediction, Prediction, predict


@pytest.fixture
def stub() -> Stubber:
    return make_stub()


def make_stub() -> Stubber:
    client = boto3.client("sagemaker-runtime")
    stubber = Stubber(client)
    stubber.activate()
    return stubber


CLASSES = ("bicycle", "motorcycle")


def answer(body: bytes, **more: str) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(body), len(body)), "InvokedProductionVariant": "blue"} | more


def ask(stub: Stubber, class_names: Sequence[str] = CLASSES) -> Prediction:
    return predict(stub.client, "loading-bay", b"png", content_type="image/png", class_names=class_names)


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg"])
def test_the_picture_is_sent_with_its_type_and_the_probabilities_come_back(stub: Stubber, content_type: str) -> None:
    sent = {
        "EndpointName": "loading-bay",
        "ContentType": content_type,
        "Accept": "application/json",
        "Body": b"picture",
    }
    stub.add_response("invoke_endpoint", answer(b"[0.0073, 0.9927]"), sent)

    prediction = predict(stub.client, "loading-bay", b"picture", content_type=content_type, class_names=CLASSES)

    assert prediction == Prediction([0.0073, 0.9927], "blue")


def test_a_claim_names_the_call_for_data_capture(stub: Stubber) -> None:
    sent = {
        "EndpointName": "loading-bay",
        "ContentType": "image/png",
        "Accept": "application/json",
        "Body": b"png",
        "InferenceId": "3f0c1b6e-5d1c-4f3c-9a53-0d6a3f0f7d7e",
    }
    stub.add_response("invoke_endpoint", answer(b"[0.0073, 0.9927]"), sent)

    claim = "3f0c1b6e-5d1c-4f3c-9a53-0d6a3f0f7d7e"
    predict(stub.client, "loading-bay", b"png", content_type="image/png", class_names=CLASSES, inference_id=claim)

    stub.assert_no_pending_responses()


def test_a_probability_too_small_to_record_becomes_zero(stub: Stubber) -> None:
    stub.add_response("invoke_endpoint", answer(b"[1.0, 1e-200]"))

    assert ask(stub).probabilities == [1.0, 0.0]


def test_a_truncated_answer_is_a_failure(stub: Stubber) -> None:
    stub.add_response("invoke_endpoint", {"Body": StreamingBody(io.BytesIO(b"[0.9"), 10)})

    with pytest.raises(EndpointUnavailable, match="did not answer"):
        ask(stub)


@pytest.mark.parametrize("probabilities", [[1, 0], [0.2, 0.3, 0.5], [0.1] * 10])
def test_any_number_of_classes_is_read(stub: Stubber, probabilities: list[float]) -> None:
    stub.add_response("invoke_endpoint", answer(json.dumps(probabilities).encode()))

    assert ask(stub, [str(number) for number in range(len(probabilities))]).probabilities == probabilities


@pytest.mark.parametrize(
    ("code", "status", "details", "error"),
    [
        ("ThrottlingException", 429, {}, EndpointUnavailable),
        ("ServiceUnavailable", 503, {}, EndpointUnavailable),
        ("InternalFailure", 500, {}, EndpointUnavailable),
        ("ModelNotReadyException", 429, {}, EndpointUnavailable),
        ("ValidationError", 400, {}, ClientError),
        ("AccessDeniedException", 403, {}, ClientError),
        ("ModelError", 424, {"OriginalStatusCode": 500}, EndpointUnavailable),
        ("ModelError", 424, {"OriginalStatusCode": 429}, EndpointUnavailable),
        ("ModelError", 424, {"OriginalStatusCode": 400}, InvalidPrediction),
    ],
)
def test_a_failure_is_worth_another_try_only_if_it_may_pass(
    stub: Stubber, code: str, status: int, details: dict[str, Any], error: type[Exception]
) -> None:
    stub.add_client_error("invoke_endpoint", code, "why", status, modeled_fields=details)

    with pytest.raises(error, match="why"):
        ask(stub)


def test_a_missing_endpoint_is_worth_another_try(stub: Stubber) -> None:
    stub.add_client_error("invoke_endpoint", "ValidationError", "Endpoint loading-bay of account 1 not found.", 400)

    with pytest.raises(EndpointUnavailable, match="not found"):
        ask(stub)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"0.5",
        b'"[0.5, 0.5]"',
        b"{}",
        b"[]",
        b"[1.0]",
        b"[0.2, 0.3, 0.5]",
        b"[NaN, 1.0]",
        b"[Infinity, 0.0]",
        b"[-0.5, 1.5]",
        b"[0.9, 0.9]",
        b"[0.0, 0.0]",
        b"[true, false]",
        b'["0.5", "0.5"]',
        b"[[0.5, 0.5]]",
        b"[0.5, 0.5",
        b"[" * 60_000,
        b"[0.5, 0.5" + b" " * 70_000 + b"]",
        b"\xff\xfe",
    ],
    ids=lambda body: body[:20].decode("latin1"),
)
def test_an_answer_that_is_not_a_pair_of_probabilities_is_named(stub: Stubber, body: bytes) -> None:
    stub.add_response("invoke_endpoint", answer(body))

    with pytest.raises(InvalidPrediction):
        ask(stub)


@given(st.binary(max_size=200) | st.from_regex(rb"\[[-0-9.eE, ]{0,40}\]", fullmatch=True))
def test_every_answer_keeps_the_contract(body: bytes) -> None:
    stub = make_stub()
    stub.add_response("invoke_endpoint", answer(body))

    try:
        probabilities = ask(stub).probabilities
    except InvalidPrediction:
        return
    assert len(probabilities) == 2
    assert sum(probabilities) == pytest.approx(1, abs=0.01)


FOUND = {"box": [0.25, 0.1, 0.75, 0.9], "score": 0.8, "counts": {"bicycle": 2}, "reason_code": "UNSURE"}
READ = FOUND | {"box": {"left": 0.25, "top": 0.1, "right": 0.75, "bottom": 0.9}}


def asked_with(attributes: str) -> Prediction:
    stub = make_stub()
    stub.add_response("invoke_endpoint", answer(b"[0.5, 0.5]", CustomAttributes=attributes))
    return ask(stub)


def test_what_the_endpoint_found_in_the_photo_comes_back_with_the_probabilities() -> None:
    assert asked_with(json.dumps(FOUND)) == Prediction([0.5, 0.5], "blue", READ)


@pytest.mark.parametrize("part", FOUND)
def test_an_endpoint_may_say_only_a_part_of_it(part: str) -> None:
    parts = {"box", "score"} if part in {"box", "score"} else {part}
    said = asked_with(json.dumps({name: FOUND[name] for name in parts}))

    assert said.detection == {name: READ[name] for name in parts}


@pytest.mark.parametrize("attributes", ["", "trace=1", "7", "[]", "{}", '{"trace": 1}', "[" * 1000])
def test_attributes_that_are_about_something_else_are_left_alone(attributes: str) -> None:
    assert asked_with(attributes) == Prediction([0.5, 0.5], "blue")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"box": [0.1, 0.1, 0.9]}, "four shares"),
        ({"box": [0.1, 0.1, 0.9, 1.5]}, "four shares"),
        ({"box": [0.1, 0.1, 0.9, float("nan")]}, "four shares"),
        ({"box": [True, 0.1, 0.9, 0.9]}, "four shares"),
        ({"box": "0.1 0.1 0.9 0.9"}, "four shares"),
        ({"box": [0.9, 0.1, 0.1, 0.9]}, "empty"),
        ({"box": [0.1, 0.5, 0.9, 0.50001]}, "empty"),
        ({"score": "0.9"}, "score"),
        ({"score": None}, "score"),
        ({"score": -0.1}, "score"),
        ({"counts": {"car": 1}}, "counts"),
        ({"counts": {"bicycle": -1}}, "counts"),
        ({"counts": {"bicycle": 0.5}}, "counts"),
        ({"counts": {"bicycle": 10**40}}, "counts"),
        ({"counts": [1, 2]}, "counts"),
        ({"reason_code": "BORED"}, "reason code"),
        ({"reason_code": ["UNSURE"]}, "reason code"),
    ],
)
def test_what_was_found_is_left_out_where_it_makes_no_sense_and_the_probabilities_count(
    wrong: dict[str, Any], fault: str
) -> None:
    prediction = asked_with(json.dumps(FOUND | wrong))

    assert (prediction.probabilities, prediction.detection) == ([0.5, 0.5], None)
    assert fault in prediction.fault


@settings(deadline=None)
@given(st.text(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_attributes_make_an_answer_invalid(attributes: str) -> None:
    assert asked_with(attributes).probabilities == [0.5, 0.5]
