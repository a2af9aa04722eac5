"""What a person decides about a photo: recorded under a condition, undone for a while, corrected afterwards.

Whoever decides, in the page or on the command line, comes through here. The table's conditions make a decision happen
once; the workflow `AnnounceReview`, named by the decision's id, makes it known once.
"""

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError

from .classes import VehicleClass

NEITHER = "neither"  # the answer where a photo shows none of the stack's vehicles; also the folder of such labels
LEASE_SECONDS = 120
ANNOUNCE_SECONDS = 180  # after this, RunAgain starts the announcement that a function did not live to start
# What describes an outcome. A decision sets its own and removes the others.
OUTCOME = ("status", "vehicle", "bay", "order_range", "error", "reason")
REVIEW = ("reviewed_by", "reviewed_at", "reviewed_on", "review_id", "revision", "unsure_reason")
REVIEW_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Record = dict[str, Any]


class UnknownPhoto(Exception):
    """There is no such photo, or the model was sure of it: nobody is asked."""


class InvalidAnswer(Exception):
    """The answer is no class of this stack, or the decision's id is no UUID."""


class Conflict(Exception):
    """The record is not, or no longer, in the state that the decision is about; `record` says in which."""

    def __init__(self, message: str, record: Record) -> None:
        super().__init__(message)
        self.record = record


