"""One AWS fault at a time: its effect on the photo, the record and the announcement."""

import json
import uuid
from collections.abc import Iterator

import pytest

from .bay import Bay, picture
from .faults import CLAIM, CONFIRM, RECORD, Fault, FaultyAws

pytestmark = pytest.mark.long

UNAVAILABLE = "DynamoDB.InternalServerErrorException"


@pytest.fixture(autouse=True)
def healed(aws: FaultyAws) -> Iterator[None]:
    yield
    aws.inject()


def put(bay: Bay, name: str) -> dict[str, str]:
    """Store a photo without an event; return the input that starts an execution."""
    key = f"elsewhere/{name}"
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("red"))
    return {"s3_bucket": bay.bucket, "s3_key": key}


def statuses_announced(bay: Bay, key: str) -> list[str]:
    return [event["detail"]["status"] for event in bay.announced(key)]


@pytest.mark.parametrize("lost_answer", [False, True], ids=["nothing done", "answer lost"])
def test_occasional_database_failures_lose_nothing(troubled_bay: Bay, aws: FaultyAws, lost_answer: bool) -> None:
    for number in range(5):
        photo = put(troubled_bay, f"database-{lost_answer}-{number}.jpg")
        aws.inject(
            Fault("dynamodb:updateItem", "DynamoDB.SdkClientException", 0.6, lost_answer, 5, CLAIM),
            Fault("dynamodb:updateItem", "DynamoDB.SdkClientException", 0.6, lost_answer, 5, RECORD),
            Fault("dynamodb:updateItem", UNAVAILABLE, 1, lost_answer, 2, CONFIRM),
        )

        assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

        assert troubled_bay.outcome(photo["s3_key"]).status == "ROUTED"
        assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_a_photo_waits_for_a_throttled_table(troubled_bay: Bay, aws: FaultyAws) -> None:
    # Errors that the DynamoDB model does not name, such as throttling of an on-demand table, get this name.
    photo = put(troubled_bay, "throttled.jpg")
    aws.inject(Fault("dynamodb:updateItem", "DynamoDB.AmazonDynamoDBException", 1, limit=3))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"


def test_an_announcement_with_a_lost_answer_is_repeated(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "lost-answer.jpg")
    aws.inject(Fault("events:putEvents", "EventBridge.SdkClientException", 1, lost_answer=True, limit=1))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

    assert len(troubled_bay.decisions(photo["s3_key"])) == 1
    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED", "ROUTED"]


def test_an_unannounced_outcome_is_decided_again_when_its_claim_is_due(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "not-announced.jpg")
    aws.inject(Fault("events:putEvents", "EventBridge.InternalException", 1))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert ended["error"] == "ClassificationFailed"
    assert "recorded as ROUTED, but it could not be announced" in ended["cause"]
    aws.inject()
    decision = troubled_bay.outcome(photo["s3_key"])
    assert (decision.status, decision.announced_at) == ("ROUTED", None)
    assert decision.in_queue("OPEN")
    troubled_bay.expire(decision.photo)
    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"
    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_an_announcement_that_could_not_be_confirmed_still_ends_the_execution_as_decided(
    troubled_bay: Bay, aws: FaultyAws
) -> None:
    photo = put(troubled_bay, "not-confirmed.jpg")
    aws.inject(Fault("dynamodb:updateItem", UNAVAILABLE, 1, about=CONFIRM))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("dynamodb:updateItem", UNAVAILABLE, 1, about=CLAIM), "could not be claimed"),
        (Fault("s3:listObjectsV2", "S3.SdkClientException", 1), "could not be looked up"),
        (Fault("s3:listObjectsV2", "S3.S3Exception", 1), "could not be looked up"),
    ],
    ids=["claim", "lookup", "lookup 5xx"],
)
def test_a_photo_that_cannot_be_claimed_is_set_aside_silently(
    troubled_bay: Bay, aws: FaultyAws, fault: Fault, why: str
) -> None:
    photo = put(troubled_bay, f"aside-{uuid.uuid4()}.jpg")
    called = len(aws.journal())
    aws.inject(fault)

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert (ended["status"], ended["error"]) == ("FAILED", "ClassificationFailed")
    assert why in ended["cause"]
    assert not troubled_bay.decisions(photo["s3_key"])
    assert not statuses_announced(troubled_bay, photo["s3_key"])
    (sent,) = [
        call.request for call in aws.journal()[called:] if (call.call, call.phase) == ("sqs:sendMessage", "done")
    ]
    assert sent["MessageBody"]["s3_key"] == photo["s3_key"]
    assert sent["DelaySeconds"] == 60
    aws.inject()
    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("error", "status"),
    [("S3.S3Exception", 400), ("S3.S3Exception", 403), ("S3.NoSuchBucketException", 404), ("S3.S3Exception", 404)],
)
def test_a_lookup_that_s3_refuses_is_asked_once(troubled_bay: Bay, aws: FaultyAws, error: str, status: int) -> None:
    photo = put(troubled_bay, f"refused-{uuid.uuid4()}.jpg")
    called = len(aws.journal())
    aws.inject(Fault("s3:listObjectsV2", error, 1, cause=f"no (Service: S3, Status Code: {status}, Request ID: 1)"))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert f"could not be looked up: no (Service: S3, Status Code: {status}" in ended["cause"]
    calls = [call.call for call in aws.journal()[called:] if call.phase == "asked"]
    assert calls.count("s3:listObjectsV2") == 1
    assert calls.count("sqs:sendMessage") == 1


def test_a_lookup_that_meets_a_503_is_asked_four_times(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "slow-down.jpg")
    called = len(aws.journal())
    aws.inject(Fault("s3:listObjectsV2", "S3.S3Exception", 1, cause="slow down (Service: S3, Status Code: 503)"))

    assert "could not be looked up" in troubled_bay.ended(troubled_bay.start(photo))["cause"]

    calls = [call.call for call in aws.journal()[called:] if call.phase == "asked"]
    assert calls.count("s3:listObjectsV2") == 4


def test_one_503_from_s3_does_not_decide_a_photo_under_another_name(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "looked-up-twice.jpg")
    troubled_bay.ended(troubled_bay.start(photo))
    aws.inject(Fault("s3:listObjectsV2", "S3.S3Exception", 1, limit=1))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert json.loads(ended["output"])["status"] == "ALREADY_CLAIMED"
    assert len(troubled_bay.decisions(photo["s3_key"])) == 1


def test_a_photo_that_cannot_be_recorded_runs_again_when_its_claim_is_due(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "not-recorded.jpg")
    aws.inject(Fault("dynamodb:updateItem", UNAVAILABLE, 1, about=RECORD))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert "could not be recorded" in ended["cause"]
    (decision,) = troubled_bay.decisions(photo["s3_key"])
    assert decision.status == "CLAIMED"
    assert decision.in_queue("OPEN")
    assert not statuses_announced(troubled_bay, photo["s3_key"])


def test_a_photo_waits_for_a_failing_lambda_service(troubled_bay: Bay, aws: FaultyAws) -> None:
    aws.inject(
        Fault("lambda:invoke", "Lambda.TooManyRequestsException", 0.5, limit=3),
        Fault("lambda:invoke", "Runtime.Unknown", 0.5, lost_answer=True, limit=2),
    )
    photo = put(troubled_bay, "busy.jpg")

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"
