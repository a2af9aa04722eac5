"""What became of each photo: a record of the decisions table, and all its readers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from boto3.dynamodb.types import TypeDeserializer

from .errors import UserError
from .window import Window

Status = Literal["ROUTED", "REVIEW", "REJECTED", "FAILED", "CLAIMED"]
STATUSES: tuple[Status, ...] = get_args(Status)
# What a photo has once it is decided, for good or until it is run again.
OUTCOMES = frozenset(STATUSES) - {"CLAIMED"}
COLOURS: dict[Status, str] = {
    "ROUTED": "green",
    "REVIEW": "yellow",
    "REJECTED": "magenta",
    "FAILED": "red",
    "CLAIMED": "cyan",
}
# Reads of the whole table go side by side, each over its share of it.
SEGMENTS = 8
# What somebody must still do, photo by photo: what is claimed, failed for now or not announced; what waits for a
# person; what was given up. Each is spread over shards, by the first digit of the photo's claim.
Queue = Literal["OPEN", "REVIEW", "FAILED"]
SHARDS = "0123456789abcdef"
# As many items as DynamoDB gives for one request by key.
BATCH_GET = 100

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One photo's item in the decisions table; times in UTC, `None` where the item has no such attribute."""

    photo: str
    status: Status
    claimed_at: _Moment
    s3_bucket: str | None = None
    s3_key: str | None = None
    etag: str | None = None
    version_id: str | None = None
    batch_id: str | None = None
    claim: str | None = None
    queue: str | None = None
    due_at: int | None = None
    execution_arn: str | None = None
    uploaded_at: _Moment | None = None
    decided_at: _Moment | None = None
    announced_at: _Moment | None = None
    failed_at: _Moment | None = None
    first_failed_at: _Moment | None = None
    probabilities: dict[str, float] | None = None
    confidence: float | None = None
    variant: str | None = None
    vehicle: str | None = None
    bay: str | None = None
    order_range: str | None = None
    error: str | None = None
    reason: str | None = None
    reviewed_by: str | None = None
    reviewed_at: _Moment | None = None
    label: str | None = None
    label_etag: str | None = None

    @property
    def key(self) -> str:
        """The photo's key: what lies between bucket and ETag in `s3://bucket/key#etag`."""
        return self.photo.removeprefix("s3://").partition("/")[2].rpartition("#")[0] or self.photo

    @property
    def place(self) -> str:
        """Where the driver goes and which orders to take, or an empty string."""
        return f"{self.bay} ({self.order_range})" if self.bay else ""

    @property
    def why(self) -> str:
        """Why the photo was not routed, or an empty string."""
        return f"{self.error}: {self.reason}" if self.reason else ""

    def in_queue(self, queue: Queue) -> bool:
        """Whether somebody must still do this with the photo."""
        return (self.queue or "").startswith(f"{queue}#")

    @property
    def went_to_a_person(self) -> bool:
        """Whether the model was not sure enough, even if a person has routed the driver since."""
        return self.status == "REVIEW" or self.reviewed_by is not None

    @property
    def score(self) -> float | None:
        """The model's score for the vehicle that was decided, which a person may have chosen against the model."""
        if self.reviewed_by is None:
            return self.confidence
        return (self.probabilities or {}).get(self.vehicle or "")

    @property
    def latency(self) -> float | None:
        """Seconds from upload to decision; negative where two clocks disagree, None where one is missing."""
        if self.uploaded_at is None or self.decided_at is None:
            return None
        return (self.decided_at - self.uploaded_at).total_seconds()

    @property
    def processing(self) -> float | None:
        """Seconds from the claim to the decision, if there is one."""
        return None if self.decided_at is None else (self.decided_at - self.claimed_at).total_seconds()


# msgspec works a type out at its first use, and crashes if several threads do so at once (0.22): so it is done here.
msgspec.convert({"photo": "", "status": "CLAIMED", "claimed_at": "1970-01-01T00:00:00Z"}, Decision)


class SkippedDecision(msgspec.Struct, frozen=True):
    """An item that is not a decision, and why."""

    photo: str
    detail: str


