"""A person's decision counts once, can be undone in time and corrected later, under the conditions of moto's table."""

import dataclasses
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws
from msgspec.structs import replace

from functions.decisions.chance import is_drawn
from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision
from functions.decisions.reviews import MOST_UNDONE, Desk, InvalidAnswer, decided_as
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto
from functions.decisions.waiting import decisions_since, hold, release
from loading_bay.stack.template import read_template

TABLE = "decisions"
WORKFLOW = "arn:aws:states:us-east-1:123456789012:stateMachine:announce"


class Announcements:
    """Replaces Step Functions: keeps each execution's input under its name, and can be unreachable."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, str]] = {}
        self.reachable = True

    def start_execution(self, *, name: str, input: str, **_: Any) -> None:
        if not self.reachable:
            raise EndpointConnectionError(endpoint_url="https://states.us-east-1.amazonaws.com")
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name)
        if self.inputs.setdefault(name, json.loads(input)) != json.loads(input):
            error = {"Error": {"Code": "ExecutionAlreadyExists", "Message": ""}}
            raise ClientError(error, "StartExecution")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """Keep all calls from AWS; clients made from now on talk to moto."""
    with mock_aws():
        yield


@pytest.fixture(scope="module")
def dynamodb(aws: None) -> Any:
    """Return a client of a table with the template's indexes."""
    client = boto3.client("dynamodb")
    wanted = read_template()["Resources"]["Decisions"]["Properties"]
    taken = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    client.create_table(TableName=TABLE, **{name: wanted[name] for name in taken})
    return client


@pytest.fixture
def desk(dynamodb: Any) -> Iterator[Desk]:
    classes = parse_classes("bicycle:1:near,motorcycle:2:far")
    yield Desk(DecisionsTable(dynamodb, TABLE), Announcements(), WORKFLOW, classes)
    for item in dynamodb.scan(TableName=TABLE)["Items"]:
        dynamodb.delete_item(TableName=TABLE, Key={"photo": item["photo"]})


def put(desk: Desk, name: str = "photo.jpg", **changes: Any) -> str:
    """Write the record of a photo that needs review; return its name."""
    claim = str(uuid.uuid4())
    record = {
        "photo": f"s3://inbox/uploads/{name}#{'0' * 32}",
        "s3_bucket": "inbox",
        "s3_key": f"uploads/{name}",
        "driver": name.partition("/")[0] if "/" in name else "",
        "etag": "0" * 32,
        "claim": claim,
        "claimed_at": "2026-11-25T10:00:00.000Z",
        "status": "REVIEW",
        "queue": f"REVIEW#{claim[0]}",
        "due_at": 1795600800,
        "error": "LowConfidence",
        "reason": "bicycle 0.5000, motorcycle 0.5000: none reaches 0.9",
        "reason_code": "UNSURE",
    } | changes
    item = {key: TypeSerializer().serialize(value) for key, value in record.items() if value is not None}
    desk.table.dynamodb.put_item(TableName=TABLE, Item=item)
    return str(record["photo"])


def close(desk: Desk, photo: str) -> None:
    """Close the undo window like the workflow."""
    desk.table.dynamodb.update_item(
        TableName=TABLE,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET review_closed_at = :now",
        ExpressionAttributeValues={":now": {"S": "2026-11-25T12:00:00.000Z"}},
    )


def new_id() -> str:
    return str(uuid.uuid4())


def decide(desk: Desk, photo: str, answer: str = "bicycle", review_id: str | None = None, by: str = "ana") -> Decision:
    return desk.decide(photo, answer, review_id=review_id or new_id(), reviewer=by)


def announced(desk: Desk) -> list[tuple[str, str]]:
    """Return the photo and the decision's id of each announcement that was started."""
    return [(each["photo"], each["review_id"]) for each in desk.stepfunctions.inputs.values()]


