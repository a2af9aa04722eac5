"""Every order in which a decision, its corrections and their announcements can write to a photo's labels.

The writes to the table are those of AnnounceReview and of the review page's code. A person may correct as soon as the
page allows it; every announcement may be started again, may die between any two calls, and may fail to copy the photo.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from boto3.dynamodb.types import TypeSerializer

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import Desk
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto

from .definitions import definition_of
from .tables import Item, update
from .test_interleavings import NOW, PHOTO, Table, evaluated

ANSWERS = ("bicycle", "motorcycle")
STATES: dict[str, Any] = definition_of("AnnounceReview")["States"]
OF_REVIEW = ("review_id", "reviewed_by", "review_closed_at", "revision")
KEPT = ("photo", "status", "vehicle", "claim", "queue", "label", "label_etag", "replaced_label", *OF_REVIEW)
Variables = tuple[tuple[str, Any], ...]


class Announcement(NamedTuple):
    """One run of AnnounceReview: the state that it is in, its decision, and its variables."""

    at: str
    review_id: str
    variables: Variables = ()


class World(NamedTuple):
    """One photo's record, the labels in the bucket, the running announcements, and the faults still to come."""

    record: tuple[tuple[str, Any], ...]
    running: frozenset[Announcement] = frozenset()
    bucket: frozenset[str] = frozenset()
    decisions: int = 0
    again: int = 1
    deaths: int = 0
    failures: int = 1


def review_id(number: int) -> str:
    return f"{number:08x}-0000-0000-0000-000000000000"


def decided(world: World) -> World | None:
    """Return the world after the next decision or correction, or None if the page refuses it."""
    table = Table({**dict(world.record), "claimed_at": NOW})
    classes = parse_classes("bicycle:1:near,motorcycle:2:far")
    desk = Desk(DecisionsTable(table, "decisions"), Mock(), "AnnounceReview", classes)
    number, given = world.decisions, {"review_id": review_id(world.decisions), "reviewer": "ann"}
    try:
        if number:
            desk.correct(PHOTO, ANSWERS[number], corrects=review_id(number - 1), **given)
        else:
            desk.decide(PHOTO, ANSWERS[number], **given)
    except (Conflict, UnknownPhoto):
        return None
    started = Announcement("CloseUndo", review_id(number))
    return world._replace(record=kept(table.item), running=world.running | {started}, decisions=number + 1)


def kept(item: Item) -> Variables:
    return tuple(sorted((name, item[name]) for name in KEPT if name in item))


def steps(world: World) -> Iterator[tuple[str, World]]:
    if world.decisions < len(ANSWERS) and (following := decided(world)):
        yield f"a person says {ANSWERS[world.decisions]}", following
    item = dict(world.record)
    if world.again and item.get("queue", "").startswith("OPEN#") and "review_id" in item:
        started = world.running | {Announcement("CloseUndo", item["review_id"])}
        yield "RunAgain announces it", world._replace(running=started, again=world.again - 1)
    for each in world.running:
        others = world._replace(running=world.running - {each})
        if world.deaths:
            yield f"{each.review_id[:8]} dies at {each.at}", others._replace(deaths=world.deaths - 1)
        for label, then, after in moves(world, others, each):
            running = after.running | ({then} if then else frozenset())
            yield f"{each.review_id[:8]}: {label}", after._replace(running=running)