class DecisionsTable:
    """The DynamoDB table `name`, read by a boto3 client."""

    def __init__(self, dynamodb: Any, name: str) -> None:
        self._dynamodb = dynamodb
        self._name = name

    def within(self, window: Window) -> Iterator[Decision | SkippedDecision]:
        """Yield the decisions claimed within the window; reads the whole table, in parallel segments."""
        scan: dict[str, Any] = {"TableName": self._name, "TotalSegments": SEGMENTS}
        # The note of the last recovery lies in the table too; what has a status is a decision.
        scan |= {"FilterExpression": "attribute_exists(#status)", "ExpressionAttributeNames": {"#status": "status"}}

        def read(segment: int) -> list[Decision | SkippedDecision]:
            return list(self._pages("scan", scan | {"Segment": segment}))

        with ThreadPoolExecutor(SEGMENTS) as pool:
            for found in pool.map(read, range(SEGMENTS)):
                yield from _inside(found, window)

    def get(self, photo: str) -> Decision | None:
        """Return the decision of a photo by its full name, if there is one; as it is now."""
        key = {"photo": {"S": photo}}
        item = self._dynamodb.get_item(TableName=self._name, Key=key, ConsistentRead=True).get("Item")
        found = _converted(plain_item(item)) if item else None
        return found if isinstance(found, Decision) else None

    def all(self) -> list[Decision]:
        """Return every decision of the table."""
        return separated(self.within(Window()))[0]

    def queued(self, queue: Queue, due_before: float | None = None) -> list[Decision]:
        """Return what waits in a queue (due before a Unix time, if one is given), in the order of claiming.

        The queues are an index, a moment behind the table; the decisions are read from the table itself.
        """
        with ThreadPoolExecutor(SEGMENTS) as pool:
            shards = pool.map(lambda shard: list(self._photos(f"{queue}#{shard}", due_before)), SHARDS)
            photos = [photo for shard in shards for photo in shard]
        return [decision for decision in self.named(photos) if decision.in_queue(queue)]

    def named(self, photos: Sequence[str]) -> list[Decision]:
        """Return the decisions about these photos, as far as there are any, in the order of claiming."""
        some = [photos[start : start + BATCH_GET] for start in range(0, len(photos), BATCH_GET)]
        return separated(each for photos in some for each in self._get(photos))[0]

    def _photos(self, queue: str, due_before: float | None) -> Iterator[str]:
        values = {":queue": {"S": queue}} | ({":due": {"N": str(due_before)}} if due_before else {})
        query = {
            "TableName": self._name,
            "IndexName": "by_queue",
            "KeyConditionExpression": "queue = :queue" + (" AND due_at < :due" if due_before else ""),
            "ExpressionAttributeValues": values,
            "ProjectionExpression": "photo",
        }
        for page in self._dynamodb.get_paginator("query").paginate(**query):
            for item in page["Items"]:
                yield item["photo"]["S"]

    def _get(self, photos: Iterable[str]) -> Iterator[Decision | SkippedDecision]:
        wanted = {self._name: {"Keys": [{"photo": {"S": photo}} for photo in photos], "ConsistentRead": True}}
        while wanted:
            answer = self._dynamodb.batch_get_item(RequestItems=wanted)
            for item in answer["Responses"].get(self._name, []):
                yield _converted(plain_item(item))
            wanted = answer.get("UnprocessedKeys", {})

    def _pages(self, operation: str, arguments: dict[str, Any]) -> Iterator[Decision | SkippedDecision]:
        for page in self._dynamodb.get_paginator(operation).paginate(**arguments):
            for item in page["Items"]:
                yield _converted(plain_item(item))


def decisions_in_file(path: Path, window: Window) -> Iterator[Decision | SkippedDecision]:
    """Yield the decisions in a file that were claimed within the window: a JSON list, or a JSON object a line.

    Raises:
        UserError: the file is missing or neither of the two.
    """
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"["):
            items = msgspec.json.decode(content, type=list[Any])
        else:
            items = msgspec.json.Decoder().decode_lines(content)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UserError(f"{path} is not a list of decisions in JSON: {error}") from error
    return _inside(map(_converted, items), window)


def separated(
    found: Iterable[Decision | SkippedDecision],
) -> tuple[list[Decision], list[SkippedDecision]]:
    """Return the decisions, in the order in which they were claimed, and the items that are not decisions."""
    decisions: list[Decision] = []
    skipped: list[SkippedDecision] = []
    for each in found:
        if isinstance(each, Decision):
            decisions.append(each)
        else:
            skipped.append(each)
    return sorted(decisions, key=lambda each: each.claimed_at), skipped


def timestamp(moment: datetime) -> str:
    """Return a time as the table writes it: UTC, to the millisecond."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def plain_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of DynamoDB's as Python has it; its whole numbers are integers, the others floats."""
    return {name: _plain(TypeDeserializer().deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


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