def held(desk: Desk, by: str, want: int = 1, have: tuple[str, ...] = (), skipped: tuple[str, ...] = ()) -> list[str]:
    return [decision.photo for decision in hold(desk.table, by, have=have, skipped=skipped, want=want).photos]


def test_a_vehicle_routes_the_photo_and_starts_its_announcement(desk: Desk) -> None:
    photo, review_id = put(desk), new_id()

    decision = decide(desk, photo, "motorcycle", review_id)

    assert (decision.status, decision.vehicle, decision.place) == ("ROUTED", "motorcycle", "2 (far)")
    assert (decision.reviewed_by, decision.review_id, decision.revision) == ("ana", review_id, 1)
    assert decision.in_queue("OPEN")
    assert (decision.due_at or 0) > datetime.now(UTC).timestamp() + 60
    assert (decision.error, decision.reason, decision.reason_code) == (None, None, None)
    assert announced(desk) == [(photo, review_id)]
    assert held(desk, "ana") == []


def test_neither_rejects_the_photo(desk: Desk) -> None:
    decision = decide(desk, put(desk), "neither")

    assert (decision.status, decision.error, decision.vehicle) == ("REJECTED", "NoVehicle", None)
    assert decision.reason_code == "NO_VEHICLE"


def test_the_same_decision_again_answers_the_same_and_another_meets_a_conflict(desk: Desk) -> None:
    photo, review_id = put(desk), new_id()
    first = decide(desk, photo, "bicycle", review_id)

    assert decide(desk, photo, "bicycle", review_id) == first
    with pytest.raises(Conflict, match="ana has decided: bicycle") as refused:
        decide(desk, photo, "motorcycle", by="ben")

    assert refused.value.decision == first


def test_a_decision_whose_announcement_cannot_start_is_recorded_and_due_for_run_again(desk: Desk) -> None:
    desk.stepfunctions.reachable = False

    decision = decide(desk, put(desk))

    assert decision.status == "ROUTED"
    assert decision.in_queue("OPEN")


def test_undone_in_time_the_photo_waits_as_before(desk: Desk) -> None:
    photo, review_id = put(desk), new_id()
    before = desk.read(photo)
    decide(desk, photo, "neither", review_id)

    undone = desk.undo(photo, review_id=review_id, reviewer="ana")

    assert replace(undone, lease_by=None, lease_until=None, undone_ids=()) == before
    assert desk.undo(photo, review_id=review_id, reviewer="ana") == undone
    assert held(desk, "ben") == []
    assert decide(desk, photo, "bicycle").status == "ROUTED"


@pytest.mark.long
def test_a_late_copy_of_any_undone_decision_does_not_decide_again(desk: Desk) -> None:
    photo, ids = put(desk), [new_id() for _ in range(MOST_UNDONE)]
    for review_id in ids:
        decide(desk, photo, "bicycle", review_id)
        desk.undo(photo, review_id=review_id, reviewer="ana")

    for review_id in ids:
        with pytest.raises(Conflict, match="was undone"):
            decide(desk, photo, "bicycle", review_id)
    # A record has limited size, so it can remember a limited number of ids
    desk.undo(photo, review_id=ids[-1], reviewer="ana")
    last = decide(desk, photo, "motorcycle")
    with pytest.raises(Conflict, match="undone too often"):
        desk.undo(photo, review_id=last.review_id or "", reviewer="ana")


def test_one_id_for_two_photos_announces_both(desk: Desk) -> None:
    first, second, review_id = put(desk, "1.jpg"), put(desk, "2.jpg"), new_id()

    decide(desk, first, "bicycle", review_id)
    decide(desk, second, "motorcycle", review_id)

    assert announced(desk) == [(first, review_id), (second, review_id)]


def test_an_item_that_is_not_a_decision_does_not_hide_others(desk: Desk) -> None:
    put(desk, "bad.jpg", due_at=1, claimed_at="yesterday")
    put(desk, "worse.jpg", due_at=2, status="LOST")
    photo = put(desk)

    assert held(desk, "ana", 3) == [photo]


