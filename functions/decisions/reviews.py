"""A person's decision about a photo: recorded conditionally, undoable for a while, correctable afterwards.

The review page and the command line both decide through this module. The table's conditions make a decision happen
once; the workflow `AnnounceReview`, started under one name per decision, announces it once.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from boto3.dynamodb.conditions import Attr, ConditionBase
from botocore.exceptions import BotoCoreError, ClientError
from msgspec.structs import replace

from .chance import is_drawn
from .classes import NEITHER, VehicleClass
from .decision import Decision, Opinion, timestamp
from .reason_code import ReasonCode
from .table import Conflict, DecisionsTable, UnknownPhoto

LABELS = "labels/"  # AnnounceReview keeps a copy of each decided photo here
LEASE_SECONDS = 120
ANNOUNCE_SECONDS = 180  # after this, RunAgain starts the announcement of a function that died before it could
MOST_UNDONE = 50  # per photo: its record keeps the ids of undone decisions, and its size is limited
REVIEW_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Attributes of a record. A write that leaves a state behind removes its attributes.
OUTCOME = ("status", "vehicle", "bay", "order_range", "error", "reason", "reason_code")
BEFORE = ("unsure_reason", "unsure_code", "routed_as")  # the outcome before the first decision, which an undo restores
SIGNATURE = ("reviewed_by", "reviewed_at", "reviewed_on", "review_id", "revision")
LABEL = ("label", "label_etag", "replaced_label")
LEASE = ("lease_by", "lease_until")

# Conditions on a record.
NEEDS_REVIEW = Attr("status").eq("REVIEW") & Attr("queue").begins_with("REVIEW#")
NEEDS_AUDIT = Attr("status").eq("ROUTED") & Attr("queue").begins_with("AUDIT#")
NEEDS_OPINION = Attr("queue").begins_with("SECOND#")
WAITS = NEEDS_REVIEW | NEEDS_AUDIT | NEEDS_OPINION
CAN_BE_UNDONE = Attr("review_closed_at").not_exists() & Attr("revision").eq(1)
IS_CLOSED = Attr("review_closed_at").exists()


def free_for(reviewer: str, now: float) -> ConditionBase:
    """Return the condition that nobody else holds the photo."""
    expired = Attr("lease_until").not_exists() | Attr("lease_until").lt(int(now))
    return expired | Attr("lease_by").eq(reviewer)


def never_undone(review_id: str) -> ConditionBase:
    """Return the condition that a decision was not undone before, so a late copy of it is ignored."""
    return Attr("undone_ids").not_exists() | ~Attr("undone_ids").contains(review_id)


def decided_as(review_id: str) -> ConditionBase:
    """Return the condition that this decision is the last one about the photo."""
    return Attr("review_id").eq(review_id)


class InvalidAnswer(Exception):
    """The answer is not one of this stack's, or the decision's id is not a UUID."""


@dataclass(frozen=True)
class Desk:
    """Where people decide: the table, the workflow that announces their decisions, and the stack's classes.

    Another person sees `second_share` of the decided photos; `salt` keeps the draw unpredictable.
    """

    table: DecisionsTable
    stepfunctions: Any
    workflow: str
    classes: Mapping[str, VehicleClass] = field(default_factory=dict)
    second_share: float = 0
    salt: str = ""

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Every answer: the classes in the order of the model's scores, then `neither`."""
        return (*self.classes, NEITHER)

    def asks_again(self, photo: str) -> bool:
        """Whether another person gives an opinion about a photo once it is decided."""
        return is_drawn(f"second {photo}", self.second_share, self.salt)

    def read(self, photo: str) -> Decision:
        """Return the record of a photo that is, or was, in review or audited.

        Raises:
            UnknownPhoto: the photo does not exist, or the model was sure of it and nobody audits it.
        """
        decision = self.table.get(photo)
        if decision is None or not (decision.status == "REVIEW" or decision.needs_audit or decision.review_id):
            raise UnknownPhoto("this photo is not in review")
        return decision

    def decide(self, photo: str, answer: str, *, review_id: str, reviewer: str) -> Decision:
        """Record a person's answer for a photo that needs review, and start its announcement; returns the record.

        An audited photo is decided in the same way; the answer is announced only if it differs from the model's. About
        a photo that is decided already and needs another opinion, the answer is that opinion. Repeating a `review_id`
        changes nothing and returns the same record.

        Args:
            photo: the photo's name in the table.
            answer: a class, or `neither`.
            review_id: a UUID of the caller's, which makes the decision count once.
            reviewer: the person's name.

        Raises:
            InvalidAnswer: see there.
            UnknownPhoto: see `read`.
            Conflict: decided already, undone, or held by somebody else.
        """
        self._check(answer, review_id)
        decision = self.read(photo)
        if _gave(decision, review_id) or (decision.needs_opinion and decision.review_id != review_id):
            return self._give_opinion(decision, Opinion(review_id, reviewer, answer, datetime.now(UTC)))
        changes = self._outcome(answer) | _signature(decision, review_id, reviewer, revision=1)
        changes |= _label(decision, answer, review_id)
        changes |= _before(decision) | dict.fromkeys(LEASE)
        changes |= {"second_share": Decimal(str(self.second_share)) if self.asks_again(photo) else None}
        waits = NEEDS_AUDIT if decision.needs_audit else NEEDS_REVIEW
        when = waits & free_for(reviewer, time.time()) & never_undone(review_id)
        return self._take(decision, changes, when, lambda stored: _why_not_decided(stored, review_id))

    def undo(self, photo: str, *, review_id: str, reviewer: str) -> Decision:
        """Take back a person's own decision before it is announced; the photo waits again, held by the same person.

        An opinion that corrected nothing can be taken back for two minutes, unless another person looks at the photo.

        Raises:
            UnknownPhoto: see `read`.
            Conflict: announced already, a correction, or somebody else's.
        """
        decision = self.read(photo)
        if len(decision.undone_ids) >= MOST_UNDONE and review_id not in decision.undone_ids:
            raise Conflict("this photo was undone too often; correct the decision instead", decision)
        if _gave(decision, review_id) and decision.review_id != review_id:
            changes, when = _without_last_opinion(decision, review_id, reviewer)
        else:
            changes = dict.fromkeys((*OUTCOME, *BEFORE, *SIGNATURE, *LABEL, "second_share")) | _restored(decision)
            changes |= {"due_at": int(decision.claimed_at.timestamp())}
            when = decided_as(review_id) & Attr("reviewed_by").eq(reviewer) & CAN_BE_UNDONE
        changes |= {
            "undone_ids": [*decision.undone_ids, review_id],
            "lease_by": reviewer,
            "lease_until": int(time.time()) + LEASE_SECONDS,
        }
        try:
            return self.table.update(photo, changes, when)
        except Conflict as conflict:
            if conflict.decision.waits and review_id in conflict.decision.undone_ids:
                return conflict.decision  # a duplicate of this request was faster
            raise Conflict(_why_not_undone(conflict.decision, review_id, reviewer), conflict.decision) from None

    def correct(self, photo: str, answer: str, *, review_id: str, reviewer: str, corrects: str) -> Decision:
        """Replace an announced decision by another, which is announced as its next revision.

        Args:
            photo: the photo's name in the table.
            answer: a class, or `neither`.
            review_id: of the correction.
            reviewer: the person's name; every reviewer may correct everybody's decisions.
            corrects: the `review_id` of the decision that the person saw.

        Raises:
            InvalidAnswer: see there; also the answer that was given before.
            UnknownPhoto: see `read`.
            Conflict: not announced yet, or corrected by somebody else since.
        """
        self._check(answer, review_id)
        decision = self.read(photo)
        if decision.review_id == corrects and decision.answer == answer:
            raise InvalidAnswer(f"the decision is {answer} already")
        changes = self._correction(decision, answer, review_id, reviewer)
        when = decided_as(corrects) & IS_CLOSED
        return self._take(decision, changes, when, lambda stored: _why_not_corrected(stored, corrects))

    def _give_opinion(self, decision: Decision, opinion: Opinion) -> Decision:
        """Record an opinion about a decided photo; a third person's corrects the decision if it is another."""
        if not _gave(decision, opinion.id):
            if decision.is_by(opinion.by):
                raise Conflict("you have decided this photo already", decision)
            given = replace(decision, opinions=(*(decision.opinions or (decision.opinion,)), opinion))
            changes: dict[str, object] = {"opinions": _stored(given.opinions)} | dict.fromkeys(LEASE)
            if given.is_settled:
                changes |= {"queue": None, "due_at": None}
            if given.is_settled and given.is_disputed and opinion.answer != decision.answer:
                changes |= self._correction(decision, opinion.answer, opinion.id, opinion.by)
            when = NEEDS_OPINION & _same_opinions(decision) & decided_as(given.opinions[0].id)
            when &= free_for(opinion.by, time.time()) & never_undone(opinion.id)
            try:
                decision = self.table.update(decision.photo, changes, when)
            except Conflict as conflict:
                decision = conflict.decision
                if not _gave(decision, opinion.id):  # else a duplicate of this request was faster
                    raise Conflict(_why_no_opinion(decision, opinion.id), decision) from None
        if decision.review_id == opinion.id:
            self._announce(decision)
        return decision

    def _correction(self, decision: Decision, answer: str, review_id: str, reviewer: str) -> dict[str, object]:
        """Return the changes that replace a decision; a corrected one needs no further opinion."""
        signature = _signature(decision, review_id, reviewer, revision=(decision.revision or 0) + 1)
        more = _label(decision, answer, review_id) | dict.fromkeys(("review_closed_at", "second_share"))
        return self._outcome(answer) | signature | more

    def _check(self, answer: str, review_id: str) -> None:
        if answer not in self.answers:
            raise InvalidAnswer(f"the answer must be one of {', '.join(self.answers)}")
        if not REVIEW_ID.fullmatch(review_id):
            raise InvalidAnswer("review_id must be a UUID in lower case")

    def _outcome(self, answer: str) -> dict[str, object]:
        chosen = self.classes.get(answer)
        if chosen is None:
            outcome = {
                "status": "REJECTED",
                "error": "NoVehicle",
                "reason": "a person sees none of the vehicles",
                "reason_code": ReasonCode.NO_VEHICLE,
            }
        else:
            outcome = {"status": "ROUTED", "vehicle": answer, "bay": chosen.bay, "order_range": chosen.order_range}
        return dict.fromkeys(OUTCOME) | outcome

    def _take(
        self, decision: Decision, changes: Mapping[str, object], when: ConditionBase, why_not: Callable[[Decision], str]
    ) -> Decision:
        """Write a decision unless it is written already, and start its announcement; returns the record."""
        if decision.review_id != changes["review_id"]:
            try:
                decision = self.table.update(decision.photo, changes, when)
            except Conflict as conflict:
                decision = conflict.decision
                if decision.review_id != changes["review_id"]:  # else a duplicate of this request was faster
                    raise Conflict(why_not(decision), decision) from None
        self._announce(decision)
        return decision

    def _announce(self, decision: Decision) -> None:
        """Start the announcement of a decision; if that fails, RunAgain starts it some minutes later."""
        named = {"photo": decision.photo, "review_id": decision.review_id}
        # The photo is part of the name, as a client may use one id for two photos.
        name = f"{decision.review_id}-{hashlib.sha256(decision.photo.encode()).hexdigest()[:16]}"
        try:
            self.stepfunctions.start_execution(stateMachineArn=self.workflow, name=name, input=json.dumps(named))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
                logging.getLogger(__name__).warning("announcement not started: %s", error, extra=named)
        except BotoCoreError as error:
            logging.getLogger(__name__).warning("announcement not started: %s", error, extra=named)


