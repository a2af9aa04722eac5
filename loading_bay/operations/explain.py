"""Explains a photo by its last execution, from the execution's history or, for Express workflows, from its log."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

from functions.decisions.decision import Decision
from functions.decisions.table import DecisionsTable
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError


@dataclass(frozen=True)
class Event:
    """One event of an execution: its type, the state or error that it names, and its time."""

    type: str
    name: str
    error: str
    at: datetime


@dataclass
class Step:
    """A state that an execution passed through, with its start, its duration (both in seconds) and its errors."""

    name: str
    after: float
    took: float | None = None
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Account:
    """A photo's decision, the states that led to it, and the end of the execution."""

    decision: Decision
    steps: list[Step]
    end: str


def explain(deployed: Deployed, photo: str) -> Account:
    """Explain a photo, given its full name in the decisions table or its key in the inbox.

    Raises:
        UserError: the photo was never recorded, or its execution's history has expired.
    """
    decision = _find(deployed, photo)
    arn = decision.execution_arn or ""
    events = list(_logged(deployed, arn, decision.claimed_at) if ":express:" in arn else _history(deployed, arn))
    if not events:
        raise UserError(f"no log of {arn} found: logs arrive some seconds late, and expire")
    return Account(decision, *_way(events))


def _find(deployed: Deployed, photo: str) -> Decision:
    bucket = deployed.outputs["InboxBucket"]
    names = [photo]
    if not photo.startswith("s3://"):
        names = [f"s3://{bucket}/{photo}#none"]
        try:
            etag = deployed.client("s3").head_object(Bucket=bucket, Key=photo)["ETag"].strip('"')
            names.insert(0, f"s3://{bucket}/{photo}#{etag}")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
    table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
    found = table.named(names)
    if not found:
        raise UserError(f"no record of {photo} found; give its key, or s3://bucket/key#etag if the object is gone")
    return found[0]


def _history(deployed: Deployed, arn: str) -> Iterator[Event]:
    pages = deployed.client("stepfunctions").get_paginator("get_execution_history")
    try:
        for page in pages.paginate(executionArn=arn, includeExecutionData=False):
            for event in page["events"]:
                details = [value for name, value in event.items() if name.endswith("EventDetails")]
                yield _event(event["type"], details[0] if details else {}, event["timestamp"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
            raise UserError(f"the history of {arn} is gone: Step Functions keeps it for 90 days") from error
        raise


def _logged(deployed: Deployed, arn: str, since: datetime) -> Iterator[Event]:
    pages = (
        deployed.client("logs")
        .get_paginator("filter_log_events")
        .paginate(
            logGroupName=deployed.outputs["StateMachineLogs"],
            filterPattern=f'"{arn}"',
            startTime=int((since - timedelta(minutes=1)).timestamp() * 1000),
        )
    )
    lines = [json.loads(event["message"]) for page in pages for event in page["events"]]
    # Events of the same millisecond come in any order; an execution that was restarted counts from one again.
    for line in sorted(lines, key=lambda line: (int(line["event_timestamp"]), int(line["id"]))):
        at = datetime.fromtimestamp(int(line["event_timestamp"]) / 1000, UTC)
        yield _event(line["type"], line.get("details", {}), at)


def _event(type: str, details: Mapping[str, str], at: datetime) -> Event:
    return Event(type, details.get("name", ""), details.get("error", ""), at)


def _way(events: Iterable[Event]) -> tuple[list[Step], str]:
    steps: list[Step] = []
    began: datetime | None = None
    end = "it has not ended"
    for event in events:
        began = began or event.at
        after = (event.at - began).total_seconds()
        if event.type.endswith("StateEntered"):
            steps.append(Step(event.name, after))
        elif event.type.endswith("StateExited"):
            steps[-1].took = after - steps[-1].after
        elif event.type.startswith("Execution") and event.type != "ExecutionStarted":
            outcome = event.type.removeprefix("Execution").lower()
            end = f"{outcome} after {after:.1f} s" + (f": {event.error}" if event.error else "")
        elif event.type.endswith(("Failed", "TimedOut")) and steps:
            steps[-1].errors[event.error or event.type] += 1
    return steps, end