@dataclass(frozen=True)
class Desk:
    """Where reviews are made: the table, the workflow that announces them, and what may be answered."""

    dynamodb: Any
    stepfunctions: Any
    table: str
    workflow: str
    classes: Mapping[str, VehicleClass] = field(default_factory=dict)

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Every answer, in the order of the model's classes."""
        return (*self.classes, NEITHER)

    def read(self, photo: str) -> Record:
        """Return the record of a photo that is, or was, in review.

        Raises:
            UnknownPhoto: there is none, or nobody was ever asked about it.
        """
        found = self.dynamodb.get_item(TableName=self.table, Key={"photo": {"S": photo}}, ConsistentRead=True)
        record = plain(found.get("Item", {}))
        if record.get("status") != "REVIEW" and "review_id" not in record:
            raise UnknownPhoto("this photo does not wait for a person")
        return record

    def decide(self, photo: str, answer: str, *, review_id: str, reviewer: str) -> Record:
        """Record what a person says of a waiting photo, and start its announcement; returns the record.

        The same `review_id` again changes nothing and returns the same.

        Raises:
            InvalidAnswer: see there.
            UnknownPhoto: see there.
            Conflict: decided already, undone, or held by somebody else.
        """
        self._check(answer, review_id)
        record = self.read(photo)
        if record.get("review_id") == review_id:
            return self._announce(record)
        changes = self._outcome(answer) | self._signed(record, review_id, reviewer) | {"revision": 1}
        if "reason" in record:
            changes["unsure_reason"] = record["reason"]
        condition = (
            "#status = :waiting AND begins_with(#queue, :queued)"
            " AND (attribute_not_exists(#undone_id) OR #undone_id <> :review_id)"
            " AND (attribute_not_exists(#lease_until) OR #lease_until < :now OR #lease_by = :reviewer)"
        )
        about = {"waiting": "REVIEW", "queued": "REVIEW#", "now": int(time.time()), "reviewer": reviewer}
        try:
            return self._announce(self._update(photo, changes, ("lease_by", "lease_until"), condition, about))
        except Conflict as conflict:
            if conflict.record.get("review_id") == review_id:  # a twin of this very request was quicker
                return self._announce(conflict.record)
            raise Conflict(_why_not_decided(conflict.record, review_id), conflict.record) from None

    def undo(self, photo: str, *, review_id: str, reviewer: str) -> Record:
        """Take a decision of one's own back before it is announced; the photo waits again, held by the same person.

        Raises:
            UnknownPhoto: see there.
            Conflict: announced already, a correction, or somebody else's.
        """
        record = self.read(photo)
        if record.get("undone_id") == review_id and record["status"] == "REVIEW":
            return record
        changes = {
            "status": "REVIEW",
            "error": "LowConfidence",
            "reason": record.get("unsure_reason", ""),
            "queue": _queue("REVIEW", record),
            "due_at": int(datetime.fromisoformat(record["claimed_at"]).timestamp()),
            "undone_id": review_id,
            "lease_by": reviewer,
            "lease_until": int(time.time()) + LEASE_SECONDS,
        }
        condition = (
            "#review_id = :undone_id AND #reviewed_by = :lease_by AND #revision = :first"
            " AND attribute_not_exists(#review_closed_at)"
        )
        try:
            return self._update(photo, changes, REVIEW, condition, {"first": 1})
        except Conflict as conflict:
            raise Conflict(_why_not_undone(conflict.record, review_id, reviewer), conflict.record) from None

    def correct(self, photo: str, answer: str, *, review_id: str, reviewer: str, corrects: str) -> Record:
        """Replace a decision that was announced by another, which is announced as its next revision.

        Args:
            photo: the photo's name in the table.
            answer: a class, or `neither`.
            review_id: of the correction.
            reviewer: who corrects; whoever may decide may correct everybody's decisions.
            corrects: the `review_id` of the decision that the person saw.

        Raises:
            InvalidAnswer: see there; also the answer that it has already.
            UnknownPhoto: see there.
            Conflict: not announced yet, or corrected by somebody else since.
        """
        self._check(answer, review_id)
        record = self.read(photo)
        if record.get("review_id") == review_id:
            return self._announce(record)
        if record.get("review_id") == corrects and answer_of(record) == answer:
            raise InvalidAnswer(f"the decision is {answer} already")
        changes = self._outcome(answer) | self._signed(record, review_id, reviewer)
        changes |= {"revision": record.get("revision", 0) + 1}
        condition = "#review_id = :corrects AND attribute_exists(#review_closed_at)"
        try:
            return self._announce(
                self._update(photo, changes, ("review_closed_at",), condition, {"corrects": corrects})
            )
        except Conflict as conflict:
            if conflict.record.get("review_id") == review_id:
                return self._announce(conflict.record)
            raise Conflict(_why_not_corrected(conflict.record, corrects), conflict.record) from None

    def _check(self, answer: str, review_id: str) -> None:
        if answer not in self.answers:
            raise InvalidAnswer(f"the answer must be one of {', '.join(self.answers)}")
        if not REVIEW_ID.fullmatch(review_id):
            raise InvalidAnswer("review_id must be a UUID in lower case")

    def _outcome(self, answer: str) -> Record:
        if answer == NEITHER:
            return {"status": "REJECTED", "error": "NoVehicle", "reason": "a person sees none of the vehicles"}
        chosen = self.classes[answer]
        return {"status": "ROUTED", "vehicle": answer, "bay": chosen.bay, "order_range": chosen.order_range}

    def _signed(self, record: Record, review_id: str, reviewer: str) -> Record:
        now = datetime.now(UTC)
        return {
            "review_id": review_id,
            "reviewed_by": reviewer,
            "reviewed_at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "reviewed_on": now.date().isoformat(),
            "queue": _queue("OPEN", record),
            "due_at": int(now.timestamp()) + ANNOUNCE_SECONDS,
        }

    def _update(
        self, photo: str, changes: Record, removed: tuple[str, ...], condition: str, about: Mapping[str, Any]
    ) -> Record:
        """Change a record under a condition; returns the record.

        Raises:
            Conflict: the condition does not hold; with the record as it is.
        """
        gone = [name for name in (*OUTCOME, *removed) if name not in changes]
        names = set(re.findall(r"#(\w+)", condition)) | set(changes) | set(gone)
        expression = f"SET {', '.join(f'#{name} = :{name}' for name in changes)}"
        expression += f" REMOVE {', '.join(f'#{name}' for name in gone)}"
        serialize = TypeSerializer().serialize
        values = {f":{name}": serialize(value) for name, value in {**changes, **about}.items()}
        try:
            answer = self.dynamodb.update_item(
                TableName=self.table,
                Key={"photo": {"S": photo}},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in names},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            stored: Any = error.response.get("Item", {})
            raise Conflict("the record has changed", plain(stored)) from error
        return plain(answer["Attributes"])

    def _announce(self, record: Record) -> Record:
        """Start the announcement of a decision; where that fails, RunAgain does it some minutes later."""
        named = {"photo": record["photo"], "review_id": record["review_id"]}
        try:
            self.stepfunctions.start_execution(
                stateMachineArn=self.workflow, name=record["review_id"], input=json.dumps(named)
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                logging.getLogger(__name__).warning("announcement not started: %s", error, extra=named)
        except BotoCoreError as error:
            logging.getLogger(__name__).warning("announcement not started: %s", error, extra=named)
        return record


def plain(item: Mapping[str, Any]) -> Record:
    """Return an item of the table as plain Python values."""
    deserialize = TypeDeserializer().deserialize
    return {name: _number(deserialize(value)) for name, value in item.items()}


def _number(value: Any) -> Any:
    """Return a value with `int` or `float` in place of `Decimal`."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return {name: _number(each) for name, each in value.items()} if isinstance(value, dict) else value


def answer_of(record: Record) -> str:
    """Return what was decided: a class, or `neither`."""
    return str(record.get("vehicle", NEITHER))


def waits(record: Record) -> bool:
    """Tell whether a photo waits for a person."""
    return record.get("status") == "REVIEW" and str(record.get("queue", "")).startswith("REVIEW#")


def holder(record: Record, now: float) -> str:
    """Return who looks at a photo now, or an empty string."""
    return str(record["lease_by"]) if record.get("lease_until", 0) >= now else ""


def _queue(name: str, record: Record) -> str:
    """Return the partition of the index that a record waits in: sixteen a queue, by the claim's first digit."""
    return f"{name}#{record['claim'][0]}"


def _why_not_decided(record: Record, review_id: str) -> str:
    if "review_id" in record:
        return f"{record['reviewed_by']} has decided: {answer_of(record)}"
    if record.get("undone_id") == review_id:
        return "this decision was undone"
    if waits(record):
        return f"{record.get('lease_by', 'somebody')} is looking at this photo"
    return "this photo does not wait for a person now"


def _why_not_undone(record: Record, review_id: str, reviewer: str) -> str:
    if record.get("review_id") != review_id:
        return "this is no longer the last decision about the photo"
    if record.get("reviewed_by") != reviewer:
        return f"the decision is {record['reviewed_by']}'s"
    if record.get("revision") != 1:
        return "a correction cannot be undone, only corrected"
    return "too late to undo: it is announced; correct it instead"


def _why_not_corrected(record: Record, corrects: str) -> str:
    if record.get("review_id") != corrects:
        who = record.get("reviewed_by")
        return f"{who} has changed it: {answer_of(record)}" if who else "the decision was undone"
    return "this decision can still be undone; it cannot be corrected yet"