def _signature(decision: Decision, review_id: str, reviewer: str, *, revision: int) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "review_id": review_id,
        "revision": revision,
        "reviewed_by": reviewer,
        "reviewed_at": timestamp(now),
        "reviewed_on": now.date().isoformat(),
        "queue": decision.shard_of("OPEN"),
        "due_at": int(now.timestamp()) + ANNOUNCE_SECONDS,
    }


def _gave(decision: Decision, opinion_id: str) -> bool:
    """Whether this opinion about the photo is recorded."""
    return opinion_id in {each.id for each in decision.opinions}


def _stored(opinions: Sequence[Opinion]) -> list[dict[str, str]]:
    return [{"id": each.id, "by": each.by, "answer": each.answer, "at": timestamp(each.at)} for each in opinions]


def _same_opinions(decision: Decision) -> ConditionBase:
    """Return the condition that nobody has given or taken back an opinion since the record was read."""
    opinions = Attr("opinions")
    return opinions.eq(_stored(decision.opinions)) if decision.opinions else opinions.not_exists()


def _without_last_opinion(
    decision: Decision, opinion_id: str, reviewer: str
) -> tuple[dict[str, object], ConditionBase]:
    """Return the changes that take a person's opinion back, and their condition.

    Raises:
        Conflict: it is not the last opinion, or it is another person's or too old.
    """
    *others, last = decision.opinions
    if last.id != opinion_id:
        raise Conflict("this is no longer the last opinion about the photo", decision)
    if last.by != reviewer:
        raise Conflict(f"the opinion is {last.by}'s", decision)
    if time.time() - last.at.timestamp() > LEASE_SECONDS:
        raise Conflict("too late to undo", decision)
    changes: dict[str, object] = {
        "opinions": _stored(others) if len(others) > 1 else None,
        "queue": decision.shard_of("SECOND"),
        "due_at": int(others[0].at.timestamp()),
    }
    return changes, _same_opinions(decision) & decided_as(others[0].id) & free_for(reviewer, time.time())


