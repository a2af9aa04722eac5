"""Every order in which executions, a person, the sweep and faults can write to one photo's record.

The writes are those of the definitions: their expressions are evaluated, and their conditions decide. Two executions
(an event, its duplicate, a replay or what RunAgain starts) may begin at any time. A call may fail before or after it
was done, once or for good, and an execution may die between any two of them.
"""

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jsonata
import pytest

from .definitions import definition_of
from .tables import Item, update

OUTCOMES = ("ROUTED", "REVIEW", "FAILED")  # a rejection is treated as a routed photo is
EXECUTIONS, FAULTS = 2, 2
PHOTO = "s3://inbox/photo#0"
NOW, DAYS_AGO = "2026-11-25T12:00:00.000Z", "2026-11-20T12:00:00.000Z"
NOW_MILLIS = 1795608000000
# What the model keeps of a record.
FAILING = ("first_failed_at", "failure_announced_at")
KEPT = ("photo", "status", "claim", "queue", "due_at", "announced_at", "reviewed_by", *FAILING)


class Execution(NamedTuple):
    """One run of ClassifyPhoto: the state that it is in, the outcome that it carries, what it knows of the past."""

    at: str = "idle"
    status: str = ""
    since: str = ""
    failure_announced: bool = False
    given_up: bool = False
    tried: bool = False


class World(NamedTuple):
    """One photo's record, who works on it, and what has been said."""

    record: tuple[tuple[str, Any], ...] | None = None
    executions: tuple[Execution, ...] = (Execution(),) * EXECUTIONS
    person: str = ""  # decided, told or gone
    faults: int = FAULTS
    said: frozenset[tuple[str, str]] = frozenset()
    last: tuple[str, str] = ("", "")
    aside: bool = False


LIVE = ("ClaimPhoto", "Classify", "RecordOutcome", "RecordFailure", "AnnounceOutcome", "ConfirmAnnouncement")


@cache
def request(state: str, claim: str, execution: Execution, without: str) -> dict[str, Any]:
    """Return what a state of the definition, `without` some part of it, asks DynamoDB for."""
    expression = definition_of("ClassifyPhoto")["States"][state]["Arguments"][2:-2].replace(without or " ", " ")
    for name, value in SUBSTITUTIONS.items():
        expression = expression.replace(f"${{{name}}}", value)
    decision: dict[str, Any] = {"photo": PHOTO, "claim": claim, "claimed_at": NOW, "status": execution.status}
    decision |= {"first_failed_at": execution.since} if execution.since else {}
    decision |= {"given_up": True} if execution.given_up else {}
    compiled = jsonata.Jsonata(expression)
    frame = compiled.create_frame()
    frame.bind("decision", decision)
    frame.bind("failure_announced", execution.failure_announced)
    frame.bind("states", {"context": {"State": {"EnteredTime": NOW}}})
    compiled.register_lambda("millis", lambda: NOW_MILLIS)
    asked: dict[str, Any] = compiled.evaluate(None, frame)
    return asked


SUBSTITUTIONS = {
    "DecisionsTable": "decisions",
    "ClaimSeconds": "600",
    "DecisionRetentionDays": "365",
    "GiveUpAfterHours": "24",
    "RetrySeconds": "300",
    "LongestRetrySeconds": "3600",
}


def stored(world: World) -> Item | None:
    return None if world.record is None else dict(world.record)


def kept(item: Item) -> tuple[tuple[str, Any], ...]:
    known = {name: item[name] for name in KEPT if name in item}
    if "due_at" in known:
        known["due_at"] = "later" if known["due_at"] > NOW_MILLIS / 1000 else 0
    return tuple(sorted(known.items()))


def as_item(world: World) -> Item | None:
    item = stored(world)
    if item and item.get("due_at") == "later":
        item["due_at"] = NOW_MILLIS / 1000 + 1
    return item


Step = tuple[str, World]


class Rules(NamedTuple):
    """What each run takes for its claim, and a part of the definition that is left out."""

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
        for status in OUTCOMES:
            at = "RecordFailure" if status == "FAILED" else "RecordOutcome"
            yield f"{name} finds {status}", moved(world, number, execution._replace(at=at, status=status))
        return
    if execution.at == "AnnounceOutcome":
        news = (rules.claims[number], execution.status)
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
    asked = request(execution.at, rules.claims[number], carried, rules.without)
    written = update(as_item(world), asked)
    if written is None:
        # A failed condition ends the run; what was announced but cannot be confirmed stays announced.
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