def moves(world: World, others: World, run: Announcement) -> Iterator[tuple[str, Announcement | None, World]]:
    """Yield the moves open to a run in its state: (label, the run afterwards or None, the world without it)."""
    state, variables = STATES[run.at], dict(run.variables)

    def go(following: str, **more: Any) -> Announcement:
        return run._replace(at=following, variables=tuple(sorted((variables | more).items())))

    if state["Type"] == "Succeed":
        yield run.at, None, others
    elif state["Type"] == "Choice":
        chosen = [each["Next"] for each in state["Choices"] if evaluated(each["Condition"], bound(world, variables))]
        yield run.at, go(chosen[0] if chosen else state["Default"]), others
    elif run.at == "CloseUndo":
        written = update(dict(world.record), asked(run))
        if written is None:
            yield "may not close", None, others
        else:
            known = {name: TypeSerializer().serialize(value) for name, value in written.items()}
            assigned = {name: state["Assign"][name] for name in ("label", "label_etag", "replaced")}
            context = {"states": {"result": {"Attributes": known}}}
            more = evaluated(assigned, context)
            yield "closes", go("KeepLabel", **more), others._replace(record=kept(written))
    elif run.at == "KeepLabel":
        label = variables["label"]
        yield "copies", go(state["Next"], label_etag="etag"), others._replace(bucket=world.bucket | {label})
        if world.failures:
            yield "cannot copy", go(state["Catch"][0]["Next"]), others._replace(failures=world.failures - 1)
    elif run.at == "Confirm":
        written = update(dict(world.record), asked(run))
        if written is None:
            yield "may not confirm", go(state["Catch"][0]["Next"]), others
        else:
            yield "confirms", go(state["Next"]), others._replace(record=kept(written))
    else:
        key = evaluated(state["Arguments"]["Key"], bound(world, variables))
        yield f"deletes {key}", go(state["Next"]), others._replace(bucket=world.bucket - {key})


def bound(world: World, variables: dict[str, Any]) -> dict[str, Any]:
    return {**variables, "decision": {"s3_bucket": "inbox"}}


def asked(run: Announcement) -> dict[str, Any]:
    """Return the DynamoDB request of a state of AnnounceReview."""
    request: dict[str, Any] = {**STATES[run.at]["Arguments"], "Key": {"photo": {"S": PHOTO}}}
    values = request["ExpressionAttributeValues"]
    if isinstance(values, str):
        context = {"decision": {"review_id": run.review_id}, "states": {"context": {"State": {"EnteredTime": NOW}}}}
        return {name: evaluated(value, {**dict(run.variables), **context}) for name, value in request.items()}
    known = {":review_id": run.review_id, ":open": "OPEN#", ":due_at": 1}
    serialized = {name: TypeSerializer().serialize(known.get(name, NOW)) for name in values}
    return request | {"ExpressionAttributeValues": serialized}


def explore(deaths: int) -> tuple[int, list[list[str]]]:
    """Return how many states there are, and the shortest ways to wrong labels where nobody is at work."""
    record = {"photo": PHOTO, "status": "REVIEW", "claim": "c", "queue": "REVIEW#c"}
    start = World(kept(record), deaths=deaths)
    came_from: dict[World, tuple[str, World] | None] = {start: None}
    waiting, found = deque([start]), []
    while waiting:
        world = waiting.popleft()
        if wrong(world, deaths):
            way, at = [], world
            while step := came_from[at]:
                way.append(step[0])
                at = step[1]
            found.append(way[::-1])
        for label, following in steps(world):
            if following not in came_from:
                came_from[following] = (label, world)
                waiting.append(following)
    return len(came_from), found


def wrong(world: World, deaths: int) -> bool:
    item = dict(world.record)
    if world.running or item.get("queue"):
        return False
    named = {item["label"]} if item.get("label_etag") else set()
    if not all(label.startswith(f"labels/{item['vehicle']}/") for label in named):
        return True
    # A run that died may leave its copy behind, which the table does not name.
    is_missing = not named and world.failures  # only a failed copy may leave no label
    return bool(is_missing) or not named <= world.bucket or (not deaths and world.bucket != named)


@pytest.mark.parametrize("deaths", [0, pytest.param(1, marks=pytest.mark.long)])
def test_corrections_during_announcements_leave_one_label_that_the_table_names(deaths: int) -> None:
    states, found = explore(deaths)

    assert not found, " → ".join(found[0])
    assert states > 100
