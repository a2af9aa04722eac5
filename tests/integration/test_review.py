"""People's decisions on the real stack: strangers are refused, and each decision is announced once."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from functions.decisions.classes import NEITHER, parse_classes
from functions.decisions.decision import Decision
from functions.decisions.reviews import Desk
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto
from loading_bay.local.stack import Stack
from loading_bay.operations.erase import Erasure
from loading_bay.operations.reviewers import Reviewer, add_reviewer, remove_reviewer, reviewers

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, scores
from .reviewing import ReviewApi, changed, unsigned

CLASSES = parse_classes("bicycle:1:near,motorcycle:2:far")
SINCE = "2026-11-25T00:00:00Z"
CALLS = ("queue", "picture", "beside", "decide", "undo")


@pytest.fixture(scope="module")
def api(bay: Bay) -> ReviewApi:
    return ReviewApi(bay.stack)


@pytest.fixture(scope="module")
def ana(bay: Bay) -> Reviewer:
    return add_reviewer(bay.stack.deployed, "ana", "ana@example.com")


@pytest.fixture(scope="module")
def token(api: ReviewApi, ana: Reviewer) -> str:
    return api.tokens(ana)["access_token"]


@pytest.fixture
def desk(bay: Bay) -> Desk:
    return desk_of(bay.stack)


def desk_of(stack: Stack) -> Desk:
    table = DecisionsTable(stack.client("dynamodb"), stack.outputs["DecisionsTable"])
    return Desk(table, stack.client("stepfunctions"), stack.outputs["AnnounceReviewArn"], CLASSES)


def waiting(bay: Bay, name: str | None = None, size: tuple[int, int] | None = None) -> tuple[str, str]:
    """Upload a photo that the model is unsure of; return its key and its name in the table."""
    number = uuid.uuid4().int
    key = bay.upload(picture("grey", size=size or (40 + number % 400, 40 + number // 400 % 400)), name)
    wait_for(partial(bay.waits, key))
    return key, bay.outcome(key).photo


def told(bay: Bay, key: str) -> list[dict[str, Any]]:
    """Return the announcements of a person's decisions about a photo."""
    return [event["detail"] for event in bay.announced(key) if "reviewed_by" in event["detail"]]


def settled(bay: Bay, *photos: str) -> None:
    """Wait until these photos are finished."""
    for photo in photos:
        wait_for(partial(_is_settled, bay, photo))


def _is_settled(bay: Bay, photo: str) -> bool:
    decision = stored(bay, photo)
    return decision.reviewed_by is not None and decision.queue is None


def stored(bay: Bay, photo: str) -> Decision:
    """Return a photo's record by its name in the table."""
    found = DecisionsTable(bay.dynamodb, bay.table).get(photo)
    assert found
    return found


# ------------------------------------------------------------------------------------------------------- strangers ---


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda token: None,
        lambda token: "nonsense",
        lambda token: "",
        lambda token: changed(token, username="root"),
        lambda token: changed(token, exp=int(time.time()) + 99_999),
        unsigned,
        lambda token: unsigned(token, username="root"),
        lambda token: token[:-2],
    ],
    ids=["none", "nonsense", "empty", "another name", "longer", "alg none", "alg none and another name", "cut"],
)
def test_without_a_signed_token_nothing_is_revealed(
    api: ReviewApi, token: str, spoilt: Callable[[str], str | None]
) -> None:
    for name in CALLS:
        assert api.call(name, {"since": SINCE}, spoilt(token))[0] == 401


def test_another_client_s_token_is_refused(api: ReviewApi, ana: Reviewer) -> None:
    another = api.cognito.create_user_pool_client(
        UserPoolId=api.pool,
        ClientName="another",
        AllowedOAuthFlowsUserPoolClient=True,
        AllowedOAuthFlows=["code"],
        AllowedOAuthScopes=["review/decide"],
        CallbackURLs=[api.url],
        SupportedIdentityProviders=["COGNITO"],
    )["UserPoolClient"]["ClientId"]

    foreign = api.tokens(ana, client_id=another)["access_token"]

    assert api.call("queue", {"since": SINCE}, foreign)[0] == 401


