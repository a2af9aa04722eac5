"""Everything is decided without anyone's help: the photos that RunAgain runs, when, and its announcements."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision, timestamp
from functions.decisions.reviews import Desk
from functions.decisions.table import DecisionsTable
from loading_bay.stack.deployed import STACK_NAME

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, failure

UNAVAILABLE = 503, "ServiceUnavailable"


@pytest.fixture(autouse=True)
def nothing_left(bay: Bay) -> Iterator[None]:
    """Empty the dead-letter queue after each test."""
    yield
    bay.stack.client("sqs").purge_queue(QueueUrl=bay.stack.outputs["UndeliveredEventsQueue"])


def fail(bay: Bay, endpoint: Endpoint, colour: str = "red") -> str:
    """Upload a photo while the endpoint is away; return its key once it has failed."""
    with endpoint.answering(lambda body: failure(*UNAVAILABLE)):
        key = bay.upload(picture(colour))
        assert bay.outcome(key).status == "FAILED"
        wait_for(lambda: bay.running() == 0)
    return key


def change(bay: Bay, key: str, expression: str, **values: dict[str, str]) -> None:
    (decision,) = bay.decisions(key)
    bay.dynamodb.update_item(
        TableName=bay.table,
        Key={"photo": {"S": decision.photo}},
        UpdateExpression=expression,
        ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
    )


def swept(bay: Bay, key: str) -> Decision:
    """Start RunAgain; return the photo's decision once nothing runs any more."""
    bay.sweep()
    wait_for(lambda: bay.running() == 0)
    (decision,) = bay.decisions(key)
    return decision


def announced(bay: Bay, key: str) -> list[str]:
    return [event["detail-type"] for event in bay.announced(key)]


def test_a_failed_photo_runs_again_when_due_and_later_each_time(bay: Bay, endpoint: Endpoint) -> None:
    key = fail(bay, endpoint)
    (first,) = bay.decisions(key)
    assert first.failed_at
    assert first.due_at
    assert 295 <= first.due_at - first.failed_at.timestamp() <= 301
    assert swept(bay, key).claim == first.claim

    with endpoint.answering(lambda body: failure(*UNAVAILABLE)):
        change(bay, key, "SET due_at = :past, first_failed_at = :then", past={"N": "1"}, then=ago(20))
        second = swept(bay, key)
    assert second.status == "FAILED"
    assert second.claim != first.claim
    assert second.failed_at
    assert second.due_at
    assert 595 <= second.due_at - second.failed_at.timestamp() <= 610

    bay.expire(second.photo)
    assert swept(bay, key).status == "ROUTED"
    assert announced(bay, key) == ["Classification Failed", "Classification Still Failing", "Vehicle Routed"]


def ago(minutes: float) -> dict[str, str]:
    """Return a time in the past in the table's format."""
    return {"S": timestamp(datetime.now(UTC) - timedelta(minutes=minutes))}


def test_a_photo_that_fails_for_too_long_is_given_up_and_announced(bay: Bay, endpoint: Endpoint) -> None:
    key = fail(bay, endpoint)
    with endpoint.answering(lambda body: failure(*UNAVAILABLE)):
        change(bay, key, "SET due_at = :past, first_failed_at = :then", past={"N": "1"}, then=ago(24 * 60 + 1))
        given_up = swept(bay, key)

    assert given_up.status == "FAILED"
    assert given_up.in_queue("FAILED")
    details = [event["detail"] for event in bay.announced(key)]
    assert [detail["given_up"] for detail in details] == [False, True]
    assert swept(bay, key).claim == given_up.claim
    bay.ended(bay.start({"s3_key": key}))  # a person can still run it
    (decision,) = bay.decisions(key)
    assert (decision.status, decision.queue) == ("ROUTED", None)


def test_an_unannounced_decision_of_a_person_is_announced(bay: Bay) -> None:
    key = bay.upload(picture("grey"))
    waiting = bay.outcome(key)
    assert waiting.status == "REVIEW"
    wait_for(lambda: bay.running() == 0)
    # After the decision was recorded, the function died or Step Functions was unreachable.
    desk = Desk(DecisionsTable(bay.dynamodb, bay.table), Mock(), "", parse_classes("motorcycle:2:far"))
    desk.decide(waiting.photo, "motorcycle", review_id="0f8fad5b-d9cb-469f-a165-70867728950e", reviewer="ann")
    assert announced(bay, key) == ["Photo Needs Review"]

    bay.expire(waiting.photo)
    bay.sweep()

    (decision,) = wait_for(lambda: [each for each in bay.decisions(key) if each.queue is None])
    assert (decision.status, decision.reviewed_by, decision.claim) == ("ROUTED", "ann", waiting.claim)
    assert announced(bay, key) == ["Photo Needs Review", "Vehicle Routed"]