def _before(decision: Decision) -> dict[str, object]:
    """Return the attributes that keep the outcome before the first decision."""
    if decision.needs_audit:
        return {"routed_as": f"{decision.vehicle}:{decision.bay}:{decision.order_range}"}
    return {"unsure_reason": decision.reason, "unsure_code": decision.reason_code}


def _restored(decision: Decision) -> dict[str, object]:
    """Return the outcome before the first decision, and its queue."""
    if decision.routed_as:
        routed = dict(zip(("vehicle", "bay", "order_range"), decision.routed_as.split(":"), strict=True))
        return {"status": "ROUTED", "queue": decision.shard_of("AUDIT"), **routed}
    return {
        "status": "REVIEW",
        "error": "LowConfidence",
        "reason": decision.unsure_reason or "",
        "reason_code": decision.unsure_code,
        "queue": decision.shard_of("REVIEW"),
    }


def _label(decision: Decision, answer: str, review_id: str) -> dict[str, object]:
    """Return the location of the decision's label, and the label that it replaces.

    The key is recorded with the decision and never used again, so a label that the table does not name counts for
    nothing, and an announcement that comes too late deletes its own copy only.
    """
    label = f"{LABELS}{answer}/{decision.claim}-{review_id}"
    return {"label": label, "label_etag": None, "replaced_label": decision.label or None}


