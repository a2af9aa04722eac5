"""The review page in a real browser, on the real stack: a person signs in and decides about photos."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect, sync_playwright

from functions.decisions.chance import is_drawn
from loading_bay.local.stack import Options, Stack
from loading_bay.operations.reviewers import Reviewer, add_reviewer
from loading_bay.stack.template import ROOT
from tests.integration.bay import Bay, picture, wait_for
from tests.integration.endpoint import Endpoint, by_colour, scores

PHOTOS = ROOT / "events" / "photos"
FOUND = {"box": [0.25, 0.1, 0.75, 0.5], "score": 0.7, "counts": {"bicycle": 1}, "reason_code": "TOO_SMALL"}
MARKUP = '"><img src=x onerror=document.title=1>\u202egpj.png'
SECOND_SHARE = 0.00001  # so only a photo is drawn whose name was sought for it
PATIENCE = 90_000  # milliseconds: on a busy machine a function takes long to start
# Milliseconds between two looks at a waiting page; by default, Playwright looks at every frame.
POLLING = 200
Open = Callable[..., Page]

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def bay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    """Return a stack whose model is sure of red photos alone; each of these is audited."""
    endpoint = Endpoint()
    unsure = by_colour(picture("grey")).body
    endpoint.answer = lambda body: (
        scores(0.62, 0.38, found=FOUND) if by_colour(body).body == unsure else by_colour(body)
    )
    parameters = {"AuditShare": "1", "SecondOpinionShare": f"{SECOND_SHARE:f}"}
    options = Options(endpoint_url=endpoint.url, parameters=parameters)
    stack = Stack.up(tmp_path_factory.mktemp("stack"), options, say=print)
    yield Bay(stack)
    stack.down()
    endpoint.close()


@pytest.fixture(scope="module")
def people(bay: Bay) -> dict[str, Reviewer]:
    deployed = bay.stack.deployed
    return {name: add_reviewer(deployed, name, f"{name}@example.com") for name in ("ana", "ben", "eve")}


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    # Chromium does not run its sandbox as root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def contexts(browser: Browser) -> Iterator[list[BrowserContext]]:
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        context.close()


@pytest.fixture
def open_as(bay: Bay, people: dict[str, Reviewer], browser: Browser, contexts: list[BrowserContext]) -> Open:
    """Open the page in a new browser context, and sign in."""

    def open_as(name: str, *, clock: bool = False, **settings: Any) -> Page:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        if clock:
            page.clock.install()
        page.set_default_timeout(PATIENCE)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.complaints = complaints  # type: ignore[attr-defined]
        page.goto(bay.stack.outputs["ReviewUrl"])
        sign_in(page, people[name])
        return page

    return open_as


@pytest.fixture(autouse=True)
def empty_queue(bay: Bay) -> Iterator[None]:
    """Leave no waiting photos to the next test."""
    yield
    for decision in bay.all_decisions():
        bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": {"S": decision.photo}})


def sign_in(page: Page, person: Reviewer) -> None:
    page.wait_for_url("**/oauth2/authorize*")
    page.fill("input[name=username]", person.name)
    page.fill("input[name=password]", person.password or "")
    page.press("input[name=password]", "Enter")
    page.wait_for_function("() => !['starting', undefined].includes(document.body.dataset.state)", polling=POLLING)


def wait(bay: Bay, *names: str, data: bytes | None = None) -> list[str]:
    """Upload photos that the model is unsure of; return their keys, the oldest first."""
    keys = []
    for number, name in enumerate(names):
        # All different, because a photo's content is part of its name.
        keys.append(bay.upload(data or picture("grey", "PNG", size=(600 + number, 400)), name))
        wait_for(partial(bay.waits, keys[-1]))
    return keys


def shown(page: Page) -> str:
    """Wait for a picture; return the key of the photo on screen."""
    page.wait_for_function(
        "() => document.body.dataset.photo && document.querySelector('#picture img').naturalWidth", polling=POLLING
    )
    return str(page.evaluate("() => document.body.dataset.photo")).partition("/uploads/")[2].rpartition("#")[0]


def press(page: Page, key: str) -> None:
    """Press a key that decides or skips, and wait for the next photo or for the end."""
    before = page.evaluate("() => document.body.dataset.photo")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.body.dataset.state === 'empty'"
        " || (document.body.dataset.photo && document.body.dataset.photo !== before)",
        arg=before,
        polling=POLLING,
    )


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


def focused(page: Page) -> str:
    """Return the text of the focused element, without its key."""
    return str(page.evaluate("() => document.activeElement.firstChild?.textContent"))


def is_decided(bay: Bay, key: str) -> bool:
    return bay.outcome(key).status != "REVIEW"


def is_announced(bay: Bay, key: str) -> bool:
    return any(event["detail"].get("reviewed_by") for event in bay.announced(key))


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


def test_the_place_that_the_model_looked_at_is_framed(bay: Bay, open_as: Open) -> None:
    wait(bay, "framed/a.png", data=picture("grey", "PNG", size=(300, 500)))
    page = open_as("ana")
    shown(page)

    across, down = page.evaluate(
        """() => {
          const [image, frame] = ['img', 'rect'].map((name) => document.querySelector(`#picture ${name}`));
          const [shown, framed] = [image, frame].map((each) => each.getBoundingClientRect());
          const scale = Math.min(shown.width / image.naturalWidth, shown.height / image.naturalHeight);
          const [width, height] = [scale * image.naturalWidth, scale * image.naturalHeight];
          const left = shown.left + (shown.width - width) / 2, top = shown.top + (shown.height - height) / 2;
          return [
            [(framed.left - left) / width, (framed.right - left) / width],
            [(framed.top - top) / height, (framed.bottom - top) / height],
          ];
        }"""
    )

    assert [*across, *down] == pytest.approx([0.25, 0.75, 0.1, 0.5], abs=0.01)
    expect(page.get_by_text("The vehicle is small in the photo.")).to_be_visible()
    press(page, "1")


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


def test_a_skipped_photo_comes_back_last(bay: Bay, open_as: Open) -> None:
    wait(bay, "skip/a.png", "skip/b.png", "skip/c.png")
    page = open_as("ana")
    shown(page)

    press(page, "s")
    assert shown(page) == "skip/b.png"
    press(page, "1")
    assert shown(page) == "skip/c.png"
    press(page, "1")
    assert shown(page) == "skip/a.png"


def test_an_empty_queue_fills_automatically(bay: Bay, open_as: Open) -> None:
    page = open_as("ana")
    expect(page.get_by_text("Nothing to review")).to_be_visible()

    wait(bay, "later/a.png")

    assert shown(page) == "later/a.png"


def test_keys_count_only_alone_and_can_be_turned_off(bay: Bay, open_as: Open) -> None:
    wait(bay, "keys/a.png", "keys/b.png")
    page = open_as("ana")
    shown(page)
    for chord in ("Control+1", "Alt+1", "Meta+1", "Control+u", "x", "9"):
        page.keyboard.press(chord)
    page.get_by_role("switch", name="Keys").uncheck()
    page.keyboard.press("1")
    time.sleep(0.5)
    assert shown(page) == "keys/a.png"
    page.reload()
    assert not page.locator("#shortcuts").is_checked()


def test_with_the_tab_key_alone_a_person_decides_and_the_focus_stays(bay: Bay, open_as: Open) -> None:
    (key, _) = wait(bay, "tab/a.png", "tab/b.png")
    page = open_as("ana")
    shown(page)
    for _ in range(12):
        page.keyboard.press("Tab")
        if focused(page) == "Bicycle":
            break

    page.keyboard.press("Enter")

    wait_for(partial(is_decided, bay, key))
    assert shown(page) == "tab/b.png"
    assert focused(page) == "Bicycle"


@pytest.mark.parametrize("name", ["motorcycle-right.heic", "bicycle-near.avif", "motorcycle-portrait.webp"])
def test_every_format_from_phones_is_shown(bay: Bay, open_as: Open, name: str) -> None:
    wait(bay, name, data=(PHOTOS / name).read_bytes())

    page = open_as("ana")

    assert shown(page) == name
    stage, picture = (page.locator(each).bounding_box() for each in ("#stage", "#picture img"))
    assert stage == picture  # a picture of any shape is fully visible in it


def test_a_name_of_markup_is_text(bay: Bay, open_as: Open) -> None:
    wait(bay, f"evil/{MARKUP}")
    page = open_as("ana")
    shown(page)

    expect(page.locator("#name")).to_contain_text('"><img src=x onerror=document.title=1>\\u{202e}gpj.png')
    press(page, "1")
    expect(page.locator("#recent")).to_contain_text("\\u{202e}")
    assert "Review" in page.title()
    assert page.locator("img").count() == 0
    assert page.complaints == []  # type: ignore[attr-defined]


def test_the_policy_lets_no_text_become_markup(bay: Bay, open_as: Open) -> None:
    page = open_as("ana")

    for attempt in (
        "() => { document.body.innerHTML = '<b>x</b>' }",
        "() => { const script = document.createElement('script'); script.text = 'document.title = 1' }",
        "() => { document.body.insertAdjacentHTML('beforeend', '<b>x</b>') }",
    ):
        with pytest.raises(Exception, match=r"TrustedHTML|TrustedScript"):
            page.evaluate(attempt)


EVIL = "Your account is locked. Call +1 555 0100."


def test_a_token_goes_only_to_its_api_and_is_stored_nowhere(bay: Bay, open_as: Open) -> None:
    wait(bay, "token/a.png", "token/b.png")
    page = open_as("ana")
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - a builtin cannot listen
    shown(page)
    press(page, "1")
    page.wait_for_load_state("networkidle")
    page.reload()
    shown(page)

    bearers = {request.headers["authorization"]: request for request in requests if "authorization" in request.headers}
    tokens = [bearer.removeprefix("Bearer ") for bearer in bearers]
    assert tokens
    assert all(each.url.startswith(bay.stack.outputs["ReviewUrl"]) for each in bearers.values())
    kept = str(
        page.evaluate("() => JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie, history])")
    )
    for token in tokens:
        assert token not in kept
        assert not [request.url for request in requests if token in request.url]


def test_a_stranger_s_link_puts_no_words_on_the_page(
    bay: Bay, browser: Browser, contexts: list[BrowserContext]
) -> None:
    contexts.append(browser.new_context())
    page = contexts[-1].new_page()
    seen: list[str] = []
    page.on("framenavigated", lambda frame: seen.append(frame.url))
    link = urlencode({"error": EVIL, "error_description": EVIL, "code": "x", "state": "x"})

    page.goto(f"{bay.stack.outputs['ReviewUrl']}?{link}")

    page.wait_for_url("**/oauth2/authorize*")  # as if the address had been empty
    assert EVIL not in page.content()


@pytest.mark.parametrize("code", ["access_denied", "server_error", EVIL])
def test_a_sign_in_error_is_shown_in_the_page_s_words(
    bay: Bay, browser: Browser, contexts: list[BrowserContext], code: str
) -> None:
    contexts.append(browser.new_context())
    page = contexts[-1].new_page()
    url = bay.stack.outputs["ReviewUrl"]

    def refuse(route: Route) -> None:
        (state,) = parse_qs(urlsplit(route.request.url).query)["state"]
        answer = urlencode({"error": code, "error_description": EVIL, "state": state})
        route.fulfill(status=302, headers={"location": f"{url}?{answer}"})

    page.route("**/oauth2/authorize*", refuse)

    page.goto(url)

    expect(page.get_by_role("heading", name="You are not signed in")).to_be_visible()
    expect(page.locator("#gate-text")).not_to_contain_text("locked")
    assert page.url == url
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_tap_or_z_enlarges_the_picture_until_the_next_photo(bay: Bay, open_as: Open) -> None:
    wait(bay, "zoom/a.png", "zoom/b.png")
    page = open_as("ana")
    shown(page)

    def width() -> float:
        box = page.locator("#picture img").bounding_box()
        return box["width"] if box else 0

    whole = width()
    acts: list[Callable[[], None]] = [partial(page.locator("#picture").click), partial(page.keyboard.press, "z")]
    for act in acts:
        act()
        wait_for(lambda: width() > 2 * whole)
        expect(page.get_by_role("button", name="Zoom")).to_have_attribute("aria-pressed", "true")
        act()
        wait_for(lambda: width() == whole)
    page.keyboard.press("z")
    press(page, "1")
    assert shown(page) == "zoom/b.png"
    wait_for(lambda: width() == whole)


def test_the_driver_s_other_photos_of_the_day_are_shown(bay: Bay, open_as: Open) -> None:
    wait(bay, "driver-21/a.png", "driver-21/b.png", "driver-22/c.png")
    page = open_as("ana")

    assert shown(page) == "driver-21/a.png"
    beside = page.get_by_role("region", name="Same driver, same day")
    expect(beside.get_by_role("img")).to_have_count(1)
    expect(beside).to_contain_text("In review")
    press(page, "1")
    press(page, "1")
    assert shown(page) == "driver-22/c.png"
    expect(page.get_by_text("No other photos of this driver today")).to_be_visible()
    assert page.complaints == []  # type: ignore[attr-defined]


def asked_in(page: Page, seconds: int) -> int:
    """Let time pass on the page's clock; return the number of its requests for photos."""
    begun: list[Request] = []
    ended: list[Request] = []

    def note(found: list[Request], request: Request) -> None:
        if request.url.endswith("/api/queue"):
            found.append(request)

    listeners = {"request": partial(note, begun), "requestfinished": partial(note, ended)}
    for name, listener in listeners.items():
        page.on(name, listener)  # type: ignore[call-overload]
    for _ in range(0, seconds, 4):
        page.clock.run_for(4_000)
        while len(ended) < len(begun):
            page.wait_for_event("requestfinished")
        page.evaluate("() => 0")
    for name, listener in listeners.items():
        page.remove_listener(name, listener)
    return len(begun)


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


