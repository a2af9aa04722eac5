"""Runs unfinished photos and messages again immediately, including those that RunAgain gave up."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

from functions.decisions.table import DecisionsTable
from loading_bay.stack.deployed import Deployed

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# The attributes of a record that start the photo's workflow again.
PHOTO = ("s3_bucket", "s3_key", "etag", "version_id", "batch_id")


@dataclass(frozen=True)
class Unfinished:
    """An unfinished photo or message, the reason, and the input that runs it; without input, RunAgain runs it."""

    about: str
    why: str
    photo: dict[str, str] | None = None


def find_unfinished(deployed: Deployed) -> Iterator[Unfinished]:
    """Yield dead-lettered messages, photos that failed, and photos whose execution or announcement ended too early."""
    yield from _messages(deployed)
    table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
    for decision in [*table.queued("FAILED"), *table.queued("OPEN")]:
        photo = {name: value for name in PHOTO if (value := getattr(decision, name)) is not None}
        if decision.status == "FAILED":
            yield Unfinished(decision.photo, f"FAILED: {decision.reason or 'no reason given'}", photo)
        elif (decision.due_at or 0) >= time():
            continue
        elif decision.reviewed_by is not None:
            yield Unfinished(decision.photo, f"decided by {decision.reviewed_by}, but not announced")
        else:
            why = f"{decision.status}: its execution ended before the outcome was announced"
            yield Unfinished(decision.photo, why, photo)


def run_again(deployed: Deployed, unfinished: list[Unfinished]) -> None:
    """Start every photo again, and RunAgain once for the messages and for people's decisions."""
    sfn = deployed.client("stepfunctions")
    for each in unfinished:
        if each.photo:
            sfn.start_execution(stateMachineArn=deployed.outputs["StateMachineArn"], input=json.dumps(each.photo))
    if not all(each.photo for each in unfinished):
        sfn.start_execution(stateMachineArn=deployed.outputs["RunAgainArn"], input="{}")


def undelivered(deployed: Deployed) -> Iterator["MessageTypeDef"]:
    """Yield each visible message of the dead-letter queue once; it stays visible, so the next receiver finds it too."""
    sqs, queue = deployed.client("sqs"), deployed.outputs["UndeliveredEventsQueue"]
    seen: set[str] = set()
    while True:
        answer = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
        )
        messages = [message for message in answer.get("Messages", []) if message["MessageId"] not in seen]
        if not messages:
            return
        seen.update(message["MessageId"] for message in messages)
        yield from messages


def _messages(deployed: Deployed) -> Iterator[Unfinished]:
    for message in undelivered(deployed):
        attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
        yield Unfinished(_about(message["Body"]), f"not delivered: {attributes.get('ERROR_CODE', 'no error given')}")


def _about(body: str) -> str:
    """Return the photo that a message names, or else the beginning of the message."""
    try:
        event = json.loads(body)
        detail = event.get("detail", event)
        if "photo" in detail:
            return str(detail["photo"])
        if "s3_key" in detail:
            return str(detail["s3_key"])
        return f"s3://{detail['bucket']['name']}/{detail['object']['key']}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"a message without a photo: {body[:60]}"