def test_a_refresh_token_opens_nothing(api: ReviewApi, ana: Reviewer) -> None:
    assert api.call("queue", {"since": SINCE}, api.tokens(ana)["refresh_token"])[0] in {401, 403}


def test_a_refreshed_token_is_as_good_as_the_first(api: ReviewApi, ana: Reviewer) -> None:
    refreshed = api.refreshed(api.tokens(ana)["refresh_token"])

    assert api.call("queue", {"since": SINCE}, refreshed)[0] == 200


def test_an_expired_token_opens_nothing(api: ReviewApi, ana: Reviewer) -> None:
    described = api.cognito.describe_user_pool_client(UserPoolId=api.pool, ClientId=api.client_id)["UserPoolClient"]
    kept = {
        name: described[name]
        for name in (
            "AllowedOAuthFlowsUserPoolClient",
            "AllowedOAuthFlows",
            "AllowedOAuthScopes",
            "CallbackURLs",
            "SupportedIdentityProviders",
            "AccessTokenValidity",
            "TokenValidityUnits",
        )
    }
    update = partial(api.cognito.update_user_pool_client, UserPoolId=api.pool, ClientId=api.client_id)
    units = kept["TokenValidityUnits"] | {"AccessToken": "seconds"}
    update(**kept | {"AccessTokenValidity": 2, "TokenValidityUnits": units})
    try:
        short = api.tokens(ana)["access_token"]
    finally:
        update(**kept)
    assert api.call("queue", {"since": SINCE}, short)[0] == 200

    time.sleep(2.5)

    assert api.call("queue", {"since": SINCE}, short)[0] == 401


def test_a_user_without_the_group_sees_nothing(bay: Bay, api: ReviewApi) -> None:
    eve = add_reviewer(bay.stack.deployed, "eve", "eve@example.com")
    api.cognito.admin_remove_user_from_group(UserPoolId=api.pool, Username="eve", GroupName="reviewers")
    _, photo = waiting(bay)

    outsider = api.tokens(eve)["access_token"]

    for name in CALLS:
        status, answer = api.call(name, {"since": SINCE, "photo": photo}, outsider)
        assert (status, answer["message"]) == (403, "eve is not in the group reviewers")


def test_a_photo_that_was_never_in_review_stays_private(bay: Bay, api: ReviewApi, token: str) -> None:
    key = bay.upload(picture("red", size=(91, 37)))
    photo = bay.outcome(key).photo

    for name, body in [
        ("picture", {"photo": photo}),
        ("decide", {"photo": photo, "answer": "bicycle", "review_id": str(uuid.uuid4())}),
        ("undo", {"photo": photo, "review_id": str(uuid.uuid4())}),
        ("picture", {"photo": f"s3://{bay.bucket}/labels/x#{'0' * 32}"}),
        ("picture", {"photo": "../../etc/passwd"}),
        ("beside", {"photo": photo}),
    ]:
        assert api.call(name, body, token)[0] == 404


def test_reviewers_are_added_listed_and_removed(bay: Bay, api: ReviewApi) -> None:
    carl = add_reviewer(bay.stack.deployed, "carl", "carl@example.com")
    assert api.call("queue", {"since": SINCE}, api.tokens(carl)["access_token"])[0] == 200
    assert "carl" in {each.name for each in reviewers(bay.stack.deployed)}

    remove_reviewer(bay.stack.deployed, "carl")

    assert "carl" not in {each.name for each in reviewers(bay.stack.deployed)}
    with pytest.raises(KeyError):
        api.tokens(carl)


# --------------------------------------------------------------------------------------------------- exactly once ---