def test_a_late_decision_or_one_of_somebody_else_cannot_be_undone(desk: Desk) -> None:
    photo, review_id = put(desk), new_id()
    decide(desk, photo, "bicycle", review_id)
    with pytest.raises(Conflict, match="ana's"):
        desk.undo(photo, review_id=review_id, reviewer="ben")
    close(desk, photo)

    with pytest.raises(Conflict, match="too late"):
        desk.undo(photo, review_id=review_id, reviewer="ana")


def test_a_correction_is_the_next_revision(desk: Desk) -> None:
    photo, first, second = put(desk), new_id(), new_id()
    decide(desk, photo, "bicycle", first)
    with pytest.raises(Conflict, match="can still be undone"):
        desk.correct(photo, "motorcycle", review_id=second, reviewer="ben", corrects=first)
    close(desk, photo)

    corrected = desk.correct(photo, "neither", review_id=second, reviewer="ben", corrects=first)

    assert (corrected.status, corrected.revision, corrected.reviewed_by) == ("REJECTED", 2, "ben")
    assert (corrected.vehicle, corrected.place) == (None, "")
    assert desk.correct(photo, "neither", review_id=second, reviewer="ben", corrects=first) == corrected
    assert announced(desk) == [(photo, first), (photo, second)]
    with pytest.raises(Conflict, match="ben has changed it: neither"):
        desk.correct(photo, "motorcycle", review_id=new_id(), reviewer="ana", corrects=first)
    with pytest.raises(Conflict, match="cannot be undone, only corrected"):
        desk.undo(photo, review_id=second, reviewer="ben")


@pytest.mark.parametrize(
    ("answer", "review_id"),
    [("tank", str(uuid.UUID(int=0))), ("", str(uuid.UUID(int=0))), ("bicycle", "x"), ("bicycle", "../../admin")],
)
def test_nonsense_is_an_invalid_answer(desk: Desk, answer: str, review_id: str) -> None:
    with pytest.raises(InvalidAnswer):
        desk.decide(put(desk), answer, review_id=review_id, reviewer="ana")


@pytest.mark.parametrize("status", ["CLAIMED", "ROUTED", "REJECTED", "FAILED"])
def test_a_photo_that_was_never_in_review_is_not_revealed(desk: Desk, status: str) -> None:
    photo = put(desk, status=status, queue=None, due_at=None)

    with pytest.raises(UnknownPhoto):
        decide(desk, photo)
    with pytest.raises(UnknownPhoto):
        desk.read("s3://inbox/nothing#none")


def test_a_photo_that_is_not_announced_yet_cannot_be_decided(desk: Desk) -> None:
    photo = put(desk, queue="OPEN#0")

    with pytest.raises(Conflict, match="no longer waiting for review"):
        decide(desk, photo)


def test_the_oldest_photos_come_first_and_each_goes_to_one_person(desk: Desk) -> None:
    photos = [put(desk, f"{number}.jpg", due_at=1795600800 + number) for number in range(5)]

    assert held(desk, "ana", 2) == photos[:2]
    ben = hold(desk.table, "ben", have=(), skipped=(), want=2)

    assert [decision.photo for decision in ben.photos] == photos[2:4]
    assert (ben.waiting, ben.more, ben.colleagues) == (5, False, {"ana": 2})
    assert held(desk, "ana", 2) == photos[:2]
    assert held(desk, "ana", 3, have=(photos[1],)) == [photos[1], photos[0], photos[4]]
    with pytest.raises(Conflict, match="ben is looking at this photo"):
        decide(desk, photos[2], by="ana")