def test_a_damaged_item_does_not_delay_others(bay: Bay, endpoint: Endpoint) -> None:
    key = fail(bay, endpoint)
    (failed,) = bay.decisions(key)
    bay.expire(failed.photo)
    shard = (failed.queue or "")[-1]
    damaged: dict[str, Any] = {"photo": {"S": "s3://damaged"}, "queue": {"S": f"OPEN#{shard}"}, "due_at": {"N": "0"}}
    damaged |= {"s3_key": {"N": "7"}, "s3_bucket": {"BOOL": True}, "failed_at": {"L": []}}
    bay.dynamodb.put_item(TableName=bay.table, Item=damaged)

    assert swept(bay, key).status == "ROUTED"

    bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": damaged["photo"]})


def send(bay: Bay, body: object) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    bay.stack.client("sqs").send_message(QueueUrl=bay.stack.outputs["UndeliveredEventsQueue"], MessageBody=text)


def left(bay: Bay) -> int:
    """Count the messages in the dead-letter queue."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs, queue = bay.stack.client("sqs"), bay.stack.outputs["UndeliveredEventsQueue"]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values()))


def elsewhere(bay: Bay, name: str, colour: str = "red") -> tuple[str, str]:
    """Store a photo without an event; return its key and ETag."""
    key = f"elsewhere/{name}"
    stored = bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture(colour))
    return key, stored["ETag"].strip('"')


def test_the_dead_letter_queue_is_drained_except_for_unknown_messages(bay: Bay) -> None:
    event_key, etag = elsewhere(bay, "dead-letter.jpg")
    aside_key, _ = elsewhere(bay, "set-aside.jpg", "blue")
    old_key, _ = elsewhere(bay, "set-aside-long-ago.jpg")
    detail = {"bucket": {"name": bay.bucket}, "object": {"key": event_key, "etag": etag}}
    announcement: dict[str, Any] = {"s3_bucket": bay.bucket, "s3_key": "uploads/told.jpg", "reason": "too dark"}
    announcement |= {"scores": "none", "decided_at": "today", "execution_arn": "arn"}
    send(bay, {"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    send(bay, {"s3_key": aside_key, "set_aside_at": ago(30)["S"]})
    send(bay, {"source": "loading-bay", "detail-type": "Photo Rejected", "detail": announcement})
    for stays in ("no JSON", {"s3_key": old_key, "set_aside_at": ago(25 * 60)["S"]}, {"detail": {"something": "else"}}):
        send(bay, stays)

    bay.sweep()

    assert bay.outcome(event_key).status == "ROUTED"
    assert bay.outcome(aside_key).status == "ROUTED"
    (message,) = wait_for(lambda: bay.notified("uploads/told.jpg"))
    assert "Photo Rejected" in message
    assert "too dark" in message
    assert left(bay) == 3
    assert not bay.decisions(old_key)


def test_messages_that_cannot_be_delivered_do_not_delay_others(bay: Bay) -> None:
    for number in range(25):
        send(bay, f"no JSON {number}")
    key, _ = elsewhere(bay, "behind-poison.jpg")
    send(bay, {"s3_key": key, "set_aside_at": ago(3)["S"]})
    future, _ = elsewhere(bay, "from-the-future.jpg")
    send(bay, {"s3_key": future, "set_aside_at": ago(-90)["S"]})

    bay.sweep()

    assert bay.outcome(key).status == "ROUTED"
    assert left(bay) == 26
    assert not bay.decisions(future)


def test_a_batch_over_the_upload_prefix_finds_photos_without_a_trace(bay: Bay) -> None:
    # Given a photo whose event was lost, and one that is decided
    rule = (
        bay.stack.client("cloudformation")
        .describe_stack_resource(StackName=STACK_NAME, LogicalResourceId="PhotoUploadedRule")["StackResourceDetail"][
            "PhysicalResourceId"
        ]
        .rpartition("/")[2]
    )
    decided = bay.upload(picture("red"), "reconcile/decided.jpg")
    first = bay.outcome(decided)
    bay.events.disable_rule(Name=rule)
    lost = bay.upload(picture("blue"), "reconcile/lost.jpg")
    bay.events.enable_rule(Name=rule)

    batch = bay.sfn.start_execution(
        stateMachineArn=bay.stack.outputs["BatchStateMachineArn"], input=json.dumps({"prefix": "uploads/reconcile/"})
    )["executionArn"]

    summary = json.loads(bay.ended(batch)["output"])
    assert (summary["routed"], summary["already_decided"]) == ({"bicycle": 0, "motorcycle": 1}, 1)
    assert bay.outcome(lost).status == "ROUTED"
    assert bay.outcome(decided).claim == first.claim