def test_one_of_forty_concurrent_decisions_about_a_photo_counts(bay: Bay, api: ReviewApi, token: str) -> None:
    key, photo = waiting(bay)
    ids = [str(uuid.uuid4()) for _ in range(20)] * 2

    def decide(review_id: str) -> tuple[str, int]:
        answer = "bicycle" if int(review_id[0], 16) % 2 else "motorcycle"
        body = {"photo": photo, "answer": answer, "review_id": review_id}
        while (status := api.call("decide", body, token)[0]) >= 500:
            pass  # a function took too long to start on a busy machine, and the page tries again as well
        return review_id, status

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(decide, ids))

    won = {review_id for review_id, status in answers if status == 200}
    assert len(won) == 1
    assert Counter(status for _, status in answers) == {200: 2, 409: 38}
    settled(bay, photo)
    assert [detail["review_id"] for detail in told(bay, key)] == list(won)


def test_twenty_photos_decided_twice_concurrently_are_announced_once_each(bay: Bay, desk: Desk) -> None:
    photos = dict(waiting(bay) for _ in range(20))
    sent = [(photo, str(uuid.uuid4())) for photo in photos.values()] * 2

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda each: desk.decide(each[0], "bicycle", review_id=each[1], reviewer="ana"), sent))

    settled(bay, *photos.values())
    assert [len(told(bay, key)) for key in photos] == [1] * 20


def test_a_decision_that_was_undone_never_counts_again(bay: Bay, desk: Desk) -> None:
    _, photo = waiting(bay)

    for review_id in [undone(desk, photo) for _ in range(3)]:
        with pytest.raises(Conflict, match="was undone"):
            desk.decide(photo, "bicycle", review_id=review_id, reviewer="ana")


def test_one_id_for_two_photos_delays_neither(bay: Bay, desk: Desk) -> None:
    (_, first), (_, second) = waiting(bay), waiting(bay)
    review_id = str(uuid.uuid4())

    for photo in (first, second):
        desk.decide(photo, "bicycle", review_id=review_id, reviewer="ana")

    settled(bay, first, second)


def test_the_event_has_the_decision_without_attributes_for_the_table(bay: Bay, desk: Desk) -> None:
    key, photo = waiting(bay)
    undone(desk, photo)
    desk.decide(photo, "motorcycle", review_id=str(uuid.uuid4()), reviewer="ana")
    settled(bay, photo)

    (detail,) = told(bay, key)

    unsure, routed = (event for event in bay.announced(key))
    assert (unsure["detail-type"], routed["detail-type"]) == ("Photo Needs Review", "Vehicle Routed")
    assert {name: detail[name] for name in ("status", "vehicle", "bay", "order_range", "revision", "reason")} == {
        "status": "ROUTED",
        "vehicle": "motorcycle",
        "bay": "2",
        "order_range": "far",
        "revision": 1,
        "reason": "",
    }
    assert detail["claim"] == unsure["detail"]["claim"]
    assert detail["scores"] == unsure["detail"]["scores"]
    assert not {"queue", "due_at", "expires_at", "lease_by", "reviewed_on", "undone_ids", "label"} & set(detail)


def test_what_the_endpoint_found_goes_with_every_announcement(bay: Bay, endpoint: Endpoint, desk: Desk) -> None:
    box = {"left": 0.25, "top": 0.1, "right": 0.75, "bottom": 0.9}
    found = {"score": 0.8, "counts": {"bicycle": 1, "motorcycle": 1}, "reason_code": "SEVERAL_VEHICLES"}
    with endpoint.answering(lambda body: scores(0.5, 0.5, found=found | {"box": list(box.values())})):
        key, photo = waiting(bay)
    desk.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="ana")
    settled(bay, photo)

    announced = wait_for(lambda: events if len(events := bay.announced(key)) == 2 else None)

    assert [event["detail"]["detection"] for event in announced] == [found | {"box": box}] * 2