def after(execution: Execution, written: Item) -> Execution:
    """Return the execution in the state that follows its write."""
    match execution.at:
        case "ClaimPhoto":
            since = written.get("first_failed_at", "")
            return Execution("Classify", since=since, failure_announced="failure_announced_at" in written)
        case "RecordOutcome":
            return execution._replace(at="AnnounceOutcome", tried=False)
        case "RecordFailure":
            given_up = written["first_failed_at"] == DAYS_AGO
            news = given_up or not execution.failure_announced
            at = "AnnounceOutcome" if news else "done"
            return execution._replace(at=at, since=written["first_failed_at"], given_up=given_up, tried=False)
    return Execution("done")


def given_over(execution: Execution) -> Execution:
    """Return the execution after a call that failed for good."""
    return Execution("done")


def other_steps(world: World) -> Iterator[Step]:
    item = stored(world)
    if item is None:
        return
    # Ten minutes outlast every execution that was at work when they began.
    if item.get("due_at") == "later" and not any(each.at in LIVE[1:] for each in world.executions):
        yield "the claim falls due", world._replace(record=tuple(sorted((item | {"due_at": 0}).items())))
    if item.get("first_failed_at") == NOW and not any(each.at in LIVE for each in world.executions):
        yield "a day passes", world._replace(record=tuple(sorted((item | {"first_failed_at": DAYS_AGO}).items())))
    if item["status"] == "REVIEW" and item.get("queue", "").startswith("REVIEW#"):
        decided = item | {"status": "ROUTED", "queue": "OPEN#0", "due_at": "later", "reviewed_by": "ann"}
        decided.pop("announced_at", None)
        yield "a person decides", world._replace(record=tuple(sorted(decided.items())), person="decided")
    if world.person == "decided":
        told = {name: value for name, value in item.items() if name not in {"queue", "due_at"}} | {"announced_at": NOW}
        heard: dict[str, Any] = {"said": world.said | {("person", "ROUTED")}, "last": ("person", "ROUTED")}
        yield "it is announced", world._replace(record=tuple(sorted(told.items())), person="told", **heard)


def faults_of(before: World, after: World) -> Iterator[str]:
    """Yield what must never happen, and happened in this step."""
    old, new = stored(before), stored(after)
    if old and "reviewed_by" in old and (not new or new.get("status") != old["status"] or "reviewed_by" not in new):
        yield "a person's decision is overwritten"
    if after.last != before.last or after.said != before.said:
        by, status = after.last
        if by != "person" and (not new or (new["claim"], new["status"]) != (by, status)):
            yield f"{status} is announced, and the record says {new and new['status']}"


def faults_at_rest(world: World) -> Iterator[str]:
    """Yield what is wrong where nobody is at work: what nobody would ever look at again."""
    if any(each.at in LIVE for each in world.executions):
        return
    item = stored(world)
    if item is None:
        ended = [each for each in world.executions if each.at == "done"]
        if ended and not world.aside:
            yield "no record, and nothing set aside"
        return
    queue = item.get("queue", "")
    if queue.startswith("OPEN#"):
        if "announced_at" in item and item["status"] != "FAILED":
            yield f"{item['status']} was announced, and yet is run again"
        return
    by = "person" if "reviewed_by" in item else item["claim"]
    if (by, item["status"]) not in world.said:
        yield f"{item['status']} lies outside every queue and was never announced"
    elif world.last[1] != item["status"]:
        yield f"the last that was said is {world.last[1]}, the record is {item['status']}"
    if item["status"] == "REVIEW" and not queue.startswith("REVIEW#"):
        yield "a photo waits for a person where nobody looks"
    if item["status"] == "FAILED" and not queue.startswith("FAILED#"):
        yield "a photo that failed is not run again"


def explore(rules: Rules) -> tuple[int, dict[str, list[str]]]:
    """Return how many states there are, and the shortest way to everything that is wrong."""
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

    while waiting:
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


def test_no_order_of_events_loses_crosses_or_overwrites_an_outcome() -> None:
    states, found = explore(Rules())

    assert not found, "\n".join(f"{fault}: {' → '.join(way)}" for fault, way in found.items())
    assert states > 3_000


@pytest.mark.parametrize(
    "without",
    [
        "attribute_not_exists(reviewed_by) AND",
        "AND attribute_not_exists(reviewed_by)",
        "AND attribute_exists(announced_at)",
        " AND due_at < :now",
        "'queue': 'OPEN#' & $substring($decision.claim, 0, 1),",
        ", queue = :queue, due_at = :due_at",
    ],
)
def test_without_any_part_of_its_conditions_something_goes_wrong(without: str) -> None:
    assert without in str(definition_of("ClassifyPhoto"))

    assert explore(Rules(without=without))[1]


def test_with_the_execution_s_arn_as_the_claim_two_runs_of_one_execution_cross() -> None:
    assert explore(Rules(claims=("arn", "arn")))[1]