def _why_not_decided(stored: Decision, review_id: str) -> str:
    if stored.review_id is not None:
        return f"{stored.reviewed_by} has decided: {stored.answer}"
    if review_id in stored.undone_ids:
        return "this decision was undone"
    if stored.waits:
        return f"{stored.lease_by or 'somebody'} is looking at this photo"
    return "this photo is no longer waiting for review"


def _why_no_opinion(stored: Decision, opinion_id: str) -> str:
    if opinion_id in stored.undone_ids:
        return "this opinion was undone"
    return f"{stored.lease_by or 'somebody'} is looking at this photo" if stored.needs_opinion else "others were faster"


def _why_not_undone(stored: Decision, review_id: str, reviewer: str) -> str:
    if stored.review_id != review_id:
        return "this is no longer the last decision about the photo"
    if stored.reviewed_by != reviewer:
        return f"the decision is {stored.reviewed_by}'s"
    if stored.revision != 1:
        return "a correction cannot be undone, only corrected"
    return "too late to undo: it is announced; correct it instead"


def _why_not_corrected(stored: Decision, corrects: str) -> str:
    if stored.review_id != corrects:
        return f"{stored.reviewed_by} has changed it: {stored.answer}" if stored.reviewed_by else "it was undone"
    return "this decision can still be undone; it cannot be corrected yet"
