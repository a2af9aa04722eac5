"""Every order in which executions, a person, RunAgain and faults can write to a photo's record.

The writes come from the definitions and the code of the review page, and their conditions decide. Two executions (for
an event, its duplicate, a replay or RunAgain) may begin at any time. A call may fail before or after its effect, once
or for good, and an execution may die between any two calls. A person may decide, undo and decide again; the
announcement of each decision may die too, and RunAgain starts it again.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import Mock

import jsonata
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import Desk
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto

from .definitions import definition_of
from .tables import Item, update

# A rejection is treated like a routed photo. Those with a vehicle are audited, by a person who sees a bicycle.
OUTCOMES = (("ROUTED", ""), ("REVIEW", ""), ("FAILED", ""), ("ROUTED", "bicycle"), ("ROUTED", "motorcycle"))
EXECUTIONS, FAULTS = 2, 2
PHOTO = "s3://inbox/photo#0"
NOW, DAYS_AGO = "2001-01-10T00:00:00.000Z", "2001-01-02T00:00:00.000Z"
NOW_MILLIS = 979084800000
DECISIONS = 2
# The attributes of a record that the model keeps.
FAILING = ("first_failed_at", "failure_announced_at")
REVIEW = ("reviewed_by", "review_id", "review_closed_at", "revision", "undone_ids", "routed_as", "vehicle")
KEPT = ("photo", "status", "claim", "queue", "due_at", "announced_at", *REVIEW, *FAILING)


Stored = tuple[tuple[str, Any], ...]


class Execution(NamedTuple):
    """A run of ClassifyPhoto: its current state, its outcome, and its knowledge of the past."""

    at: str = "idle"
    status: str = ""
    vehicle: str = ""  # of an audited photo
    since: str = ""
    failure_announced: bool = False
    tried: bool = False


class World(NamedTuple):
    """A photo's record, the runs that work on it, and the announcements."""

    record: Stored | None = None
    executions: tuple[Execution, ...] = (Execution(),) * EXECUTIONS
    decisions: int = 0
    announcement: tuple[str, str] = ("", "")  # of a decision: its current state, and the decision's id
    faults: int = FAULTS
    said: frozenset[tuple[str, str]] = frozenset()
    last: tuple[str, str] = ("", "")
    aside: bool = False


LIVE = ("ClaimPhoto", "Classify", "RecordOutcome", "AnnounceOutcome", "ConfirmAnnouncement")


