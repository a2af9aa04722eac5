"""A temporary queue that receives events about some photos and the messages of the notifications topic."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import AWS_ERRORS, UserError, describe

PROBE = "loading-bay.check"
# A new rule takes effect after some seconds, rarely a minute.
PROBE_SECONDS = 120


class Listener:
    """Receives the events and notifications of every photo whose key begins with `folder`, from `start` to `stop`."""

    def __init__(self, deployed: Deployed, name: str, folder: str) -> None:
        self._name = f"loading-bay-{name}"
        self._folder = folder
        self._topic = deployed.outputs["NotificationsTopic"]
        self._sqs = deployed.client("sqs")
        self._events = deployed.client("events")
        self._sns = deployed.client("sns")
        self._queue = ""
        self._made: list[tuple[str, Callable[[], object]]] = []  # names, and the calls that delete them
        self._heard: list[dict[str, Any]] = []

    def start(self) -> float:
        """Create the queue, the rule and the subscription; return the seconds until the rule received a probe.

        Raises:
            UserError: the rule does not receive anything.
        """
        self._queue = self._sqs.create_queue(QueueName=self._name)["QueueUrl"]
        self._made.append((f"queue {self._name}", lambda: self._sqs.delete_queue(QueueUrl=self._queue)))
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]
        queue = attributes["QueueArn"]
        pattern = {"source": ["loading-bay", PROBE], "detail": {"s3_key": [{"prefix": self._folder}]}}
        rule = self._events.put_rule(Name=self._name, EventPattern=json.dumps(pattern))["RuleArn"]
        self._made.append((f"rule {self._name}", lambda: self._events.delete_rule(Name=self._name)))
        self._sqs.set_queue_attributes(
            QueueUrl=self._queue, Attributes={"Policy": json.dumps(_policy(queue, rule, self._topic))}
        )
        self._events.put_targets(Rule=self._name, Targets=[{"Id": "queue", "Arn": queue}])
        self._made.append(
            (f"target of rule {self._name}", lambda: self._events.remove_targets(Rule=self._name, Ids=["queue"]))
        )
        subscribed = self._sns.subscribe(
            TopicArn=self._topic, Protocol="sqs", Endpoint=queue, ReturnSubscriptionArn=True
        )
        subscription = subscribed["SubscriptionArn"]
        self._made.append((subscription, lambda: self._sns.unsubscribe(SubscriptionArn=subscription)))
        return self._probe()

    def events(self) -> list[dict[str, Any]]:
        """Return the details of the events received so far."""
        self._receive()
        return [each["detail"] for each in self._heard if each.get("source") == "loading-bay"]

    def notified(self, keys: Iterable[str]) -> bool:
        """Tell whether the topic has sent a notification about each of these photos."""
        self._receive()
        messages = [each["Message"] for each in self._heard if each.get("Type") == "Notification"]
        return all(any(key in message for message in messages) for key in keys)

    def stop(self) -> list[str]:
        """Remove the resources that `start` created, newest first; return the names of those that remain."""
        left = []
        while self._made:
            name, remove = self._made.pop()
            try:
                remove()
            except AWS_ERRORS as error:
                left.append(f"{name} ({describe(error)})")
        return left

    def _probe(self) -> float:
        started = time.monotonic()
        entry = {"Source": PROBE, "DetailType": "Probe", "Detail": json.dumps({"s3_key": self._folder})}
        while time.monotonic() < started + PROBE_SECONDS:
            self._events.put_events(Entries=[entry])
            time.sleep(0.5)
            self._receive()
            if self._heard:
                return time.monotonic() - started
        raise UserError(f"a new rule received nothing within {PROBE_SECONDS} s; try again")

    def _receive(self) -> None:
        while found := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self._heard.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])


def _policy(queue: str, *senders: str) -> dict[str, object]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": ["events.amazonaws.com", "sns.amazonaws.com"]},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": senders}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