def test_a_lease_expires_or_is_released(desk: Desk) -> None:
    photo = put(desk)
    assert held(desk, "ana") == [photo]
    release(desk.table, "ben", [photo])
    assert held(desk, "ben") == []
    release(desk.table, "ana", [photo])
    assert held(desk, "ben") == [photo]
    expired = put(desk, "expired.jpg", lease_by="ana", lease_until=1795600800 - 10**7)

    assert expired in held(desk, "ben", 2)
    assert decide(desk, put(desk, "other.jpg", lease_by="ana", lease_until=1), by="ben").reviewed_by == "ben"


def test_skipped_photos_come_back_last(desk: Desk) -> None:
    photos = [put(desk, f"{number}.jpg", due_at=1795600800 + number) for number in range(3)]

    assert held(desk, "ana", 3, skipped=(photos[0],)) == [photos[1], photos[2], photos[0]]


def test_the_day_counts_decisions_and_the_seconds_that_one_took(desk: Desk) -> None:
    photos = [put(desk, f"{number}.jpg") for number in range(4)]
    for photo in photos[:3]:
        decide(desk, photo)
    decide(desk, photos[3], by="ben")

    day = decisions_since(desk.table, "ana", datetime.now(UTC) - timedelta(hours=1))

    assert [decision.photo for decision in day.decisions] == photos[::-1]
    assert day.seconds is not None
    assert 0 <= day.seconds < 5
    assert decisions_since(desk.table, "ana", datetime.now(UTC) + timedelta(hours=1)).decisions == []
    assert decisions_since(desk.table, "carl", datetime.now(UTC) - timedelta(days=900)).seconds is None


ROUTED: dict[str, Any] = {
    "status": "ROUTED",
    "queue": "AUDIT#0",
    "vehicle": "motorcycle",
    "bay": "2",
    "order_range": "far",
    "audit_share": Decimal("0.02"),
    "probabilities": {"bicycle": Decimal("0.04"), "motorcycle": Decimal("0.96")},
    **dict.fromkeys(("error", "reason", "reason_code")),
}


def outcome(decision: Decision) -> tuple[str | None, ...]:
    return (decision.status, decision.vehicle, decision.bay, decision.order_range)


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        ("motorcycle", ("ROUTED", "motorcycle", "2", "far")),
        ("bicycle", ("ROUTED", "bicycle", "1", "near")),
        ("neither", ("REJECTED", None, None, None)),
    ],
)
def test_an_audit_records_the_answer_and_can_be_undone(desk: Desk, answer: str, after: tuple[str | None, ...]) -> None:
    photo = put(desk, **ROUTED)
    decided = decide(desk, photo, answer)

    assert outcome(decided) == after
    assert (decided.revision, decided.reviewed_by) == (1, "ana")
    assert not decided.went_to_a_person  # because the model was sure

    undone = desk.undo(photo, review_id=decided.review_id or "", reviewer="ana")

    assert outcome(undone) == ("ROUTED", "motorcycle", "2", "far")
    assert (undone.needs_audit, undone.review_id, undone.reviewed_by, undone.label) == (True, None, None, None)
    assert outcome(decide(desk, photo, answer)) == after


def test_an_audited_photo_can_be_corrected_twice(desk: Desk) -> None:
    photo = put(desk, **ROUTED)
    decided = decide(desk, photo, "bicycle")
    for revision, answer in enumerate(("motorcycle", "neither"), 2):
        close(desk, photo)
        given = {"review_id": new_id(), "reviewer": "ben", "corrects": decided.review_id or ""}
        decided = desk.correct(photo, answer, **given)
        assert (decided.revision, decided.answer) == (revision, answer)


def test_audits_come_behind_the_photos_that_drivers_wait_for(desk: Desk) -> None:
    audited = put(desk, "sure.jpg", **ROUTED, due_at=1)
    waiting = put(desk, "unsure.jpg", due_at=2)

    held = hold(desk.table, "ana", have=(), skipped=(), want=2)

    assert [decision.photo for decision in held.photos] == [waiting, audited]
    assert held.waiting == 2
    assert hold(desk.table, "ben", have=(), skipped=(), want=2).photos == []


