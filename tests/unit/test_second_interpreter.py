"""ClassifyPhoto ends on a second interpreter as on the first, with arguments that AWS accepts."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .second_interpreter import Interpreter, Run, interpreter
from .service_models import problems

KEY = 'uploads/Kim\'s "best" photo + a ü.jpg'
ETAG = "0123456789abcdef0123456789abcdef"
EVENT = {"bucket": {"name": "inbox"}, "object": {"key": KEY, "etag": ETAG, "version-id": "v1"}}


class UnreadablePhoto(Exception):
    """As SerializeFunction raises it."""


class LowConfidence(Exception):
    """As ThresholdFunction raises it."""


class InvalidPrediction(Exception):
    """As InferenceFunction raises it."""


class EndpointUnavailable(Exception):
    """As InferenceFunction raises it."""


def raising(error: Exception) -> Any:
    def function(payload: dict[str, Any]) -> dict[str, Any]:
        raise error

    return function


@pytest.fixture
def bay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interpreter]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with interpreter() as found:
        found.values |= {
            "Partition": "aws",
            "StackName": "bay",
            "VehicleClasses": "bicycle:1:near,motorcycle:2:far",
            "InboxBucket": "inbox",
            "DecisionsTable": found.create_table("Decisions"),
            "DecisionRetentionDays": "365",
            "ClaimSeconds": "600",
            "RetryMillis": "300000",
            "LongestRetryMillis": "600000",
            "GiveUpAfterHours": "24",
        }
        found.functions = {
            "SerializeFunctionArn": lambda given: (
                given | {"image_data": "…", "uploaded_at": "2026-11-25T18:00:00.000Z"}
            ),
            "InferenceFunctionArn": lambda given: {
                "inferences": [0.97, 0.03],
                "probabilities": {"bicycle": 0.97, "motorcycle": 0.03},
                "variant": "AllTraffic",
            },
            "ThresholdFunctionArn": lambda given: (
                given | {"vehicle": "bicycle", "confidence": 0.97, "bay": "1", "order_range": "near"}
            ),
        }
        found.s3.create_bucket(Bucket="inbox")
        yield found


def classify(bay: Interpreter, execution_input: object = EVENT) -> Run:
    run = bay.run("ClassifyPhoto", execution_input)
    for integration, arguments in run.calls:
        assert problems(integration, arguments) == "", integration
    return run


def record(bay: Interpreter) -> dict[str, Any]:
    (item,) = bay.items("Decisions")
    return {name: next(iter(value.values())) for name, value in item.items()}


def announced(run: Run) -> list[tuple[str, dict[str, Any]]]:
    entries = [arguments["Entries"][0] for integration, arguments in run.calls if integration.service == "events"]
    return [(entry["DetailType"], entry["Detail"]) for entry in entries]


def test_a_sure_photo_is_routed(bay: Interpreter) -> None:
    run = classify(bay)

    assert (run.status, run.states[-1]) == ("SUCCEEDED", "VehicleRouted")
    found = record(bay)
    assert found["photo"] == f"s3://inbox/{KEY}#{ETAG}"
    assert (found["status"], found["vehicle"], found["bay"], found["order_range"]) == ("ROUTED", "bicycle", "1", "near")
    assert found["probabilities"] == {"bicycle": {"N": "0.97"}, "motorcycle": {"N": "0.03"}}
    assert "queue" not in found
    ((kind, detail),) = announced(run)
    assert (kind, detail["stack"], detail["scores"]) == ("Vehicle Routed", "bay", "bicycle 0.97, motorcycle 0.03")
    assert detail["claim"] == found["claim"]


@pytest.mark.parametrize(
    ("function", "error", "status", "kind"),
    [
        ("SerializeFunctionArn", UnreadablePhoto("no photo"), "REJECTED", "Photo Rejected"),
        ("ThresholdFunctionArn", LowConfidence("0.52 < 0.9"), "REVIEW", "Photo Needs Review"),
        ("InferenceFunctionArn", InvalidPrediction("nonsense"), "FAILED", "Classification Failed"),
        ("InferenceFunctionArn", EndpointUnavailable("no endpoint"), "FAILED", "Classification Failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_a_function_is_recorded_and_announced(
    bay: Interpreter, function: str, error: Exception, status: str, kind: str
) -> None:
    bay.functions[function] = raising(error)

    run = classify(bay)

    assert run.status == "FAILED"
    assert (record(bay)["status"], record(bay)["error"]) == (status, type(error).__name__)
    assert record(bay)["reason"] == str(error)
    assert [each for each, _ in announced(run)] == [kind]


def test_the_second_event_of_a_photo_finds_it_claimed(bay: Interpreter) -> None:
    first = classify(bay)
    second = classify(bay)

    assert second.states[-1] == "AlreadyClaimed"
    assert second.output == {"photo": f"s3://inbox/{KEY}#{ETAG}", "status": "ALREADY_CLAIMED"}
    assert (len(announced(first)), len(announced(second))) == (1, 0)


def test_a_photo_whose_key_alone_is_known_is_looked_up(bay: Interpreter) -> None:
    bay.s3.put_object(Bucket="inbox", Key=KEY, Body=b"photo")
    etag = bay.s3.head_object(Bucket="inbox", Key=KEY)["ETag"].strip('"')

    run = classify(bay, {"s3_bucket": "inbox", "s3_key": KEY, "batch_id": "batch"})

    assert run.states[-1] == "VehicleRouted"
    assert record(bay)["photo"] == f"s3://inbox/{KEY}#{etag}"
    assert record(bay)["batch_id"] == "batch"


@pytest.mark.parametrize("nonsense", [{}, [], {"s3_key": 7}, {"bucket": {"name": "inbox"}}], ids=json.dumps)
def test_nonsense_is_refused_before_anything_is_claimed(bay: Interpreter, nonsense: object) -> None:
    run = classify(bay, nonsense)

    assert (run.status, run.error) == ("FAILED", "InvalidInput")
    assert run.calls == []
    assert bay.items("Decisions") == []