def evaluated(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return part of a definition with its expressions evaluated."""
    if isinstance(value, dict):
        return {name: evaluated(each, variables) for name, each in value.items()}
    if not isinstance(value, str) or not value.startswith("{%"):
        return value
    compiled = jsonata.Jsonata(value[2:-2])
    frame = compiled.create_frame()
    for name, each in variables.items():
        frame.bind(name, each)
    compiled.register_lambda("millis", lambda: NOW_MILLIS)
    return compiled.evaluate(None, frame)


@cache
def state_of(name: str, without: str) -> dict[str, Any]:
    """Return a state of ClassifyPhoto after substitutions, `without` one of its parts."""
    text = json.dumps(definition_of("ClassifyPhoto")["States"][name]).replace(without or " ", " ")
    for substitution, value in SUBSTITUTIONS.items():
        text = text.replace(f"${{{substitution}}}", value)
    state: dict[str, Any] = json.loads(text)
    return state


def variables_of(claim: str, execution: Execution, without: str) -> dict[str, Any]:
    """Return the variables of an execution with an outcome; PhotoFailed computes those of a failure."""
    decision: dict[str, Any] = {"photo": PHOTO, "claim": claim, "claimed_at": NOW}
    decision |= {"status": execution.status} if execution.status else {}
    decision |= {"first_failed_at": execution.since} if execution.since else {}
    if execution.vehicle:
        decision |= {"vehicle": execution.vehicle, "bay": "1", "order_range": "near", "audit_share": 1}
    states = {"context": {"State": {"EnteredTime": NOW}}}
    variables = {"decision": decision, "failure_announced": execution.failure_announced, "states": states}
    if execution.status == "FAILED":
        code = {"error": "EndpointUnavailable", "reason_code": "ENDPOINT_UNAVAILABLE"}
        variables["failure"] = code | {"reason": "it does not answer"}
        variables["decision"] = evaluated(state_of("PhotoFailed", without)["Assign"]["decision"], variables)
    return variables


@cache
def request(state: str, claim: str, execution: Execution, without: str) -> dict[str, Any]:
    """Return the DynamoDB arguments of a state in the definition, `without` one of its parts."""
    asked: dict[str, Any] = evaluated(state_of(state, without)["Arguments"], variables_of(claim, execution, without))
    return asked


SUBSTITUTIONS = {
    "DecisionsTable": "decisions",
    "ClaimSeconds": "600",
    "DecisionRetentionDays": "365",
    "GiveUpAfterHours": "24",
    "RetryMillis": "300000",
    "LongestRetryMillis": "600000",
}


def stored(world: World) -> Item | None:
    return None if world.record is None else dict(world.record)


def kept(item: Item) -> Stored:
    known = {name: item[name] for name in KEPT if name in item}
    if "due_at" in known:
        known["due_at"] = "later" if known["due_at"] > NOW_MILLIS // 1000 else 0
    return tuple(sorted(known.items()))


def as_item(record: Stored | None) -> Item | None:
    item = None if record is None else dict(record)
    if item and item.get("due_at") == "later":
        item["due_at"] = NOW_MILLIS // 1000 + 1
    return item


Step = tuple[str, World]


class Rules(NamedTuple):
    """The claim of each run, and a part of the definition that is left out."""

    claims: tuple[str, ...] = tuple(map(str, range(EXECUTIONS)))
    without: str = ""


def steps(world: World, rules: Rules) -> Iterator[Step]:
    for number, execution in enumerate(world.executions):
        yield from execution_steps(world, number, execution, rules)
    yield from other_steps(world)


def moved(world: World, number: int, execution: Execution, **changes: Any) -> World:
    executions = (*world.executions[:number], execution, *world.executions[number + 1 :])
    return world._replace(executions=executions, **changes)


def execution_steps(world: World, number: int, execution: Execution, rules: Rules) -> Iterator[Step]:
    name, fault = f"run {number}", world.faults > 0
    if execution.at == "idle":
        yield f"{name} starts", moved(world, number, Execution("ClaimPhoto"))
    if execution.at not in LIVE:
        return
    if fault:
        yield f"{name} dies at {execution.at}", moved(world, number, Execution("dead"), faults=world.faults - 1)
    if execution.at == "Classify":
        for status, vehicle in OUTCOMES:
            found = execution._replace(at="RecordOutcome", status=status, vehicle=vehicle)
            yield f"{name} finds {status} {vehicle}", moved(world, number, found)
        return
    if execution.at == "AnnounceOutcome":
        news = (rules.claims[number], f"{execution.status} {execution.vehicle}")
        heard: dict[str, Any] = {"said": world.said | {news}, "last": news}
        following = execution._replace(at="ConfirmAnnouncement", tried=False)
        yield f"{name} announces {execution.status}", moved(world, number, following, **heard)
        if fault:
            less: dict[str, Any] = {"faults": world.faults - 1}
            again = execution._replace(tried=True) if not execution.tried else Execution("done")
            yield f"{name} announces, its answer is lost", moved(world, number, again, **heard, **less)
            yield f"{name} cannot announce", moved(world, number, Execution("done"), **less)
        return
    yield from write_steps(world, number, execution, rules)


def write_steps(world: World, number: int, execution: Execution, rules: Rules) -> Iterator[Step]:
    name = f"run {number}"
    less: dict[str, Any] = {"faults": world.faults - 1}
    carried = execution._replace(at="", tried=False)
    written = written_by_run(world.record, execution.at, rules.claims[number], carried, rules.without)
    if written is None:
        # A failed condition ends the run; an announcement that cannot be confirmed remains.
        yield f"{name} may not {execution.at}", moved(world, number, Execution("done"))
    else:
        record = kept(written)
        yield f"{name}: {execution.at}", moved(world, number, after(execution, written), record=record)
        if world.faults:
            again = execution._replace(tried=True) if not execution.tried else given_over(execution)
            aside = execution.at == "ClaimPhoto" and execution.tried
            lost = moved(world, number, again, record=record, aside=world.aside or aside, **less)
            yield f"{name}: {execution.at}, its answer is lost", lost
    if world.faults:
        aside = execution.at == "ClaimPhoto"
        over = moved(world, number, given_over(execution), aside=world.aside or aside, **less)
        yield f"{name} cannot {execution.at}", over


@cache
def written_by_run(record: Stored | None, at: str, claim: str, carried: Execution, without: str) -> Item | None:
    """Return the record after an execution's write, or None if its condition fails."""
    return update(as_item(record), request(at, claim, carried, without))


def after(execution: Execution, written: Item) -> Execution:
    """Return the execution in the state that follows its write."""
    match execution.at:
        case "ClaimPhoto":
            since = written.get("first_failed_at", "")
            return Execution("Classify", since=since, failure_announced="failure_announced_at" in written)
        case "RecordOutcome":
            return execution._replace(at="AnnounceOutcome", since=written.get("first_failed_at", ""), tried=False)
    return Execution("done")


def given_over(execution: Execution) -> Execution:
    """Return the execution after a call that failed for good."""
    return Execution("done")


def other_steps(world: World) -> Iterator[Step]:
    item = stored(world)
    if item is None:
        return
    # Ten minutes outlast every execution that was running when they began.
    if item.get("due_at") == "later" and not any(each.at in LIVE[1:] for each in world.executions):
        yield "the claim falls due", world._replace(record=tuple(sorted((item | {"due_at": 0}).items())))
    if item.get("first_failed_at") == NOW and not any(each.at in LIVE for each in world.executions):
        yield "a day passes", world._replace(record=tuple(sorted((item | {"first_failed_at": DAYS_AGO}).items())))
    if world.decisions < DECISIONS:
        decided = by_person(world, "decide", f"{world.decisions:08x}-0000-0000-0000-000000000000")
        if decided is not None:
            starts: dict[str, Any] = {
                "announcement": ("CloseUndo", dict(decided)["review_id"]),
                "decisions": world.decisions + 1,
            }
            yield "a person decides", world._replace(record=decided, **starts)
            yield (
                "a person decides, and nothing is started",
                world._replace(record=decided, decisions=world.decisions + 1),
            )
    undone = by_person(world, "undo", item.get("review_id", ""))
    if undone is not None:
        yield "the person takes it back", world._replace(record=undone)
    if "review_id" in item and item.get("due_at") == 0 and item["queue"].startswith("OPEN#"):
        yield "RunAgain announces it", world._replace(announcement=("CloseUndo", item["review_id"]))
    yield from announcement_steps(world)


def announcement_steps(world: World) -> Iterator[Step]:
    """Yield the possible steps in announcing a person's decision: close, announce and confirm, or die."""
    at, review_id = world.announcement
    if not at:
        return
    yield "its announcement dies", world._replace(announcement=("", ""))
    if at == "Announce":
        news = (review_id, outcome_of(dict(world.record or ())))
        told = world._replace(said=world.said | {news}, last=news)
        yield "it is announced", told._replace(announcement=("Confirm", review_id))
        return
    written = written_by_announcement(world.record, at, review_id)
    if written is None:
        yield f"it may not {at}", world._replace(announcement=("", ""))
    else:
        told_already = confirms(world.record or ())
        following = ("Confirm" if told_already else "Announce", review_id) if at == "CloseUndo" else ("", "")
        yield f"its announcement: {at}", world._replace(record=kept(written), announcement=following)


@cache
def written_by_announcement(record: Stored | None, at: str, review_id: str) -> Item | None:
    """Return the record after a write of AnnounceReview, or None if its condition fails."""
    return update(as_item(record), announce_request(at, review_id))


@cache
def confirms(record: Stored) -> bool:
    """Tell whether AnnounceReview takes a decision for an audit that agrees with the announced outcome."""
    expression = definition_of("AnnounceReview")["States"]["CloseUndo"]["Assign"]["audit"]
    attributes = {name: {"N": "1"} if name == "revision" else {"S": value} for name, value in record}
    return bool(evaluated(expression, {"states": {"result": {"Attributes": attributes}}}) == "confirms")


def outcome_of(item: Item) -> str:
    """Return the outcome that is announced; the vehicle counts for audited photos alone."""
    return f"{item['status']} {item.get('vehicle', '') if item.get('routed_as') or 'review_id' not in item else ''}"


@cache
def announce_request(state: str, review_id: str) -> dict[str, Any]:
    """Return the DynamoDB arguments of a state of AnnounceReview."""
    asked: dict[str, Any] = json.loads(json.dumps(definition_of("AnnounceReview")["States"][state]["Arguments"]))
    asked["Key"] = {"photo": {"S": PHOTO}}
    known = {":review_id": review_id, ":open": "OPEN#", ":due_at": NOW_MILLIS // 1000 + 600}
    values = asked["ExpressionAttributeValues"]
    if isinstance(values, str):
        context: dict[str, Any] = {"states": {"context": {"State": {"EnteredTime": NOW}}}}
        context |= {"decision": {"review_id": review_id}, "label_etag": "etag"}
        return {name: evaluated(value, context) for name, value in asked.items()}
    asked["ExpressionAttributeValues"] = {name: TypeSerializer().serialize(known.get(name, NOW)) for name in values}
    return asked


class Table:
    """The part of a DynamoDB client that the review page uses."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def get_item(self, **_: Any) -> dict[str, Any]:
        """Return the item like DynamoDB."""
        return {"Item": {name: TypeSerializer().serialize(value) for name, value in self.item.items()}}

    def update_item(self, **request: Any) -> dict[str, Any]:
        """Change the item, if the condition holds."""
        written = update(self.item, request)
        if written is None:
            error = {"Error": {"Code": "ConditionalCheckFailedException"}, **self.get_item()}
            raise ClientError(error, "UpdateItem")  # type: ignore[arg-type]
        self.item = written
        return {"Attributes": self.get_item()["Item"]}


@cache
def written_by_person(
    item: tuple[tuple[str, Any], ...], act: str, review_id: str
) -> tuple[tuple[str, Any], ...] | None:
    table = Table({**dict(item), "claimed_at": NOW})
    desk = Desk(DecisionsTable(table, "decisions"), Mock(), "AnnounceReview", parse_classes("bicycle:1:near"))
    try:
        if act == "decide":
            desk.decide(PHOTO, "bicycle", review_id=review_id, reviewer="ann")
        else:
            desk.undo(PHOTO, review_id=review_id, reviewer="ann")
    except (Conflict, UnknownPhoto):
        return None
    return kept({name: value for name, value in table.item.items() if not name.startswith("lease")})


def by_person(world: World, act: str, review_id: str) -> Stored | None:
    """Return the record after a person decided or undid a decision, or None if the page refuses."""
    item = as_item(world.record) or {}
    if act == "undo" and item.get("status") == "REVIEW":
        return None
    return written_by_person(tuple(sorted(item.items())), act, review_id)


def faults_of(before: World, after: World) -> Iterator[str]:
    """Yield the forbidden events in this step."""
    old, new = stored(before), stored(after)
    if old and "reviewed_by" in old and after.announcement == before.announcement and not new:
        yield "a person's decision is gone"
    if old and new and "reviewed_by" in old and new["claim"] != old["claim"]:
        yield "a person's decision is overwritten"
    if after.last != before.last or after.said != before.said:
        by, status = after.last
        known = (new.get("review_id") or new["claim"], outcome_of(new)) if new else None
        if known != (by, status):
            yield f"{status} is announced, and the record says {new and new['status']}"


def faults_at_rest(world: World) -> Iterator[str]:
    """Yield the faults of a world in which nothing runs: photos that would never be processed again."""
    if any(each.at in LIVE for each in world.executions) or world.announcement[0]:
        return
    item = stored(world)
    if item is None:
        ended = [each for each in world.executions if each.at == "done"]
        if ended and not world.aside:
            yield "no record, and nothing set aside"
        return
    queue = item.get("queue", "")
    if queue.startswith("OPEN#"):
        if "announced_at" in item and item["status"] != "FAILED" and "review_id" not in item:
            yield f"{item['status']} was announced, and yet is run again"
        return
    by = item["claim"] if confirms(world.record or ()) else item.get("review_id") or item["claim"]
    if (by, outcome_of(item)) not in world.said:
        yield f"{outcome_of(item)} lies outside every queue and was never announced"
    elif world.last[1] != outcome_of(item):
        yield f"the last announcement is {world.last[1]}, the record is {outcome_of(item)}"
    if item["status"] == "REVIEW" and not queue.startswith("REVIEW#"):
        yield "a photo waits for a person where nobody looks"
    if item["status"] == "FAILED" and not queue.startswith("FAILED#"):
        yield "a photo that failed is not run again"


def explore(rules: Rules, *, first: bool = False) -> tuple[int, dict[str, list[str]]]:
    """Return the number of states, and the shortest path to every fault, or only to the first."""
    start = World()
    came_from: dict[World, Step | None] = {start: None}
    found: dict[str, list[str]] = {}
    waiting = deque([start])

    def way(world: World) -> list[str]:
        steps_back = []
        while step := came_from[world]:
            steps_back.append(step[0])
            world = step[1]
        return steps_back[::-1]

    while waiting and not (first and found):
        world = waiting.popleft()
        for label, following in steps(world, rules):
            for fault in faults_of(world, following):
                found.setdefault(fault, [*way(world), label])
            if following not in came_from:
                came_from[following] = (label, world)
                waiting.append(following)
                for fault in faults_at_rest(following):
                    found.setdefault(fault, way(following))
    return len(came_from), found


def test_no_order_of_events_loses_mixes_or_overwrites_an_outcome() -> None:
    states, found = explore(Rules())

    assert not found, "\n".join(f"{fault}: {' → '.join(way)}" for fault, way in found.items())
    assert states > 8_000


@pytest.mark.parametrize(
    "without",
    [
        "attribute_not_exists(reviewed_by) AND",
        "AND attribute_not_exists(reviewed_by)",
        "AND attribute_exists(announced_at)",
        " AND due_at < :now",
        " queue = :queue, due_at = :due_at, expires_at = :expires_at,",
        ", queue = :queue, due_at = :due_at",
    ],
)
def test_every_part_of_the_conditions_is_necessary(without: str) -> None:
    assert without in str(definition_of("ClassifyPhoto"))

    assert explore(Rules(without=without), first=True)[1]


def test_with_the_execution_s_arn_as_the_claim_two_runs_of_one_execution_mix() -> None:
    assert explore(Rules(claims=("arn", "arn")), first=True)[1]
