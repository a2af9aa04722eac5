"""The example of a consumer acts once for each decision: duplicates, corrections, both types, any order."""

import importlib.util
import json
import random
from collections import Counter
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from loading_bay.stack.template import ROOT, read_template
from tests.integration.contract import SCHEMAS, breaches

EXAMPLE = ROOT / "examples" / "consumer"
CONTEXT = SimpleNamespace(
    function_name="consumer",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:::consumer",
    aws_request_id="1",
    get_remaining_time_in_millis=lambda: 9000,
)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("ACTED_TABLE", "acted")
    with mock_aws():
        table = read_template(EXAMPLE / "template.yaml")["Resources"]["Acted"]["Properties"]
        wanted = ("AttributeDefinitions", "KeySchema", "BillingMode")
        boto3.client("dynamodb").create_table(TableName="acted", **{name: table[name] for name in wanted})
        spec = importlib.util.spec_from_file_location("consumer_app", EXAMPLE / "consumer" / "app.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def told(consumer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(consumer, "tell_dispatch", told.append)
    return told


def event(detail_type: str, example: int = 0, **changes: Any) -> dict[str, Any]:
    """Return an event as EventBridge delivers it; its detail is that of a schema's example."""
    found: dict[str, Any] = SCHEMAS[detail_type]["examples"][example]
    envelope = {
        "version": "0",
        "id": "1",
        "account": "1",
        "time": "2026-11-28T18:00:00Z",
        "region": "",
        "resources": [],
    }
    return envelope | found | {"detail": found["detail"] | changes}


def hear(consumer: ModuleType, *events: dict[str, Any]) -> list[dict[str, str]]:
    """Deliver events through the queue; returns the messages that stay there."""
    records = [
        {"messageId": str(number), "body": json.dumps(each), "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:"}
        for number, each in enumerate(events)
    ]
    failed: list[dict[str, str]] = consumer.handler({"Records": records}, CONTEXT)["batchItemFailures"]
    return failed


def test_it_acts_once_for_each_decision_in_whatever_order(consumer: ModuleType, told: list[dict[str, Any]]) -> None:
    decisions = [
        event("Vehicle Routed", photo=f"s3://b/uploads/driver-{number}/1.jpg#0", revision=revision)
        for number in range(20)
        for revision in range(number % 3 + 1)
    ]
    decisions += [event("Photo Rejected", photo=f"s3://b/uploads/driver-{number}/2.jpg#0") for number in range(10)]
    assert all(breaches({name: each[name] for name in ("source", "detail-type", "detail")}) == [] for each in decisions)
    heard = decisions * 3
    random.Random(1).shuffle(heard)

    for start in range(0, len(heard), 10):
        assert hear(consumer, *heard[start : start + 10]) == []

    acted = [(each["photo"], each["claim"], each["revision"]) for each in told]
    assert len(acted) == len(set(acted)) == len(decisions)


def test_a_photo_that_is_classified_again_is_another_decision(consumer: ModuleType, told: list[dict[str, Any]]) -> None:
    hear(consumer, event("Vehicle Routed"), event("Vehicle Routed", claim="another"))

    assert len(told) == 2


def test_what_fails_or_has_another_form_stays_in_the_queue_and_holds_up_no_other(
    consumer: ModuleType, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(decision: dict[str, Any]) -> None:
        if decision["driver"] == "unlucky":
            raise OSError("dispatch is away")
        told.append(decision)

    monkeypatch.setattr(consumer, "tell_dispatch", fail)
    unlucky = event("Vehicle Routed", driver="unlucky", claim="2")

    left = hear(consumer, event("Vehicle Routed"), unlucky, event("Vehicle Routed", version="2", claim="3"))

    assert [each["itemIdentifier"] for each in left] == ["1", "2"]
    monkeypatch.setattr(consumer, "tell_dispatch", told.append)
    assert hear(consumer, unlucky) == []
    assert [each["driver"] for each in told] == ["driver-7", "unlucky"]


class Killed(BaseException):
    """The process died: nothing is caught, and nothing is tidied up."""


@pytest.mark.long
def test_under_faults_each_of_500_decisions_is_acted_on_once_unless_a_death_hides_that_it_was(
    consumer: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a death between acting and remembering repeats an action, with the same three fields."""
    chance, photos = random.Random(7), [f"s3://b/uploads/driver-{number}/1.jpg#0" for number in range(500)]
    acted, hidden = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()

    def tell(decision: dict[str, Any]) -> None:
        decided = (decision["photo"], decision["claim"], decision["revision"])
        fault = chance.random()
        if fault < 0.05:
            raise OSError("dispatch is away")
        if fault < 0.07:
            raise Killed
        acted[decided] += 1
        if fault < 0.09:
            hidden[decided] += 1
            raise Killed

    monkeypatch.setattr(consumer, "tell_dispatch", tell)
    monkeypatch.setattr(CONTEXT, "get_remaining_time_in_millis", lambda: 0)  # redelivered after the function's timeout
    queue = [event("Vehicle Routed", photo=photo) for photo in photos for _ in range(chance.choice((1, 1, 2, 3)))]
    chance.shuffle(queue)
    while queue:
        batch, queue = queue[:10], queue[10:]
        try:
            queue += [batch[int(left["itemIdentifier"])] for left in hear(consumer, *batch)]
        except Killed:
            queue += batch

    assert {photo for photo, _, _ in acted} == set(photos)
    assert hidden
    assert {decided: count - 1 for decided, count in acted.items() if count > 1} == hidden
