"""Deciding on the review page, in a real browser on the real stack: each answer counts once, whatever fails."""

import hashlib
import time
from functools import partial
from itertools import count

from playwright.sync_api import Page, Route, expect

from functions.decisions.chance import is_drawn
from loading_bay.operations.reviewers import Reviewer
from tests.e2e.pages import POLLING, SECOND_SHARE, Open, is_announced, is_decided, press, shown, sign_in, wait
from tests.integration.bay import Bay, picture, wait_for


def release(bay: Bay, key: str) -> None:
    """Let a person's leases end."""
    bay.dynamodb.update_item(
        TableName=bay.table,
        Key={"photo": {"S": bay.outcome(key).photo}},
        UpdateExpression="SET lease_until = :past",
        ExpressionAttributeValues={":past": {"N": "1"}},
    )


def answer_instead(page: Page, requests: str, status: int) -> None:
    """Answer the page's requests in place of the server; the browser takes a while to apply this."""
    page.route(requests, lambda route: route.fulfill(status=status, body="{}"))
    page.route("**/probe", lambda route: route.fulfill(status=204))
    page.wait_for_function("async () => (await fetch('probe')).status === 204", polling=POLLING)


def test_signed_in_a_person_decides_by_key_and_the_driver_is_notified_once(bay: Bay, open_as: Open) -> None:
    first, second, third = wait(bay, "driver-7/a.png", "driver-8/b.png", "driver-9/c.png")
    page = open_as("ana")

    assert shown(page) == "driver-7/a.png"
    expect(page.get_by_role("heading", name="driver-7")).to_be_visible()
    expect(page.locator("#scores")).to_contain_text("62 %")
    expect(page.locator("#counts")).to_contain_text("3 waiting")
    press(page, "2")
    expect(page.get_by_role("status")).to_have_text("Motorcycle: driver-7")
    press(page, "0")
    press(page, "1")

    expect(page.get_by_text("Nothing to review")).to_be_visible()
    for key in (first, second, third):
        wait_for(partial(is_announced, bay, key))
    outcomes = {key: bay.outcome(key) for key in (first, second, third)}
    assert [(each.status, each.vehicle, each.place) for each in outcomes.values()] == [
        ("ROUTED", "motorcycle", "2 (far)"),
        ("REJECTED", None, ""),
        ("ROUTED", "bicycle", "1 (near)"),
    ]
    assert {each.reviewed_by for each in outcomes.values()} == {"ana"}
    time.sleep(1)
    assert [event["detail-type"] for event in bay.announced(first)] == ["Photo Needs Review", "Vehicle Routed"]
    assert page.complaints == []  # type: ignore[attr-defined]


def test_undone_in_time_the_photo_is_back_and_nobody_was_told(bay: Bay, open_as: Open) -> None:
    (key, _) = wait(bay, "undo/a.png", "undo/b.png")
    page = open_as("ana")
    shown(page)
    press(page, "1")

    page.keyboard.press("u")

    expect(page.get_by_role("status")).to_have_text("Undone: undo is back in the queue")
    assert shown(page) == "undo/a.png"
    wait_for(lambda: bay.outcome(key).undone_ids)
    assert bay.outcome(key).status == "REVIEW"
    press(page, "2")
    # The time of the first decision ends before that of the second.
    wait_for(partial(is_announced, bay, key))
    assert [event["detail"].get("vehicle") for event in bay.announced(key)][1:] == ["motorcycle"]


def test_too_late_to_undo_a_decision_is_corrected_and_the_label_with_it(bay: Bay, open_as: Open) -> None:
    (key,) = wait(bay, "late/a.png")
    page = open_as("ana")
    shown(page)
    press(page, "1")
    wait_for(partial(is_announced, bay, key))
    wait_for(lambda: bay.outcome(key).label_etag)

    expect(page.get_by_role("button", name="Undo", exact=False)).to_have_count(0)
    page.keyboard.press("u")
    expect(page.get_by_role("status")).to_contain_text("Too late to undo")
    page.get_by_role("button", name="Correct: uploads/late/a.png").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("img", name="The photo")).to_be_visible()
    expect(dialog.get_by_role("button", name="Bicycle")).to_be_disabled()
    dialog.get_by_role("button", name="Motorcycle").click()

    revisions = wait_for(
        lambda: [event["detail"]["revision"] for event in bay.announced(key) if event["detail"]["revision"]][1:]
    )
    assert revisions == [2]
    wait_for(lambda: bay.outcome(key).label_etag)
    assert [each.rpartition("/")[0] for each in bay.labels(bay.outcome(key))] == ["labels/motorcycle"]