def test_a_routed_photo_that_is_not_audited_is_nobodys_to_decide(desk: Desk) -> None:
    photo = put(desk, **ROUTED | {"queue": None, "due_at": None})

    with pytest.raises(UnknownPhoto):
        decide(desk, photo)


# ------------------------------------------------------------------------------------------------- second opinions ---


@pytest.fixture
def asking(desk: Desk) -> Desk:
    """Return a desk where another person sees every decided photo."""
    return dataclasses.replace(desk, second_share=1)


def decided_by_ana(desk: Desk, answer: str = "bicycle", **record: Any) -> str:
    """Return a photo that ana has decided, and that was announced and now waits for another person."""
    photo = put(desk, f"{new_id()}.jpg", **record)
    decide(desk, photo, answer)
    second(desk, photo)
    return photo


def second(desk: Desk, photo: str) -> None:
    """Confirm the announcement of a decision like the workflow: it now needs a second opinion."""
    close(desk, photo)
    desk.table.dynamodb.update_item(
        TableName=TABLE,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET queue = :queue, due_at = :due_at",
        ExpressionAttributeValues={":queue": {"S": "SECOND#0"}, ":due_at": {"N": "1"}},
    )


def opinions(decision: Decision) -> list[tuple[str, str]]:
    return [(each.by, each.answer) for each in decision.opinions]


def test_the_share_for_a_second_opinion_is_noted_with_the_decision_and_forgotten_with_it(asking: Desk) -> None:
    photo = put(asking)

    decided = decide(asking, photo)
    undone = asking.undo(photo, review_id=decided.review_id or "", reviewer="ana")

    assert (decided.second_share, undone.second_share) == (1, None)


def test_the_draw_for_a_second_opinion_is_the_same_every_time_and_not_that_of_audits(desk: Desk) -> None:
    asking = dataclasses.replace(desk, second_share=0.05, salt="salt")
    photos = [f"s3://inbox/uploads/{number}.jpg#{number:032x}" for number in range(20_000)]

    drawn = [photo for photo in photos if asking.asks_again(photo)]

    assert len(drawn) / len(photos) == pytest.approx(0.05, rel=0.1)
    assert drawn == [photo for photo in photos if asking.asks_again(photo)]
    assert sum(is_drawn(photo, 0.05, "salt") for photo in drawn) / len(drawn) == pytest.approx(0.05, abs=0.03)
    assert not any(desk.asks_again(photo) for photo in photos)


def test_only_another_person_is_asked_after_all_other_photos(asking: Desk) -> None:
    photo = decided_by_ana(asking)
    audited, waiting = put(asking, "sure.jpg", **ROUTED), put(asking, "unsure.jpg")

    assert held(asking, "ana", want=3, have=(photo,)) == [waiting, audited]
    assert hold(asking.table, "ana", have=(), skipped=(), want=0).waiting == 2
    release(asking.table, "ana", [waiting, audited])
    assert held(asking, "ben", want=3) == [waiting, audited, photo]
    with pytest.raises(Conflict, match="you have decided this photo already"):
        decide(asking, photo, "motorcycle", by="ana")


def test_a_second_opinion_that_agrees_ends_it(asking: Desk) -> None:
    photo, opinion_id = decided_by_ana(asking), new_id()
    before = asking.table.get(photo)

    for _ in range(2):  # repeated, it counts once
        decided = decide(asking, photo, "bicycle", opinion_id, by="ben")

    assert opinions(decided) == [("ana", "bicycle"), ("ben", "bicycle")]
    assert (decided.is_disputed, decided.queue, decided.lease_by) == (False, None, None)
    assert before is not None
    assert (decided.reviewed_by, decided.review_id, decided.revision) == ("ana", before.review_id, 1)
    assert len(announced(asking)) == 1
    assert held(asking, "cem") == []
    with pytest.raises(Conflict):
        decide(asking, photo, "motorcycle", by="cem")


