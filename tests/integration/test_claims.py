"""A claim keeps all others from a photo, and expires if its execution left nothing behind."""

import json
import time

import pytest

from .bay import Bay, picture, wait_for

AN_HOUR = 3600


def leave_behind(bay: Bay, key: str, status: str, due_in: float) -> None:
    """Store the record of an execution that was aborted after it wrote `status`, before any announcement."""
    etag = bay.s3.head_object(Bucket=bay.bucket, Key=key)["ETag"].strip('"')
    item = {
        "photo": {"S": f"s3://{bay.bucket}/{key}#{etag}"},
        "s3_bucket": {"S": bay.bucket},
        "s3_key": {"S": key},
        "status": {"S": status},
        "execution_arn": {"S": f"{bay.machine}:aborted"},
        "claimed_at": {"S": "2026-11-20T04:00:00.000Z"},
        "claim": {"S": "0aborted"},
        "queue": {"S": "OPEN#0"},
        "due_at": {"N": str(int(time.time() + due_in))},
    }
    bay.dynamodb.put_item(TableName=bay.table, Item=item)


def put_elsewhere(bay: Bay, name: str) -> str:
    """Store a photo without an event that starts an execution."""
    key = f"elsewhere/{name}"
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("red"))
    return key


@pytest.mark.parametrize("status", ["CLAIMED", "ROUTED"], ids=["before its outcome", "before its announcement"])
def test_the_photo_of_an_aborted_execution_runs_again_once_its_claim_expired(bay: Bay, status: str) -> None:
    key = put_elsewhere(bay, f"aborted-{status}.jpg")
    leave_behind(bay, key, status, -1)

    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key}))

    assert ended["status"] == "SUCCEEDED"
    assert len(wait_for(lambda: bay.announced(key))) == 1
    assert bay.outcome(key).execution_arn == ended["executionArn"]


@pytest.mark.parametrize("status", ["CLAIMED", "ROUTED"])
def test_a_claim_that_has_not_expired_keeps_everybody_else_away(bay: Bay, status: str) -> None:
    key = put_elsewhere(bay, f"held-{status}.jpg")
    leave_behind(bay, key, status, AN_HOUR)

    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key}))

    assert json.loads(ended["output"])["status"] == "ALREADY_CLAIMED"
    assert not bay.announced(key)


def test_nobody_can_claim_an_announced_outcome(bay: Bay) -> None:
    key = bay.upload(picture("red"))

    decision = bay.outcome(key)
    bay.ended(decision.execution_arn)

    (settled,) = bay.decisions(key)
    assert settled.announced_at
    assert decision.decided_at
    assert settled.announced_at >= decision.decided_at
    assert (settled.queue, settled.due_at) == (None, None)