def test_audited_photos_come_last_without_the_answer_and_an_answer_that_agrees_is_not_announced(
    bay: Bay, open_as: Open
) -> None:
    agreed, corrected = (
        bay.upload(picture("red", "PNG", size=(500 + number, 400)), f"audited-{number}/a.png") for number in range(2)
    )
    for key in (agreed, corrected):
        wait_for(lambda key=key: any(each.in_queue("AUDIT") for each in bay.decisions(key)))  # type: ignore[misc]
        assert bay.outcome(key).vehicle == "bicycle"
    (unsure,) = wait(bay, "unsure/a.png")
    page = open_as("ana")

    assert shown(page) == unsure.removeprefix("uploads/")
    expect(page.locator("#scores")).to_contain_text("62 %")
    press(page, "1")
    answers = {agreed.removeprefix("uploads/"): "1", corrected.removeprefix("uploads/"): "2"}
    for _ in answers:
        key = shown(page)
        expect(page.locator("#scores")).not_to_contain_text("%")
        press(page, answers[key])

    expect(page.get_by_text("Nothing to review")).to_be_visible()
    wait_for(partial(is_announced, bay, corrected))
    events = [(event["detail"]["vehicle"], event["detail"].get("revision")) for event in bay.announced(corrected)]
    assert events == [("bicycle", 0), ("motorcycle", 1)]
    wait_for(lambda: bay.outcome(agreed).label_etag)
    assert len(bay.announced(agreed)) == 1
    assert [bay.outcome(key).reviewed_by for key in (agreed, corrected)] == ["ana", "ana"]
    labels = [each.rpartition("/")[0] for key in (agreed, corrected) for each in bay.labels(bay.outcome(key))]
    assert labels == ["labels/bicycle", "labels/motorcycle"]


def test_a_second_and_a_third_person_see_a_decided_photo_without_the_answers(bay: Bay, open_as: Open) -> None:
    data = picture("grey", "PNG", size=(620, 410))
    etag, salt = hashlib.md5(data, usedforsecurity=False).hexdigest(), bay.stack.outputs["StackId"]
    names = (f"second/{number}.png" for number in count())
    photos = ((name, f"second s3://{bay.bucket}/uploads/{name}#{etag}") for name in names)
    name = next(name for name, photo in photos if is_drawn(photo, SECOND_SHARE, salt))
    (key,) = wait(bay, name, data=data)
    ana, ben, eve = open_as("ana"), open_as("ben"), open_as("eve")
    assert shown(ana) == name
    press(ana, "1")
    wait_for(lambda: bay.outcome(key).needs_opinion)

    for person in (ben, eve):
        assert shown(person) == name
        expect(person.locator("#scores")).not_to_contain_text("%")
        expect(person.locator("#recent")).not_to_contain_text(name)
        expect(person.locator("#beside-title")).to_have_text("No other photos of this driver today")
        press(person, "2")
        expect(person.get_by_text("Nothing to review")).to_be_visible()
        wait_for(lambda person=person: len(bay.outcome(key).opinions) == (2 if person is ben else 3))  # type: ignore[misc]

    expect(ana.get_by_text("Nothing to review")).to_be_visible()
    events = wait_for(lambda: told if len(told := bay.announced(key)) == 3 else None)
    details = [event["detail"] for event in events[1:]]
    assert [(each["vehicle"], each["revision"], each["reviewed_by"]) for each in details] == [
        ("bicycle", 1, "ana"),
        ("motorcycle", 2, "eve"),
    ]
    expect(ben.get_by_role("button", name="Undo", exact=False)).to_have_count(0)
    expect(ben.locator("#recent")).to_contain_text("Motorcycle")
    expect(ben.get_by_role("button", name="Correct", exact=False)).to_have_count(0)  # it was an opinion only


def test_two_people_get_different_photos_and_one_of_two_decisions_counts(bay: Bay, open_as: Open) -> None:
    keys = wait(bay, *(f"two/{number}.png" for number in range(6)))
    ana, ben = open_as("ana"), open_as("ben")
    assert shown(ana) == "two/0.png"
    assert shown(ben) == "two/4.png"
    expect(ben.locator("#colleagues")).to_have_text("ana has 4")
    # When ana's lease has ended, ben gets her photo too, and is quicker
    release(bay, keys[0])
    press(ben, "1")
    press(ben, "1")
    assert shown(ben) == "two/0.png"
    press(ben, "2")
    wait_for(partial(is_decided, bay, keys[0]))

    ana.keyboard.press("1")

    expect(ana.get_by_role("status")).to_have_text("Not accepted: ben has decided: motorcycle.")
    assert bay.outcome(keys[0]).reviewed_by == "ben"


