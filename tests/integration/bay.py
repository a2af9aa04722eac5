"""Helps integration tests with a deployed stack: uploads, waits for outcomes, reads announcements."""

import io
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from functions.decisions.decision import OUTCOMES, Decision, separated
from functions.decisions.table import DecisionsTable, decisions_in
from loading_bay.local.stack import Stack
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.deployed import STACK_NAME

from .contract import breaches

T = TypeVar("T")
# Parameters of a stack that shows photos to nobody by chance.
NO_DRAWS = {"AuditShare": "0", "SecondOpinionShare": "0"}


def picture(colour: str, format: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a photo of one colour, which decides the answer of the integration tests' endpoint."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format)
    return buffer.getvalue()


def wait_for(look: Callable[[], T | None], seconds: float = 150) -> T:
    """Return the first result of `look` that is not empty."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.25)
    return found


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the complete JSON lines of a file that another process appends to; the last line may be incomplete."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


class Bay:
    """A deployed stack, and a queue that receives every announcement and every notification."""

    def __init__(self, stack: Stack, folder: Path | None = None) -> None:
        self.stack = stack
        self._express_log = folder / "express.jsonl" if folder else None
        self.bucket = stack.outputs["InboxBucket"]
        self.machine = stack.outputs["StateMachineArn"]
        self.table = stack.outputs["DecisionsTable"]
        self.s3 = stack.client("s3")
        self.sfn = stack.client("stepfunctions")
        self.dynamodb = stack.client("dynamodb")
        self.events = stack.client("events")
        self._sqs = stack.client("sqs")
        self._announced = self._listen_to_events()
        self._notified = self._listen_to_topic()
        self.announcements: list[dict[str, Any]] = []
        self.notifications: list[str] = []
        # A test starts RunAgain itself.
        rule = stack.client("cloudformation").describe_stack_resource(
            StackName=STACK_NAME, LogicalResourceId="RunAgainRule"
        )
        self._sweep = rule["StackResourceDetail"]["PhysicalResourceId"].rpartition("/")[2]
        self.events.disable_rule(Name=self._sweep)

    @contextmanager
    def swept(self) -> Iterator[None]:
        """Start RunAgain every minute while the block runs, as in a normal stack."""
        self.events.enable_rule(Name=self._sweep)
        try:
            yield
        finally:
            self.events.disable_rule(Name=self._sweep)

    def upload(self, data: bytes, name: str | None = None, **metadata: str) -> str:
        """Put a photo into the inbox; return its key."""
        key = f"uploads/{name or uuid.uuid4().hex}"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=metadata)
        return key

    def start(self, execution_input: object) -> str:
        """Start the workflow by hand; return the execution's ARN."""
        started = self.sfn.start_execution(stateMachineArn=self.machine, input=json.dumps(execution_input))
        return str(started["executionArn"])

    def sweep(self, seconds: float = 40) -> None:
        """Run RunAgain once, as the schedule does every minute."""
        arn = self.stack.outputs["RunAgainArn"]
        started = self.sfn.start_execution(stateMachineArn=arn, input="{}")["executionArn"]
        ended = self.ended(started, seconds)
        assert ended["status"] == "SUCCEEDED", ended

    def expire(self, photo: str) -> None:
        """Let time pass until a photo, by its full name, is due."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"photo": {"S": photo}},
            UpdateExpression="SET due_at = :past",
            ConditionExpression="begins_with(queue, :open)",
            ExpressionAttributeValues={":past": {"N": "1"}, ":open": {"S": "OPEN#"}},
        )

    def kill_some(self, share: float) -> None:
        """Stop a share of the running Standard executions."""
        if not self.is_express:
            running = self.sfn.list_executions(stateMachineArn=self.machine, statusFilter="RUNNING")["executions"]
            for execution in running:
                if random.random() < share:
                    self.sfn.stop_execution(executionArn=execution["executionArn"])

    def decisions(self, key: str) -> list[Decision]:
        """Return every record of photos under this key."""
        pages = self.dynamodb.get_paginator("scan").paginate(
            TableName=self.table,
            FilterExpression="begins_with(photo, :name)",
            ExpressionAttributeValues={":name": {"S": f"s3://{self.bucket}/{key}#"}},
        )
        return [decision for decision in separated(decisions_in(pages))[0] if decision.key == key]

    def all_decisions(self) -> list[Decision]:
        """Return every record."""
        return all_decisions(DecisionsTable(self.dynamodb, self.table))

    def waits(self, key: str) -> bool:
        """Tell whether the photo under this key needs review, and this has been announced."""
        return any(each.in_queue("REVIEW") for each in self.decisions(key))

    def labels(self, decision: Decision) -> list[str]:
        """Return the keys of the labels of a photo."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="labels/")
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return [key for key in keys if f"/{decision.claim}-" in key]

    def outcome(self, key: str) -> Decision:
        """Wait for the outcome of the photo under this key."""

        def final() -> Decision | None:
            found = self.decisions(key)
            assert len(found) <= 1
            return found[0] if found and found[0].status in OUTCOMES else None

        return wait_for(final)

    def ended(self, execution: str | None, seconds: float = 40) -> dict[str, Any]:
        """Wait for the end of an execution; return its description."""
        assert execution

        def end() -> dict[str, Any] | None:
            if ":express:" in execution:
                return next((line for line in self._lines("ended") if line["executionArn"] == execution), None)
            described: dict[str, Any] = self.sfn.describe_execution(executionArn=execution)
            return described if described["status"] != "RUNNING" else None

        return wait_for(end, seconds)

    def running(self) -> int:
        """Count the running executions of ClassifyPhoto, and those of RunAgain if they are recorded."""
        events = [line["event"] for line in self._lines()]
        since = events[len(events) - 1 - events[::-1].index("up") :] if events else []
        noted = since.count("began") - since.count("ended")
        if self.is_express:
            return noted
        pages = self.sfn.get_paginator("list_executions").paginate(stateMachineArn=self.machine, statusFilter="RUNNING")
        return noted + sum(len(page["executions"]) for page in pages)

    @property
    def is_express(self) -> bool:
        """Whether ClassifyPhoto is an Express workflow."""
        described = self.sfn.describe_state_machine(stateMachineArn=self.machine)
        return bool(described["type"] == "EXPRESS")

    def _lines(self, event: str = "") -> list[dict[str, Any]]:
        """Return the events that MiniStack recorded of its Express executions: all, or one kind."""
        if not self._express_log or not self._express_log.exists():
            return []
        return [line for line in lines_of(self._express_log) if event in ("", line["event"])]

    def executions_of(self, key: str) -> list[dict[str, Any]]:
        """Return every execution whose input names this key."""
        if self.is_express:
            described = self._lines("ended")
        else:
            pages = self.sfn.get_paginator("list_executions").paginate(stateMachineArn=self.machine)
            arns = [execution["executionArn"] for page in pages for execution in page["executions"]]
            described = [self.sfn.describe_execution(executionArn=arn) for arn in arns]
        named = json.dumps(key, ensure_ascii=False)
        return [each for each in described if named in json.dumps(json.loads(each["input"]), ensure_ascii=False)]

    def announced(self, key: str) -> list[dict[str, Any]]:
        """Return every outcome event of this key so far."""
        return [event for event in self.heard() if event["detail"].get("s3_key") == key]

    def heard(self) -> list[dict[str, Any]]:
        """Return every event of the stack so far."""
        heard = [json.loads(body) for body in self._receive(self._announced)]
        for event in heard:
            assert not breaches(event), (breaches(event), event)
        self.announcements += heard
        return self.announcements

    def notified(self, key: str) -> list[str]:
        """Return every notification that names this key and has been published by now."""
        return self.notified_of(f"/{key}")

    def notified_of(self, words: str) -> list[str]:
        """Return every notification with these words in it that has been published by now."""
        self.notifications += [json.loads(body)["Message"] for body in self._receive(self._notified)]
        return [message for message in self.notifications if words in message]

    def _receive(self, queue: str) -> list[str]:
        bodies = []
        while messages := self._sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def _queue(self, name: str) -> tuple[str, str]:
        url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        return url, attributes["QueueArn"]

    def _listen_to_events(self) -> str:
        url, arn = self._queue("announced")
        pattern = json.dumps({"source": ["loading-bay"]})
        self.events.put_rule(Name="announced", EventPattern=pattern)
        self.events.put_targets(Rule="announced", Targets=[{"Id": "queue", "Arn": arn}])
        return url

    def _listen_to_topic(self) -> str:
        url, arn = self._queue("notified")
        topic = self.stack.outputs["NotificationsTopic"]
        self.stack.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return url
