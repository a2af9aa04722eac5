"""The decisions table: reads records by name, by queue or by day, and updates them conditionally."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from .decision import SHARDS, Decision, Queue, SkippedDecision, decision_of, plain_item, separated

# The number of shards read in parallel.
THREADS = 8
# The limit of DynamoDB for the keys in one BatchGetItem.
BATCH_GET = 100


class UnknownPhoto(Exception):
    """The table does not hold a decision about this photo that the caller may see."""


class Conflict(Exception):
    """A record does not meet the condition of a write, or no longer does; `decision` is that record."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


@dataclass(frozen=True)
class DecisionsTable:
    """The DynamoDB table `name`, used through a boto3 client."""

    dynamodb: Any
    name: str

    def get(self, photo: str) -> Decision | None:
        """Return the current decision about a photo, by its full name, if there is one (a consistent read)."""
        key = {"photo": {"S": photo}}
        item = self.dynamodb.get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")
        found = decision_of(plain_item(item)) if item else None
        return found if isinstance(found, Decision) else None

    def named(self, photos: Sequence[str]) -> list[Decision]:
        """Return the current decisions about these photos, in order of their claims; a photo may have none."""
        some = [photos[start : start + BATCH_GET] for start in range(0, len(photos), BATCH_GET)]
        return separated(each for photos in some for each in self._get(photos))[0]

    def queued(self, queue: Queue, due_before: float | None = None) -> list[Decision]:
        """Return the decisions in a queue (due before a Unix time, if one is given), in order of their claims.

        The index lags a moment behind the table, so the decisions are read from the table itself.
        """
        names, _ = self.names_queued(queue, due_before=due_before)
        return [decision for decision in self.named(names) if decision.in_queue(queue)]

    def names_queued(
        self, queue: Queue, *, due_before: float | None = None, most: int | None = None
    ) -> tuple[list[str], bool]:
        """Return the photos in a queue, longest due first, and whether the queue holds more than are listed.

        Args:
            queue: the queue.
            due_before: a Unix time; photos due later are left out.
            most: read at most this many photos from each shard.
        """

        def shard(digit: str) -> Any:
            values = {":queue": {"S": f"{queue}#{digit}"}} | ({":due": {"N": str(due_before)}} if due_before else {})
            pages = self.dynamodb.get_paginator("query").paginate(
                TableName=self.name,
                IndexName="by_queue",
                KeyConditionExpression="queue = :queue" + (" AND due_at < :due" if due_before else ""),
                ExpressionAttributeValues=values,
                ProjectionExpression="photo, due_at",
                PaginationConfig={"MaxItems": most, "PageSize": most},
            )
            return pages.build_full_result()

        with ThreadPoolExecutor(THREADS) as pool:
            shards = list(pool.map(shard, SHARDS))
        found = sorted((float(item["due_at"]["N"]), item["photo"]["S"]) for shard in shards for item in shard["Items"])
        return [photo for _, photo in found], any("NextToken" in shard for shard in shards)

    def reviewed_on(self, day: date) -> list[Decision]:
        """Return the decisions that people made on a day in UTC, in order, with the attributes of the index."""
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.name,
            IndexName="by_review_day",
            KeyConditionExpression="reviewed_on = :day",
            ExpressionAttributeValues={":day": {"S": day.isoformat()}},
        )
        return [each for each in decisions_in(pages) if isinstance(each, Decision)]

    def update(self, photo: str, changes: Mapping[str, object], when: ConditionBase) -> Decision:
        """Change a photo's record if it meets a condition, and return the changed record.

        Args:
            photo: the photo's full name.
            changes: the new value of each attribute; None removes it.
            when: the condition.

        Raises:
            Conflict: the condition does not hold.
            UnknownPhoto: the record does not exist.
        """
        condition = ConditionExpressionBuilder().build_expression(when)
        values = {f":{name}": value for name, value in changes.items() if value is not None}
        actions = {
            "SET": [f"#{name} = :{name}" for name, value in changes.items() if value is not None],
            "REMOVE": [f"#{name}" for name, value in changes.items() if value is None],
        }
        values |= condition.attribute_value_placeholders
        try:
            answer = self.dynamodb.update_item(
                TableName=self.name,
                Key={"photo": {"S": photo}},
                UpdateExpression=" ".join(f"{action} {', '.join(parts)}" for action, parts in actions.items() if parts),
                ConditionExpression=condition.condition_expression,
                ExpressionAttributeNames=condition.attribute_name_placeholders | {f"#{name}": name for name in changes},
                ExpressionAttributeValues={name: TypeSerializer().serialize(value) for name, value in values.items()},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            stored: Any = error.response.get("Item", {})
            raise Conflict("the record has changed", _known(stored)) from error
        return _known(answer["Attributes"])

    def _get(self, photos: Iterable[str]) -> Iterator[Decision | SkippedDecision]:
        wanted = {self.name: {"Keys": [{"photo": {"S": photo}} for photo in photos], "ConsistentRead": True}}
        while wanted:
            answer = self.dynamodb.batch_get_item(RequestItems=wanted)
            for item in answer["Responses"].get(self.name, []):
                yield decision_of(plain_item(item))
            wanted = answer.get("UnprocessedKeys", {})


def decisions_in(pages: Iterable[Mapping[str, Any]]) -> Iterator[Decision | SkippedDecision]:
    """Yield the decisions on the pages of a query or a scan."""
    for page in pages:
        for item in page["Items"]:
            yield decision_of(plain_item(item))


def _known(item: Mapping[str, Any]) -> Decision:
    found = decision_of(plain_item(item))
    if isinstance(found, SkippedDecision):
        raise UnknownPhoto("this photo does not have a record")
    return found