def test_when_the_session_ends_nothing_is_lost(bay: Bay, open_as: Open, people: dict[str, Reviewer]) -> None:
    (key, _) = wait(bay, "session/a.png", "session/b.png")
    page = open_as("ana")
    shown(page)
    # Given a token that the API no longer accepts, and no token to renew it with
    page.evaluate("() => sessionStorage.removeItem('refresh')")
    answer_instead(page, "**/api/**", 401)

    page.keyboard.press("2")

    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    assert bay.outcome(key).status == "REVIEW"
    page.unroute("**/api/**")
    page.get_by_role("button", name="Sign in").click()
    sign_in(page, people["ana"])
    wait_for(partial(is_decided, bay, key))
    assert bay.outcome(key).vehicle == "motorcycle"
    assert shown(page) == "session/b.png"


def test_offline_answers_are_kept_and_sent_once(bay: Bay, open_as: Open) -> None:
    (key, other) = wait(bay, "offline/a.png", "offline/b.png")
    page = open_as("ana")
    shown(page)
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)

    press(page, "1")
    expect(page.get_by_role("alert")).to_contain_text("1 answer will be sent")
    assert bay.outcome(key).status == "REVIEW"
    assert shown(page) == "offline/b.png"
    page.context.set_offline(False)

    wait_for(partial(is_announced, bay, key))
    expect(page.get_by_role("alert")).to_be_hidden()
    assert bay.outcome(other).status == "REVIEW"
    assert len([event for event in bay.announced(key) if event["detail"].get("reviewed_by")]) == 1


def test_a_decision_made_while_the_page_asks_for_photos_is_sent(bay: Bay, open_as: Open) -> None:
    first, second = wait(bay, "asking/a.png", "asking/b.png")
    page = open_as("ana")
    shown(page)
    page.wait_for_load_state("networkidle")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/queue", hold)
    page.keyboard.press("1")
    wait_for(partial(is_decided, bay, first))
    page.wait_for_function("() => document.body.dataset.photo.includes('asking/b.png')", polling=POLLING)
    wait_for(lambda: page.evaluate("() => 0") or held)  # a call lets the browser report its requests

    page.keyboard.press("2")

    wait_for(lambda: page.evaluate("() => 0") or is_decided(bay, second))
    assert bay.outcome(second).vehicle == "motorcycle"
    for each in held:
        each.continue_()


def test_undone_offline_a_decision_counts_for_nothing(bay: Bay, open_as: Open) -> None:
    (key, _) = wait(bay, "undone/a.png", "undone/b.png")
    page = open_as("ana")
    shown(page)
    page.wait_for_load_state("networkidle")
    page.context.set_offline(True)
    press(page, "1")
    assert shown(page) == "undone/b.png"

    press(page, "u")

    assert shown(page) == "undone/a.png"
    page.context.set_offline(False)
    wait_for(lambda: bay.outcome(key).undone_ids)
    expect(page.get_by_role("alert")).to_be_hidden()
    assert bay.outcome(key).status == "REVIEW"
    press(page, "2")
    wait_for(partial(is_announced, bay, key))
    assert [event["detail"].get("vehicle") for event in bay.announced(key)][1:] == ["motorcycle"]


def test_answers_that_one_person_left_unsent_are_not_sent_in_another_s_name(
    bay: Bay, open_as: Open, people: dict[str, Reviewer]
) -> None:
    (key,) = wait(bay, "owner/a.png")
    page = open_as("ana")
    shown(page)
    # Given an answer of ana's that could not be sent before her session ended
    page.route("**/api/**", lambda route: route.abort())
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("1 answer will be sent")
    page.evaluate("() => sessionStorage.setItem('refresh', 'expired')")
    page.on("dialog", lambda dialog: dialog.accept())
    page.unroute("**/api/**")
    page.context.clear_cookies()
    release(bay, key)
    page.reload()

    sign_in(page, people["ben"])

    expect(page.get_by_role("alert").filter(has_text="ana left 1 answer unsent")).to_be_visible()
    assert shown(page) == "owner/a.png"
    assert bay.outcome(key).reviewed_by is None
    page.get_by_role("button", name="OK").click()
    press(page, "2")
    wait_for(partial(is_decided, bay, key))
    assert (bay.outcome(key).vehicle, bay.outcome(key).reviewed_by) == ("motorcycle", "ben")


def test_a_reload_keeps_a_person_signed_in_and_sends_pending_answers(bay: Bay, open_as: Open) -> None:
    (key, _) = wait(bay, "reload/a.png", "reload/b.png")
    page = open_as("ana")
    shown(page)
    page.route("**/api/decide", lambda route: route.abort())
    press(page, "1")
    page.on("dialog", lambda dialog: dialog.accept())
    page.unroute("**/api/decide")

    page.reload()

    assert shown(page) == "reload/b.png"
    wait_for(partial(is_announced, bay, key))
    assert bay.outcome(key).reviewed_by == "ana"
