"""What became of each photo: the decisions table of the stack, or a file of the same items."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import boto3
import msgspec
from boto3.dynamodb.types import TypeDeserializer

from .errors import DecisionsUnreadable
from .sources import Window

Status = Literal["ROUTED", "REVIEW", "REJECTED", "FAILED", "CLAIMED"]
STATUSES: tuple[Status, ...] = get_args(Status)

INDEX = "by_status_and_time"
_ATTRIBUTES = (
    "photo",
    "status",
    "vehicle",
    "confidence",
    "bay",
    "order_range",
    "error",
    "probabilities",
    "reviewed_by",
    "uploaded_at",
    "claimed_at",
    "decided_at",
)


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Decision(msgspec.Struct, frozen=True):
    """One photo's item in the decisions table; times in UTC, `None` where the item has no such attribute."""

    photo: str
    status: Status
    claimed_at: _Moment
    uploaded_at: _Moment | None = None
    decided_at: _Moment | None = None
    vehicle: str | None = None
    confidence: float | None = None
    bay: str | None = None
    order_range: str | None = None
    error: str | None = None
    probabilities: dict[str, float] | None = None
    reviewed_by: str | None = None

    @property
    def went_to_a_person(self) -> bool:
        """Whether the model was not sure enough, even if a person has routed the driver since."""
        return self.status == "REVIEW" or self.reviewed_by is not None

    @property
    def latency(self) -> float | None:
        """Seconds from upload to decision; negative where two clocks disagree, None where one is missing."""
        if self.uploaded_at is None or self.decided_at is None:
            return None
        return (self.decided_at - self.uploaded_at).total_seconds()


# msgspec works a type out at its first use, and crashes if several threads do so at once (0.22): so it is done here.
msgspec.convert({"photo": "", "status": "CLAIMED", "claimed_at": "1970-01-01T00:00:00Z"}, Decision)


class SkippedDecision(msgspec.Struct, frozen=True):
    """An item that is not a decision, and why."""

    photo: str
    detail: str


class DecisionsTable:
    """The DynamoDB table `name`, read through its index by status and time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._client = boto3.client("dynamodb")
        self._plain = TypeDeserializer().deserialize

    def within(self, window: Window) -> Iterator[Decision | SkippedDecision]:
        """Yield the decisions claimed within the window, status by status, each status by time."""
        with ThreadPoolExecutor(len(STATUSES)) as pool:
            for items in pool.map(lambda status: list(self._items(status, window)), STATUSES):
                yield from _inside(items, window)

    def count(self, status: Status, window: Window) -> int:
        """How many photos claimed within the window have this status now."""
        pages = self._client.get_paginator("query").paginate(**self._query(status, window), Select="COUNT")
        return sum(page["Count"] for page in pages)

    def count_reviewed(self, window: Window) -> int:
        """How many photos claimed within the window were routed by a person, not by the model."""
        query = self._query("ROUTED", window)
        query["ExpressionAttributeNames"]["#reviewed_by"] = "reviewed_by"
        query["FilterExpression"] = "attribute_exists(#reviewed_by)"
        return sum(page["Count"] for page in self._client.get_paginator("query").paginate(**query, Select="COUNT"))

    def latest(self, status: Status, number: int) -> list[Decision]:
        """Return the newest decisions with this status, newest first."""
        return self._first(status, number, forward=False)

    def oldest(self, status: Status) -> Decision | None:
        """Return the decision that has had this status longest."""
        return next(iter(self._first(status, 1, forward=True)), None)

    def _first(self, status: Status, number: int, *, forward: bool) -> list[Decision]:
        page = self._client.query(**self._query(status, Window()), Limit=number, ScanIndexForward=forward)
        found = (self._decision(item) for item in page["Items"])
        return [each for each in found if isinstance(each, Decision)]

    def _items(self, status: Status, window: Window) -> Iterator[Decision | SkippedDecision]:
        query = self._query(status, window)
        query["ExpressionAttributeNames"] = {f"#{name}": name for name in _ATTRIBUTES}
        query["ProjectionExpression"] = ", ".join(query["ExpressionAttributeNames"])
        for page in self._client.get_paginator("query").paginate(**query):
            for item in page["Items"]:
                yield self._decision(item)

    def _query(self, status: Status, window: Window) -> dict[str, Any]:
        """The arguments of a query; the window is given in the text form that the table sorts by."""
        return {
            "TableName": self._name,
            "IndexName": INDEX,
            "KeyConditionExpression": "#status = :status AND #claimed_at BETWEEN :since AND :until",
            "ExpressionAttributeNames": {"#status": "status", "#claimed_at": "claimed_at"},
            "ExpressionAttributeValues": {
                ":status": {"S": status},
                ":since": {"S": _text(window.since) if window.since else "0"},
                ":until": {"S": _text(window.until) if window.until else "9"},
            },
        }

    def _decision(self, item: dict[str, Any]) -> Decision | SkippedDecision:
        return _converted({name: self._plain(value) for name, value in item.items()})


def decisions_in_file(path: Path, window: Window) -> Iterator[Decision | SkippedDecision]:
    """Return the decisions of a JSON list of items that were claimed within the window.

    Raises DecisionsUnreadable when the file is missing or not a JSON list.
    """
    try:
        items = msgspec.json.decode(path.read_bytes(), type=list[Any])
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DecisionsUnreadable(f"{path} is not a list of decisions in JSON: {error}") from error
    return _inside(map(_converted, items), window)


def separated(
    found: Iterable[Decision | SkippedDecision],
) -> tuple[list[Decision], list[SkippedDecision]]:
    """Return the decisions, by the time they were claimed, and what is none."""
    decisions: list[Decision] = []
    skipped: list[SkippedDecision] = []
    for each in found:
        if isinstance(each, Decision):
            decisions.append(each)
        else:
            skipped.append(each)
    return sorted(decisions, key=lambda each: each.claimed_at), skipped


def _converted(item: Any) -> Decision | SkippedDecision:
    try:
        decision = msgspec.convert(item, Decision, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        photo = item.get("photo") if isinstance(item, dict) else None
        return SkippedDecision(str(photo), str(error))
    return decision


def _inside(found: Iterable[Decision | SkippedDecision], window: Window) -> Iterator[Decision | SkippedDecision]:
    for each in found:
        if isinstance(each, SkippedDecision) or window.holds(each.claimed_at):
            yield each


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
