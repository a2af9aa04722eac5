"""One photo's record in the decisions table, in the one form that the functions and the command line read."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

import msgspec
from boto3.dynamodb.types import TypeDeserializer

from .classes import NEITHER

Status = Literal["ROUTED", "REVIEW", "REJECTED", "FAILED", "CLAIMED"]
STATUSES: tuple[Status, ...] = get_args(Status)
# The statuses of a photo that has been decided, for good or until it runs again.
OUTCOMES = frozenset(STATUSES) - {"CLAIMED"}
# The queues of unfinished photos. OPEN: claimed, failed for now or not announced. REVIEW: waiting for a person. AUDIT:
# routed, and chosen for a person to check. SECOND: decided by a person, and chosen for another one. FAILED: given up.
# The table's index spreads each queue over shards, by the first digit of the photo's claim.
Queue = Literal["OPEN", "REVIEW", "AUDIT", "SECOND", "FAILED"]
SHARDS = "0123456789abcdef"

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Box(msgspec.Struct, frozen=True):
    """A rectangle in a photo; its edges as shares of the photo's sides, 0 … 1, from the top left."""

    left: float
    top: float
    right: float
    bottom: float


class Detection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The endpoint's findings in a photo: place, score, number of each class, and the reason why it is not sure."""

    box: Box | None = None
    score: float | None = None
    counts: dict[str, int] = {}
    reason_code: str | None = None


class Opinion(msgspec.Struct, frozen=True):
    """One person's answer about a photo: a class, or `neither`. Nobody sees another's opinion before giving one."""

    id: str  # a UUID that makes the opinion count once
    by: str
    answer: str
    at: _Moment


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One photo's item in the decisions table. Times are in UTC; an attribute that the item lacks is `None`."""

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
    driver: str | None = None
    order: str | None = None
    decided_at: _Moment | None = None
    announced_at: _Moment | None = None
    failed_at: _Moment | None = None
    first_failed_at: _Moment | None = None
    probabilities: dict[str, float] | None = None
    confidence: float | None = None
    variant: str | None = None
    detection: Detection | None = None
    vehicle: str | None = None
    bay: str | None = None
    order_range: str | None = None
    audit_share: float | None = None  # the share of routed photos that were audited when this one was chosen
    routed_as: str | None = None  # the model's outcome, as VEHICLE:BAY:ORDERS, of a photo that a person audited
    error: str | None = None
    reason: str | None = None
    reason_code: str | None = None  # a ReasonCode, or one of a later version
    lease_by: str | None = None
    lease_until: int | None = None
    review_id: str | None = None
    reviewed_by: str | None = None
    reviewed_at: _Moment | None = None
    revision: int | None = None
    unsure_reason: str | None = None
    unsure_code: str | None = None
    undone_ids: tuple[str, ...] = ()
    second_share: float | None = None  # the share of decided photos that others saw when this one was chosen
    opinions: tuple[Opinion, ...] = ()  # the first decision, the second person's, and the third's if those differ
    label: str | None = None
    label_etag: str | None = None

    @property
    def bucket(self) -> str:
        """The photo's bucket, from its name `s3://bucket/key#etag`."""
        return self.photo.removeprefix("s3://").partition("/")[0]

    @property
    def key(self) -> str:
        """The photo's key, from its name `s3://bucket/key#etag`."""
        return self.photo.removeprefix("s3://").partition("/")[2].rpartition("#")[0] or self.photo

    @property
    def place(self) -> str:
        """Where the driver goes and which orders to take, or an empty string."""
        return f"{self.bay} ({self.order_range})" if self.bay else ""

    @property
    def whose(self) -> str:
        """The driver and the order that the photo belongs to, as far as they are known."""
        return ", ".join(filter(None, (self.driver, f"order {self.order}" if self.order else "")))

    @property
    def why(self) -> str:
        """Why the photo was not routed, or an empty string."""
        return f"{self.error}: {self.reason}" if self.reason else ""

    @property
    def answer(self) -> str:
        """The decided vehicle, or `neither`."""
        return self.vehicle or NEITHER

    @property
    def opinion(self) -> Opinion:
        """The decision of a person as an opinion."""
        return Opinion(self.review_id or "", self.reviewed_by or "", self.answer, self.reviewed_at or self.claimed_at)

    def in_queue(self, queue: Queue) -> bool:
        """Whether the photo is in this queue."""
        return (self.queue or "").startswith(f"{queue}#")

    def shard_of(self, queue: Queue) -> str:
        """Return the index key of the photo in a queue."""
        return f"{queue}#{(self.claim or SHARDS)[0]}"

    @property
    def needs_review(self) -> bool:
        """Whether a person can decide the photo now: the model was unsure, and that has been announced."""
        return self.status == "REVIEW" and self.in_queue("REVIEW")

    @property
    def needs_audit(self) -> bool:
        """Whether a person can audit the photo now: it was chosen when the driver was routed, and that is announced."""
        return self.status == "ROUTED" and self.in_queue("AUDIT")

    @property
    def needs_opinion(self) -> bool:
        """Whether another person can give an opinion now: it was chosen, and the decision is announced."""
        return self.in_queue("SECOND") and not self.is_settled

    @property
    def is_settled(self) -> bool:
        """Whether two people's opinions agree, or a third person has given one."""
        return len({each.answer for each in self.opinions}) < len(self.opinions) or len(self.opinions) > 2

    @property
    def is_disputed(self) -> bool:
        """Whether the first two people's opinions differ."""
        return len({each.answer for each in self.opinions[:2]}) > 1

    @property
    def is_blind(self) -> bool:
        """Whether the photo waits for a person who must not know the others' answers, the model's included."""
        return self.needs_audit or self.needs_opinion

    @property
    def waits(self) -> bool:
        """Whether a person can decide the photo now."""
        return self.needs_review or self.is_blind

    @property
    def chosen(self) -> str:
        """How the label's photo was chosen: by `audit`, in `review`, or by a third person's opinion about a review."""
        if self.audit_share is not None:
            return "audit"
        return "second" if self.review_id in {each.id for each in self.opinions[2:]} else "review"

    def is_by(self, reviewer: str) -> bool:
        """Whether a person has decided the photo, or given an opinion about it."""
        return reviewer in {self.reviewed_by, *(each.by for each in self.opinions)}

    def holder(self, now: float) -> str:
        """Return the name of the person who holds the photo at a Unix time, or an empty string."""
        return self.lease_by or "" if (self.lease_until or 0) >= now else ""

    @property
    def went_to_a_person(self) -> bool:
        """Whether the model was not sure enough, even if a person has routed the driver since."""
        return self.status == "REVIEW" or (self.reviewed_by is not None and self.audit_share is None)

    @property
    def guess(self) -> str:
        """The model's likeliest class, also if a person has decided otherwise; empty without an answer of the model."""
        scores = self.probabilities or {}
        return max(scores, key=scores.__getitem__, default="")

    @property
    def is_wrong(self) -> bool:
        """Whether a person saw something else than the model."""
        return self.reviewed_by is not None and self.answer != self.guess

    @property
    def score(self) -> float | None:
        """The model's score for the decided vehicle, which a person may have chosen against the model."""
        if self.reviewed_by is None:
            return self.confidence
        return (self.probabilities or {}).get(self.vehicle or "")

    @property
    def latency(self) -> float | None:
        """Seconds from upload to decision. Negative if two clocks disagree; None if either time is missing."""
        if self.uploaded_at is None or self.decided_at is None:
            return None
        return (self.decided_at - self.uploaded_at).total_seconds()

    @property
    def processing(self) -> float | None:
        """Seconds from the claim to the decision; None before the decision."""
        return None if self.decided_at is None else (self.decided_at - self.claimed_at).total_seconds()


