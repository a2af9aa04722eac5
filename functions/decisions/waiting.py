"""The photos that wait for a person: who holds which for now, and what the day has brought."""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from .reviews import LEASE_SECONDS, Desk, Record, holder, plain, waits

SHARDS = "0123456789abcdef"
SHARD_LIMIT = 100  # counted in a shard at most: 1,600 waiting photos are known exactly, beyond that "more than"
BATCH = 100  # keys that BatchGetItem takes
RENEW_SECONDS = LEASE_SECONDS / 2
LONGEST_DECISION = 300  # seconds; a longer gap between two decisions was a pause


@dataclass(frozen=True)
class Held:
    """What one person has in hand, and what they are not alone with."""

    photos: list[Record]
    waiting: int
    more: bool
    colleagues: dict[str, int]


@dataclass(frozen=True)
class Day:
    """The decisions since a moment, latest first, and the median seconds that one person took for one of theirs."""

    decisions: list[Record]
    seconds: float | None


def waiting_photos(desk: Desk) -> tuple[list[str], bool]:
    """Return the photos that wait, the longest waiting first, and whether there are more than are listed."""

    def ask(shard: str) -> dict[str, Any]:
        answer: dict[str, Any] = desk.dynamodb.query(
            TableName=desk.table,
            IndexName="by_queue",
            KeyConditionExpression="#queue = :queue",
            ProjectionExpression="#photo, #due_at",
            ExpressionAttributeNames={"#queue": "queue", "#photo": "photo", "#due_at": "due_at"},
            ExpressionAttributeValues={":queue": {"S": f"REVIEW#{shard}"}},
            Limit=SHARD_LIMIT,
        )
        return answer

    with ThreadPoolExecutor(len(SHARDS) // 2) as pool:
        pages = list(pool.map(ask, SHARDS))
    found = [plain(item) for page in pages for item in page["Items"]]
    found.sort(key=lambda item: (item["due_at"], item["photo"]))
    return [item["photo"] for item in found], any("LastEvaluatedKey" in page for page in pages)


def hold(desk: Desk, reviewer: str, *, have: Collection[str], skipped: Collection[str], want: int) -> Held:
    """Lease photos to a person until they hold `want`, those that they `have` first and `skipped` ones last.

    A lease ends by itself, and is renewed by asking again.
    """
    listed, more = waiting_photos(desk)
    now = time.time()
    first = [*have, *(photo for photo in listed if photo not in have)]
    records = _read(desk, first[:BATCH])
    queue = [records[photo] for photo in first if photo in records and waits(records[photo])]
    others = Counter(holder(record, now) for record in queue) - Counter({"": len(queue), reviewer: len(queue)})
    free = [record for record in queue if holder(record, now) in {"", reviewer}]
    free.sort(key=lambda record: record["photo"] in skipped)  # stable: otherwise the order stays
    photos: list[Record] = []
    for record in free:
        if len(photos) == want:
            break
        leased = _lease(desk, record, reviewer, now)
        photos += [leased] if leased else []
    return Held(photos, len(listed), more, dict(others))


def release(desk: Desk, reviewer: str, photos: Iterable[str]) -> None:
    """Give photos back that a person holds."""
    for photo in photos:
        _change_lease(desk, photo, "REMOVE lease_by, lease_until", "lease_by = :me", {":me": {"S": reviewer}})


def decisions_since(desk: Desk, reviewer: str, since: datetime) -> Day:
    """Return what people decided since a moment, at most a day ago."""
    today = datetime.now(UTC).date()
    since = max(since, datetime.now(UTC) - timedelta(days=1))
    days = [today - timedelta(days=1), today] if since.date() < today else [today]
    decisions = [record for day in days for record in _decided_on(desk, day.isoformat())]
    decisions = [record for record in decisions if datetime.fromisoformat(record["reviewed_at"]) >= since]
    own = [datetime.fromisoformat(each["reviewed_at"]) for each in decisions if each["reviewed_by"] == reviewer]
    gaps = [(after - before).total_seconds() for before, after in pairwise(own)]
    gaps = [gap for gap in gaps if gap <= LONGEST_DECISION]
    return Day(decisions[::-1], median(gaps) if gaps else None)


def _decided_on(desk: Desk, day: str) -> list[Record]:
    pages = desk.dynamodb.get_paginator("query").paginate(
        TableName=desk.table,
        IndexName="by_review_day",
        KeyConditionExpression="reviewed_on = :day",
        ExpressionAttributeValues={":day": {"S": day}},
    )
    return [plain(item) for page in pages for item in page["Items"]]


def _read(desk: Desk, photos: list[str]) -> dict[str, Record]:
    if not photos:
        return {}
    keys = [{"photo": {"S": photo}} for photo in photos]
    # What DynamoDB leaves unread when it is busy is read at the next asking.
    answer = desk.dynamodb.batch_get_item(RequestItems={desk.table: {"Keys": keys, "ConsistentRead": True}})
    records = [plain(item) for item in answer["Responses"][desk.table]]
    return {record["photo"]: record for record in records}


def _lease(desk: Desk, record: Record, reviewer: str, now: float) -> Record | None:
    """Return the record, held by the reviewer; nothing if somebody else was quicker."""
    if holder(record, now) == reviewer and record["lease_until"] - now > RENEW_SECONDS:
        return record
    condition = (
        "#status = :review AND begins_with(#queue, :queued)"
        " AND (attribute_not_exists(lease_until) OR lease_until < :now OR lease_by = :me)"
    )
    values = {
        ":me": {"S": reviewer},
        ":now": {"N": str(int(now))},
        ":until": {"N": str(int(now) + LEASE_SECONDS)},
        ":review": {"S": "REVIEW"},
        ":queued": {"S": "REVIEW#"},
    }
    names = {"#status": "status", "#queue": "queue"}
    expression = "SET lease_by = :me, lease_until = :until"
    return _change_lease(desk, record["photo"], expression, condition, values, names)


def _change_lease(
    desk: Desk, photo: str, expression: str, condition: str, values: Record, names: Record | None = None
) -> Record | None:
    try:
        answer = desk.dynamodb.update_item(
            TableName=desk.table,
            Key={"photo": {"S": photo}},
            UpdateExpression=expression,
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
            **({"ExpressionAttributeNames": names} if names else {}),
        )
    except desk.dynamodb.exceptions.ConditionalCheckFailedException:
        return None
    return plain(answer["Attributes"])
