"""Reads the decisions table: what became of each photo."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

FINAL = {"ROUTED", "REVIEW", "REJECTED", "FAILED"}


@dataclass(frozen=True)
class Decision:
    """One item of the decisions table; `attributes` are plain Python values."""

    attributes: dict[str, Any]

    @property
    def key(self) -> str:
        """The photo's key in the inbox."""
        return str(self.attributes["s3_key"])

    @property
    def status(self) -> str:
        """ROUTED, REVIEW, REJECTED, FAILED or CLAIMED."""
        return str(self.attributes["status"])

    @property
    def vehicle(self) -> str:
        """The vehicle, or an empty string when none was decided."""
        return str(self.attributes.get("vehicle", ""))

    @property
    def bay(self) -> str:
        """Where the driver goes and which orders to take, or an empty string."""
        if "bay" not in self.attributes:
            return ""
        return f"{self.attributes['bay']} ({self.attributes['order_range']})"

    @property
    def confidence(self) -> float | None:
        """Probability of the likeliest class, if the model was asked."""
        confidence = self.attributes.get("confidence")
        return None if confidence is None else float(confidence)

    @property
    def reason(self) -> str:
        """Why the photo was not routed, or an empty string."""
        if "reason" not in self.attributes:
            return ""
        return f"{self.attributes.get('error', '')}: {self.attributes['reason']}"

    @property
    def milliseconds(self) -> float | None:
        """Time from the start of the execution to the outcome, if there is one."""
        if "decided_at" not in self.attributes:
            return None
        started, decided = (_time(self.attributes[name]) for name in ("claimed_at", "decided_at"))
        return (decided - started).total_seconds() * 1000


def read_decisions(dynamodb: Any, table: str) -> Iterator[Decision]:
    """Yield every item of the table; `dynamodb` is a boto3 client."""
    yield from _decisions(dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True))


def query_decisions(dynamodb: Any, table: str, status: str) -> Iterator[Decision]:
    """Yield the items of one status, the oldest first; a moment behind the table, as its index is."""
    yield from _query(dynamodb, table, "by_status_and_time", "#status = :status", status)


def query_expired_claims(dynamodb: Any, table: str, status: str) -> Iterator[Decision]:
    """Yield the items of one status whose execution ended before their outcome was announced."""
    condition = "#status = :status AND claim_expires_at < :now"
    yield from _query(dynamodb, table, "open_claims", condition, status, {":now": {"N": str(int(time.time()))}})


def _query(
    dynamodb: Any, table: str, index: str, condition: str, status: str, values: dict[str, Any] | None = None
) -> Iterator[Decision]:
    pages = dynamodb.get_paginator("query").paginate(
        TableName=table,
        IndexName=index,
        KeyConditionExpression=condition,
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":status": {"S": status}} | (values or {}),
    )
    yield from _decisions(pages)


def _decisions(pages: Iterable[dict[str, Any]]) -> Iterator[Decision]:
    deserialize = TypeDeserializer().deserialize
    for page in pages:
        for item in page["Items"]:
            yield Decision({name: deserialize(value) for name, value in item.items()})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
