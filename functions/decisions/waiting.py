"""The photos that need review, the person who holds each of them, and the decisions of the day."""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from statistics import median

from boto3.dynamodb.conditions import Attr

from .decision import Decision, Queue
from .reviews import LEASE, LEASE_SECONDS, WAITS, free_for
from .table import BATCH_GET, Conflict, DecisionsTable, UnknownPhoto

SHARD_LIMIT = 100  # photos counted per shard, so counts are exact up to 1,600
RENEW_SECONDS = LEASE_SECONDS / 2
LONGEST_DECISION = 300  # seconds; a longer gap between two decisions was a pause


@dataclass(frozen=True)
class Leases:
    """The photos that one person holds, the number that wait in all, and the number that each colleague holds."""

    photos: list[Decision]
    waiting: int
    more: bool
    colleagues: dict[str, int]


@dataclass(frozen=True)
class Day:
    """The decisions since a given time, latest first, and one person's median seconds per decision."""

    decisions: list[Decision]
    seconds: float | None


def hold(table: DecisionsTable, reviewer: str, *, have: Collection[str], skipped: Collection[str], want: int) -> Leases:
    """Lease photos to a person until they hold `want`: those that they already `have` first, `skipped` ones last.

    Photos to audit come behind those that drivers wait for, and second opinions last, without the person's own photos.
    A lease ends after two minutes; asking again renews it.
    """
    queues: tuple[Queue, ...] = ("REVIEW", "AUDIT", "SECOND")
    found = [table.names_queued(each, most=SHARD_LIMIT) for each in queues]
    listed, more = [photo for names, _ in found for photo in names], any(more for _, more in found)
    now = time.time()
    first = list(dict.fromkeys([*have, *listed]))[:BATCH_GET]
    records = {decision.photo: decision for decision in table.named(first)}
    others = {each.photo for each in records.values() if each.in_queue("SECOND") and not _may_give(each, reviewer)}
    queue = [records[photo] for photo in first if photo in records and records[photo].waits and photo not in others]
    holders = {decision.photo: decision.holder(now) for decision in queue}
    colleagues = Counter(name for name in holders.values() if name not in {"", reviewer})
    free = [decision for decision in queue if holders[decision.photo] in {"", reviewer}]
    free.sort(key=lambda each: (each.photo in skipped, each.needs_opinion, each.needs_audit))  # stable
    leased = (_lease(table, decision, reviewer, now) for decision in free)
    waiting = sum(photo not in others for photo in listed)
    return Leases(list(islice(filter(None, leased), want)), waiting, more, dict(colleagues))


def release(table: DecisionsTable, reviewer: str, photos: Iterable[str]) -> None:
    """Release photos that a person holds."""
    for photo in photos:
        with suppress(Conflict, UnknownPhoto):
            table.update(photo, dict.fromkeys(LEASE), Attr("lease_by").eq(reviewer))


def decisions_since(table: DecisionsTable, reviewer: str, since: datetime) -> Day:
    """Return the decisions that people made since a given time, at most a day ago."""
    now = datetime.now(UTC)
    since = max(since, now - timedelta(days=1))
    days = [now.date() - timedelta(days=1), now.date()] if since.date() < now.date() else [now.date()]
    timed = [(decision.reviewed_at, decision) for day in days for decision in table.reviewed_on(day)]
    recent = [(at, decision) for at, decision in timed if at is not None and at >= since]
    own = [at for at, decision in recent if decision.reviewed_by == reviewer]
    gaps = [(after - before).total_seconds() for before, after in pairwise(own)]
    gaps = [gap for gap in gaps if gap <= LONGEST_DECISION]
    return Day([decision for _, decision in reversed(recent)], median(gaps) if gaps else None)


def _may_give(decision: Decision, reviewer: str) -> bool:
    return decision.needs_opinion and not decision.is_by(reviewer)


def _lease(table: DecisionsTable, decision: Decision, reviewer: str, now: float) -> Decision | None:
    """Lease a record to the reviewer and return it; None if someone else was faster."""
    if decision.holder(now) == reviewer and (decision.lease_until or 0) - now > RENEW_SECONDS:
        return decision
    lease = {"lease_by": reviewer, "lease_until": int(now) + LEASE_SECONDS}
    try:
        return table.update(decision.photo, lease, WAITS & free_for(reviewer, now))
    except (Conflict, UnknownPhoto):
        return None