@pytest.mark.parametrize("answer", ["motorcycle", "neither"])
def test_a_third_person_settles_a_dispute_and_corrects_the_decision(asking: Desk, answer: str) -> None:
    photo, opinion_id = decided_by_ana(asking), new_id()
    disputed = decide(asking, photo, "motorcycle", by="ben")
    assert (disputed.is_disputed, disputed.answer, disputed.reviewed_by) == (True, "bicycle", "ana")
    assert held(asking, "ana") == held(asking, "ben") == []
    assert held(asking, "cem") == [photo]

    for _ in range(2):
        settled = decide(asking, photo, answer, opinion_id, by="cem")

    assert opinions(settled) == [("ana", "bicycle"), ("ben", "motorcycle"), ("cem", answer)]
    assert (settled.answer, settled.reviewed_by, settled.revision) == (answer, "cem", 2)
    assert settled.in_queue("OPEN")
    assert announced(asking)[1:] == [(photo, opinion_id)]
    assert settled.second_share is None  # so the correction is shown to nobody else
    with pytest.raises(Conflict, match="a correction cannot be undone"):
        asking.undo(photo, review_id=opinion_id, reviewer="cem")


def test_a_third_person_who_agrees_with_the_decision_changes_nothing(asking: Desk) -> None:
    photo = decided_by_ana(asking)
    decide(asking, photo, "motorcycle", by="ben")

    settled = decide(asking, photo, "bicycle", by="cem")

    assert (settled.answer, settled.reviewed_by, settled.revision, settled.queue) == ("bicycle", "ana", 1, None)
    assert len(settled.opinions) == 3
    assert len(announced(asking)) == 1


def test_an_opinion_can_be_undone_until_another_person_looks(asking: Desk) -> None:
    photo, opinion_id, again = decided_by_ana(asking), new_id(), new_id()
    decide(asking, photo, "bicycle", opinion_id, by="ben")

    for _ in range(2):
        undone = asking.undo(photo, review_id=opinion_id, reviewer="ben")

    assert (undone.opinions, undone.needs_opinion, undone.lease_by, undone.reviewed_by) == ((), True, "ben", "ana")
    with pytest.raises(Conflict, match="this opinion was undone"):
        decide(asking, photo, "bicycle", opinion_id, by="ben")
    decide(asking, photo, "motorcycle", again, by="ben")
    with pytest.raises(Conflict, match="the opinion is ben's"):
        asking.undo(photo, review_id=again, reviewer="cem")
    assert held(asking, "cem") == [photo]
    with pytest.raises(Conflict):
        asking.undo(photo, review_id=again, reviewer="ben")
    settled = decide(asking, photo, "bicycle", by="cem")
    assert opinions(settled)[1:] == [("ben", "motorcycle"), ("cem", "bicycle")]


def test_an_opinion_cannot_be_undone_later(asking: Desk) -> None:
    photo, opinion_id = decided_by_ana(asking), new_id()
    decided = decide(asking, photo, "motorcycle", opinion_id, by="ben")
    stored = [
        {"id": each.id, "by": each.by, "answer": each.answer, "at": "2026-11-25T10:00:00.000Z"}
        for each in decided.opinions
    ]
    asking.table.update(photo, {"opinions": stored}, decided_as(decided.review_id or ""))

    with pytest.raises(Conflict, match="too late to undo"):
        asking.undo(photo, review_id=opinion_id, reviewer="ben")


def test_a_correction_ends_the_wait_for_a_second_opinion(asking: Desk) -> None:
    photo = decided_by_ana(asking)
    found = asking.table.get(photo)
    assert found is not None

    given = {"review_id": new_id(), "reviewer": "ben", "corrects": found.review_id or ""}
    corrected = asking.correct(photo, "motorcycle", **given)

    assert (corrected.second_share, corrected.needs_opinion, corrected.revision) == (None, False, 2)
    with pytest.raises(Conflict):
        decide(asking, photo, "neither", by="cem")