# msgspec 0.22 analyses a type at its first use, and crashes if several threads do so at once. So use it here first.
msgspec.convert({"photo": "", "status": "CLAIMED", "claimed_at": "1970-01-01T00:00:00Z"}, Decision)


class SkippedDecision(msgspec.Struct, frozen=True):
    """An item that is not a decision, and why."""

    photo: str
    detail: str


def decision_of(item: object) -> Decision | SkippedDecision:
    """Return the decision in a plain item, or the reason why the item is not a decision."""
    try:
        return msgspec.convert(item, Decision, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        photo = item.get("photo") if isinstance(item, dict) else None
        return SkippedDecision(str(photo), str(error))


def separated(
    found: Iterable[Decision | SkippedDecision],
) -> tuple[list[Decision], list[SkippedDecision]]:
    """Return the decisions, in order of their claims, and the items that are not decisions."""
    decisions: list[Decision] = []
    skipped: list[SkippedDecision] = []
    for each in found:
        if isinstance(each, Decision):
            decisions.append(each)
        else:
            skipped.append(each)
    return sorted(decisions, key=lambda each: each.claimed_at), skipped


def plain_item(item: Mapping[str, Any]) -> dict[str, object]:
    """Return a DynamoDB item as plain Python values: whole numbers as integers, other numbers as floats."""
    return {name: _plain(TypeDeserializer().deserialize(value)) for name, value in item.items()}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def timestamp(moment: datetime) -> str:
    """Return a time as the table writes it: UTC, to the millisecond."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
