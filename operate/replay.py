"""Runs again what was not decided: dead-lettered events, failed photos, claims that were left behind."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any

from stack.decisions import Decision, DecisionsTable
from stack.deployed import Deployed

# What of a record starts the photo's workflow again.
PHOTO = ("s3_bucket", "s3_key", "etag", "version_id", "batch_id")


@dataclass(frozen=True)
class Undone:
    """Something to do again: what it is about, why it is undone, and how to do it."""

    about: str
    why: str
    run: Callable[[], None]


def find_undone(deployed: Deployed) -> Iterator[Undone]:
    """Yield dead-lettered events, photos that failed, and photos whose execution ended too early."""
    yield from _dead_letters(deployed)
    yield from _unfinished_photos(deployed)


def _dead_letters(deployed: Deployed) -> Iterator[Undone]:
    sqs = deployed.client("sqs")
    queue = deployed.outputs["UndeliveredEventsQueue"]
    seen: set[str] = set()
    while True:
        # A message that is looked at stays hidden for a minute, and comes back if it is not deleted.
        answer = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=60, MessageAttributeNames=["All"]
        )
        messages = [message for message in answer.get("Messages", []) if message["MessageId"] not in seen]
        if not messages:
            return
        for message in messages:
            seen.add(message["MessageId"])
            attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
            why = f"not delivered: {attributes.get('ERROR_CODE', 'no error given')}"
            event = json.loads(message["Body"])
            yield Undone(_about(event), why, partial(_redeliver, deployed, event, message["ReceiptHandle"]))


def _redeliver(deployed: Deployed, event: dict[str, Any], receipt: str) -> None:
    """Hand a dead-lettered event to the target that did not take it, and take it from the queue."""
    if event.get("source") == "loading-bay":
        lines = [event["detail-type"], *(f"{name}: {value}" for name, value in event["detail"].items())]
        deployed.client("sns").publish(TopicArn=deployed.outputs["NotificationsTopic"], Message="\n".join(lines))
    else:
        _classify(deployed, event.get("detail", event))
    queue = deployed.outputs["UndeliveredEventsQueue"]
    deployed.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=receipt)


def _about(event: dict[str, Any]) -> str:
    detail = event.get("detail", event)
    if "photo" in detail:
        return str(detail["photo"])
    return f"s3://{detail['bucket']['name']}/{detail['object']['key']}"


def _unfinished_photos(deployed: Deployed) -> Iterator[Undone]:
    table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
    for decision in [*table.queued("FAILED"), *table.queued("OPEN")]:
        if decision.status == "FAILED":
            yield _again(deployed, decision, f"FAILED: {decision.reason or 'no reason given'}")
        elif (decision.due_at or 0) < time():
            yield _again(deployed, decision, f"{decision.status}: its execution ended before the outcome was announced")


def _again(deployed: Deployed, decision: Decision, why: str) -> Undone:
    photo = {name: value for name in PHOTO if (value := getattr(decision, name)) is not None}
    return Undone(decision.photo, why, partial(_classify, deployed, photo))


def _classify(deployed: Deployed, photo: dict[str, Any]) -> None:
    deployed.client("stepfunctions").start_execution(
        stateMachineArn=deployed.outputs["StateMachineArn"], input=json.dumps(photo)
    )
