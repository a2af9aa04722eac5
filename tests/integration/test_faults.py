"""One fault of AWS at a time: what becomes of the photo, what is recorded and what is announced."""

from collections.abc import Iterator

import pytest

from tests.integration.bay import Bay, picture, wait_for
from tests.integration.faults import Fault, FaultyAws

UNAVAILABLE = "DynamoDB.InternalServerErrorException"


@pytest.fixture(autouse=True)
def healed(aws: FaultyAws) -> Iterator[None]:
    yield
    aws.inject()


def put(bay: Bay, name: str) -> dict[str, str]:
    """Store a photo where no event starts an execution; returns the input that does."""
    key = f"elsewhere/{name}"
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("red"))
    return {"s3_bucket": bay.bucket, "s3_key": key}


def expire_claim(bay: Bay, photo: str) -> None:
    """Let the hour pass after which a claim expires."""
    bay.dynamodb.update_item(
        TableName=bay.table,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET claim_expires_at = :past",
        ConditionExpression="attribute_exists(claim_expires_at)",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


def statuses_announced(bay: Bay, key: str) -> list[str]:
    return [event["detail"]["status"] for event in bay.announced(key)]


@pytest.mark.parametrize("lost_answer", [False, True], ids=["nothing done", "answer lost"])
def test_a_database_that_fails_now_and_then_costs_nothing(troubled_bay: Bay, aws: FaultyAws, lost_answer: bool) -> None:
    for number in range(5):
        photo = put(troubled_bay, f"database-{lost_answer}-{number}.jpg")
        aws.inject(
            Fault("dynamodb:putItem", "DynamoDB.SdkClientException", 0.6, lost_answer, limit=5),
            Fault("dynamodb:updateItem", UNAVAILABLE, 1, lost_answer, limit=2),
        )

        assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

        assert troubled_bay.outcome(photo["s3_key"]).status == "ROUTED"
        assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_a_throttled_table_is_waited_for(troubled_bay: Bay, aws: FaultyAws) -> None:
    # Errors that DynamoDB's model does not name, throttling of a table on demand among them, come under this name.
    photo = put(troubled_bay, "throttled.jpg")
    aws.inject(Fault("dynamodb:putItem", "DynamoDB.AmazonDynamoDBException", 1, limit=3))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"


def test_an_announcement_whose_answer_gets_lost_is_made_again_for_it_may_not_have_been_made(
    troubled_bay: Bay, aws: FaultyAws
) -> None:
    photo = put(troubled_bay, "lost-answer.jpg")
    aws.inject(Fault("events:putEvents", "EventBridge.SdkClientException", 1, lost_answer=True, limit=1))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

    assert len(troubled_bay.decisions(photo["s3_key"])) == 1
    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED", "ROUTED"]


def test_what_cannot_be_announced_counts_as_failed_and_is_decided_again(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "not-announced.jpg")
    aws.inject(Fault("events:putEvents", "EventBridge.InternalException", 1))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert ended["error"] == "ClassificationFailed"
    assert "recorded as ROUTED, but it could not be announced" in ended["cause"]
    assert troubled_bay.outcome(photo["s3_key"]).status == "FAILED"
    assert not statuses_announced(troubled_bay, photo["s3_key"])
    aws.inject()
    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"
    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_an_outcome_that_was_neither_announced_nor_released_is_decided_again_when_its_claim_expired(
    troubled_bay: Bay, aws: FaultyAws
) -> None:
    photo = put(troubled_bay, "neither.jpg")
    aws.inject(
        Fault("events:putEvents", "EventBridge.InternalException", 1), Fault("dynamodb:updateItem", UNAVAILABLE, 1)
    )
    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "FAILED"
    aws.inject()

    decision = troubled_bay.outcome(photo["s3_key"])
    assert decision.status == "ROUTED"
    assert not statuses_announced(troubled_bay, photo["s3_key"])
    expire_claim(troubled_bay, decision.photo)

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"
    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_an_announcement_that_could_not_be_confirmed_still_ends_the_execution_as_decided(
    troubled_bay: Bay, aws: FaultyAws
) -> None:
    photo = put(troubled_bay, "not-confirmed.jpg")
    aws.inject(Fault("dynamodb:updateItem", UNAVAILABLE, 1))

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"

    assert statuses_announced(troubled_bay, photo["s3_key"]) == ["ROUTED"]


def test_a_photo_that_cannot_be_claimed_or_recorded_is_left_for_later_and_nothing_is_said(
    troubled_bay: Bay, aws: FaultyAws
) -> None:
    photo = put(troubled_bay, "no-database.jpg")
    aws.inject(Fault("dynamodb:putItem", UNAVAILABLE, 1))

    ended = troubled_bay.ended(troubled_bay.start(photo))

    assert (ended["status"], ended["error"]) == ("FAILED", "ClassificationFailed")
    assert "could not be recorded" in ended["cause"]
    assert not troubled_bay.decisions(photo["s3_key"])
    assert not statuses_announced(troubled_bay, photo["s3_key"])
    aws.inject()
    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"


def test_a_photo_that_fails_before_its_claim_again_says_so_again(troubled_bay: Bay, aws: FaultyAws) -> None:
    photo = put(troubled_bay, "not-looked-up.jpg")
    aws.inject(Fault("s3:headObject", "S3.SdkClientException", 1))

    for _ in range(2):
        ended = troubled_bay.ended(troubled_bay.start(photo))
        assert (ended["status"], ended["error"]) == ("FAILED", "ClassificationFailed")

    assert troubled_bay.outcome(photo["s3_key"]).execution_arn == ended["executionArn"]
    assert wait_for(lambda: statuses_announced(troubled_bay, photo["s3_key"])) == ["FAILED", "FAILED"]


def test_a_lambda_service_in_trouble_is_waited_for(troubled_bay: Bay, aws: FaultyAws) -> None:
    aws.inject(
        Fault("lambda:invoke", "Lambda.TooManyRequestsException", 0.5, limit=3),
        Fault("lambda:invoke", "Runtime.Unknown", 0.5, lost_answer=True, limit=2),
    )
    photo = put(troubled_bay, "busy.jpg")

    assert troubled_bay.ended(troubled_bay.start(photo))["status"] == "SUCCEEDED"