def test_what_a_function_did_not_live_to_announce_is_announced_by_whoever_starts_it_again(bay: Bay, desk: Desk) -> None:
    key, photo = waiting(bay)
    review_id = str(uuid.uuid4())
    silent(desk).decide(photo, "bicycle", review_id=review_id, reviewer="ana")
    assert bay.outcome(key).queue is not None

    run = partial(
        bay.sfn.start_execution,
        stateMachineArn=desk.workflow,
        input=f'{{"photo": "{photo}", "review_id": "{review_id}"}}',
    )
    run()
    settled(bay, photo)
    bay.ended(run()["executionArn"])

    assert len(told(bay, key)) == 1


class Unreachable:
    """Step Functions, unreachable."""

    def start_execution(self, **arguments: Any) -> None:
        raise ClientError({"Error": {"Code": "ServiceUnavailable", "Message": ""}}, "StartExecution")


def silent(desk: Desk) -> Desk:
    """Return the same desk, except that it cannot start announcements."""
    return Desk(desk.table, Unreachable(), desk.workflow, desk.classes)


def undone(desk: Desk, photo: str) -> str:
    """Decide and undo before anything is announced (this stack's waits end immediately); return the id."""
    review_id = str(uuid.uuid4())
    silent(desk).decide(photo, "bicycle", review_id=review_id, reviewer="ana")
    desk.undo(photo, review_id=review_id, reviewer="ana")
    return review_id


# --------------------------------------------------------------------------------------------------------- labels ---


def test_the_label_is_the_decided_photo_even_if_it_was_overwritten_since(bay: Bay, desk: Desk) -> None:
    key, photo = waiting(bay, size=(321, 123))
    version = bay.s3.head_object(Bucket=bay.bucket, Key=key)["VersionId"]
    # On the local AWS, events name no version; on AWS they do.
    bay.dynamodb.update_item(
        TableName=bay.table,
        Key={"photo": {"S": photo}},
        UpdateExpression="SET version_id = :version",
        ExpressionAttributeValues={":version": {"S": version}},
    )
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("blue"))

    desk.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="ana")
    settled(bay, photo)

    (label,) = bay.labels(stored(bay, photo))
    assert label.startswith("labels/bicycle/")
    assert bay.s3.get_object(Bucket=bay.bucket, Key=label)["Body"].read() == picture("grey", size=(321, 123))


def test_without_a_version_a_changed_photo_is_not_a_label(bay: Bay, desk: Desk) -> None:
    key, photo = waiting(bay)
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("grey", size=(17, 18)))

    desk.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="ana")

    settled(bay, photo)
    assert len(told(bay, key)) == 1
    assert bay.labels(stored(bay, photo)) == []


@pytest.mark.parametrize("name", ["a b+c&d=é.jpg", "100%.jpg", "sub/dir/#1?.jpg", f"{'x' * 200}.jpg"])
def test_any_name_becomes_a_label(bay: Bay, desk: Desk, name: str) -> None:
    key, photo = waiting(bay, name)

    desk.decide(photo, "neither", review_id=str(uuid.uuid4()), reviewer="ana")
    settled(bay, photo)

    label = bay.outcome(key).label or ""
    assert label.startswith(f"labels/{NEITHER}/")
    bay.s3.head_object(Bucket=bay.bucket, Key=label)


def test_nobody_decides_a_photo_that_ana_holds(bay: Bay, api: ReviewApi, token: str, desk: Desk) -> None:
    _, photo = waiting(bay)
    _, answer = api.call("queue", {"want": 8, "since": SINCE}, token)
    mine = [each["photo"] for each in answer["photos"]]
    assert photo in mine or len(mine) == 8

    with pytest.raises(Conflict, match="ana is looking at this photo"):
        desk.decide(mine[0], "bicycle", review_id=str(uuid.uuid4()), reviewer="ben")


# ------------------------------------------------------------------------------------------------- second opinions ---


@pytest.fixture
def asking(desk: Desk) -> Desk:
    """Return a desk where another person sees every decided photo."""
    return replace(desk, second_share=1)


def waits_for_another(bay: Bay, asking: Desk, name: str | None = None) -> tuple[str, str]:
    """Let ana decide a new photo for a bicycle, and wait until another person may see it; return key and name."""
    key, photo = waiting(bay, name)
    asking.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="ana")
    wait_for(lambda: stored(bay, photo).needs_opinion)
    return key, photo