@pytest.mark.long
def test_without_activity_an_empty_queue_is_polled_rarely_and_not_while_hidden(open_as: Open) -> None:
    page = open_as("ana", clock=True)
    expect(page.get_by_text("Nothing to review")).to_be_visible()

    assert asked_in(page, 60) >= 6
    assert asked_in(page, 600) <= 30
    assert asked_in(page, 600) <= 11
    with page.expect_request("**/api/queue"):
        page.mouse.move(10, 10)
    hide(page, hidden=True)
    assert asked_in(page, 300) == 0
    with page.expect_request("**/api/queue"):
        hide(page, hidden=False)


def test_with_nobody_there_photos_are_left_to_others(bay: Bay, open_as: Open) -> None:
    wait(bay, "away/a.png")
    page = open_as("ana", clock=True)
    shown(page)

    assert asked_in(page, 240) >= 4
    asked_in(page, 120)
    assert asked_in(page, 600) == 0
    with page.expect_request("**/api/queue"):
        page.mouse.move(10, 10)


def test_a_user_without_the_group_sees_nothing(bay: Bay, open_as: Open) -> None:
    wait(bay, "closed/a.png")
    pool = bay.stack.outputs["ReviewersPool"]
    bay.stack.client("cognito-idp").admin_remove_user_from_group(UserPoolId=pool, Username="eve", GroupName="reviewers")

    page = open_as("eve")

    expect(page.get_by_role("heading", name="You have no access")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()


def test_after_sign_out_the_tab_knows_nothing(bay: Bay, open_as: Open) -> None:
    page = open_as("ana")

    page.get_by_role("button", name="Sign out").click()

    page.wait_for_url("**/oauth2/authorize*")
    page.goto(bay.stack.outputs["ReviewUrl"])
    page.wait_for_url("**/oauth2/authorize*")


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (360, "dark"),
        *(pytest.param(*each, marks=pytest.mark.long) for each in [(360, "light"), (1280, "light"), (1280, "dark")]),
    ],
)
def test_there_are_no_serious_accessibility_issues_in_any_theme_or_width(
    bay: Bay, open_as: Open, theme: str, width: int, tmp_path: Path
) -> None:
    wait(bay, "driver-7/a.png", "driver-8/b.png")
    page = open_as("ana", color_scheme=theme, viewport={"width": width, "height": 740})
    shown(page)
    press(page, "1")
    expect(page.get_by_role("button", name="Correct: uploads/driver-7/a.png")).to_be_visible()
    page.locator("summary").click()

    assert serious(page) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    small = [
        box["height"]
        for button in page.locator("#answers button").all()
        if (box := button.bounding_box()) and box["height"] < 44
    ]
    assert small == []
    page.get_by_role("button", name="Correct: uploads/driver-7/a.png").click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    press(page, "1")
    expect(page.get_by_text("Nothing to review")).to_be_visible()
    assert serious(page) == []


def serious(page: Page) -> list[str]:
    """Return the violations that axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {json.dumps([node['target'] for node in each['nodes']])}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