def answered(opinion: Decision) -> list[tuple[str, str]]:
    return [(each.by, each.answer) for each in opinion.opinions]


def test_another_person_s_opinion_is_stored_with_the_decision_and_tells_nobody(
    bay: Bay, api: ReviewApi, token: str, asking: Desk
) -> None:
    ben = add_reviewer(bay.stack.deployed, "ben", "ben@example.com")
    bens = api.tokens(ben)["access_token"]
    key, photo = waits_for_another(bay, asking)
    assert [detail["revision"] for detail in told(bay, key)] == [1]
    assert not {"second_share", "opinions"} & told(bay, key)[0].keys()
    assert api.call("queue", {"want": 8, "since": SINCE}, token)[1]["photos"] == []

    _, found = api.call("queue", {"want": 8, "since": SINCE}, bens)
    given = {"photo": photo, "answer": "bicycle", "review_id": str(uuid.uuid4())}
    status, _ = api.call("decide", given, bens)

    assert [(each["photo"], each["scores"]) for each in found["photos"]] == [(photo, {})]
    decided = stored(bay, photo)
    assert (status, answered(decided)) == (200, [("ana", "bicycle"), ("ben", "bicycle")])
    assert (decided.reviewed_by, decided.revision, decided.queue) == ("ana", 1, None)
    assert decided.opinions[1].at > decided.opinions[0].at
    assert len(told(bay, key)) == 1


def test_a_third_person_corrects_a_disputed_decision_as_its_next_revision(bay: Bay, asking: Desk) -> None:
    key, photo = waits_for_another(bay, asking)
    asking.decide(photo, "motorcycle", review_id=str(uuid.uuid4()), reviewer="ben")
    assert (stored(bay, photo).answer, stored(bay, photo).needs_opinion) == ("bicycle", True)

    asking.decide(photo, "motorcycle", review_id=str(uuid.uuid4()), reviewer="cem")

    settled(bay, photo)
    decided = stored(bay, photo)
    assert answered(decided) == [("ana", "bicycle"), ("ben", "motorcycle"), ("cem", "motorcycle")]
    assert (decided.reviewed_by, decided.revision, decided.place) == ("cem", 2, "2 (far)")
    events = [(each["vehicle"], each["revision"], each["reviewed_by"]) for each in told(bay, key)]
    assert events == [("bicycle", 1, "ana"), ("motorcycle", 2, "cem")]
    (label,) = bay.labels(decided)
    assert label.startswith("labels/motorcycle/")


def test_a_third_person_who_agrees_with_the_decision_tells_nobody(bay: Bay, asking: Desk) -> None:
    key, photo = waits_for_another(bay, asking)
    asking.decide(photo, "neither", review_id=str(uuid.uuid4()), reviewer="ben")

    decided = asking.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="cem")

    assert (decided.answer, decided.queue, len(decided.opinions)) == ("bicycle", None, 3)
    assert len(told(bay, key)) == 1


def test_a_driver_is_erased_while_a_photo_waits_for_a_second_opinion(bay: Bay, asking: Desk) -> None:
    key, photo = waits_for_another(bay, asking, "driver-erased/1.jpg")

    Erasure(bay.stack.deployed, "driver-erased", captures=None, exported=()).run(dry_run=False)

    assert asking.table.get(photo) is None
    assert bay.s3.list_objects_v2(Bucket=bay.bucket, Prefix=key)["KeyCount"] == 0
    with pytest.raises(UnknownPhoto):
        asking.decide(photo, "bicycle", review_id=str(uuid.uuid4()), reviewer="ben")


@pytest.fixture(autouse=True)
def emptied(bay: Bay) -> Iterator[None]:
    """Leave no waiting photos to the next test."""
    yield
    for decision in bay.all_decisions():
        if decision.waits:
            bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": {"S": decision.photo}})
