"""The drivers' page in a real browser, on the real stack: from the camera to the bay, also on a bad connection."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FileChooser, Page, Route, TimeoutError, expect

from loading_bay.local.stack import Options, Stack
from loading_bay.operations.reviewers import DRIVERS, Reviewer, add_reviewer
from tests.integration.bay import Bay, picture
from tests.integration.endpoint import Endpoint, by_colour, scores

from .pages import PATIENCE, POLLING, press, shown, sign_in

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
ANSWERED = ("routed", "review", "retake", "failed")


@pytest.fixture(scope="module")
def bay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    """Return a stack whose model is sure of red and blue, and finds the vehicle in red photos."""
    endpoint = Endpoint()
    red = by_colour(picture("red")).body
    found = {"box": [0.25, 0.5, 0.75, 1.0], "score": 0.9}
    endpoint.answer = lambda body: scores(0.97, 0.03, found=found) if by_colour(body).body == red else by_colour(body)
    stack = Stack.up(tmp_path_factory.mktemp("stack"), Options(endpoint_url=endpoint.url), say=print)
    yield Bay(stack)
    stack.down()
    endpoint.close()


@pytest.fixture
def driver(bay: Bay, request: pytest.FixtureRequest) -> Reviewer:
    """Return a driver of this test's."""
    name = re.sub(r"\W", "-", request.node.name)[-40:].strip("-")
    return add_reviewer(bay.stack.deployed, name, f"{name}@example.com", DRIVERS)


@pytest.fixture
def page(bay: Bay, driver: Reviewer, browser: Browser, contexts: list[BrowserContext]) -> Page:
    return open_page(bay, driver, browser, contexts, **PHONE)


def open_page(bay: Bay, driver: Reviewer, browser: Browser, contexts: list[BrowserContext], **settings: Any) -> Page:
    context = browser.new_context(**{"locale": "en-US"} | settings)
    contexts.append(context)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(bay.stack.outputs["DriverUrl"], wait_until="commit")
    sign_in(page, driver)
    page.wait_for_function("() => document.body.dataset.state === 'ready'", polling=POLLING)
    return page


def take(page: Page, data: bytes, *, name: str = "camera.jpg", type: str = "image/jpeg") -> None:
    """Press the button, and let the camera answer with a photo."""
    chooser = opened(page, lambda: page.click("#take"))
    assert chooser.element.get_attribute("capture") == "environment"
    chooser.set_files({"name": name, "mimeType": type, "buffer": data})


def opened(page: Page, press: Callable[[], None]) -> FileChooser:
    """Return the dialog that a press opens; after five seconds, on a busy machine, browsers forget the press."""
    for _ in range(4):
        with suppress(TimeoutError):
            with page.expect_file_chooser(timeout=PATIENCE / 4) as chooser:
                press()
            return chooser.value
    raise AssertionError("no dialog opens")


def answer(page: Page) -> str:
    """Wait for the answer; returns it as the driver reads it."""
    page.wait_for_function(
        "all => all.includes(document.querySelector('#answer').dataset.status)", arg=list(ANSWERED), polling=POLLING
    )
    return page.inner_text("#said")


def stored(bay: Bay, driver: Reviewer) -> list[str]:
    """Return the keys of everything that this driver has uploaded, each version of it."""
    versions = bay.s3.list_object_versions(Bucket=bay.bucket, Prefix=f"uploads/{driver.name}/").get("Versions", [])
    return [each["Key"] for each in versions]


def test_from_the_button_to_the_bay_with_a_person_in_between(
    bay: Bay,
    page: Page,
    driver: Reviewer,
    browser: Browser,
    contexts: list[BrowserContext],
) -> None:
    page.fill("#order", "A-4711")
    take(page, picture("grey", size=(600, 400)))
    assert answer(page) == "A person is looking at it"

    person = add_reviewer(bay.stack.deployed, "ana", "ana@example.com")
    contexts.append(browser.new_context())
    review = contexts[-1].new_page()
    review.set_default_timeout(PATIENCE)
    review.goto(bay.stack.outputs["ReviewUrl"], wait_until="commit")
    sign_in(review, person)
    shown(review)
    assert review.inner_text("#driver") == f"{driver.name} · A-4711"
    press(review, "1")

    expect(page.locator("#said")).to_have_text("Bay 1 · near orders")
    expect(page.locator("#photos li")).to_have_count(1)
    expect(page.locator("#photos li")).to_contain_text("Bay 1 · near orders")
    (key,) = stored(bay, driver)
    decision = bay.outcome(key)
    assert (decision.driver, decision.order, decision.reviewed_by) == (driver.name, "A-4711", "ana")


def test_a_sure_photo_is_answered_with_its_bay(page: Page) -> None:
    take(page, picture("blue"))

    assert answer(page) == "Bay 2 · far orders"


def test_the_answer_shows_the_photo_with_a_frame_around_the_vehicle(page: Page) -> None:
    take(page, picture("red", size=(600, 400)))
    assert answer(page) == "Bay 1 · near orders"

    photo, edge = page.locator("#picture img").bounding_box(), page.locator("#picture rect").bounding_box()

    assert photo
    assert edge
    drawn = ((edge["x"] - photo["x"]) / photo["width"], (edge["y"] - photo["y"]) / photo["height"])
    assert drawn == pytest.approx((0.25, 0.5), abs=0.02)
    shares = (edge["width"] / photo["width"], edge["height"] / photo["height"])
    assert shares == pytest.approx((0.5, 0.5), abs=0.03)
    take(page, picture("blue", size=(500, 400)))  # whose answer lacks a frame
    expect(page.locator("#said")).to_have_text("Bay 2 · far orders")
    expect(page.locator("#picture img")).to_have_count(1)
    expect(page.locator("#picture rect")).to_have_count(0)


def test_what_is_not_a_photo_is_to_be_taken_again(page: Page) -> None:
    take(page, b"no photo")

    assert answer(page) == "Take it again: the file is not a photo"
    expect(page.locator("#take")).to_have_text("Take it again")


@pytest.mark.parametrize("arrives", [True, False], ids=["the answer is lost", "the photo is lost"])
def test_on_a_bad_connection_a_photo_is_sent_until_it_has_arrived_and_once(
    bay: Bay, page: Page, driver: Reviewer, arrives: bool
) -> None:
    posts: list[str] = []

    def first_fails(route: Route) -> None:
        posts.append(route.request.url)
        if len(posts) > 1:
            route.continue_()
            return
        if arrives:
            route.fetch()
        route.abort()

    page.route(lambda url: bay.bucket in url, first_fails)
    take(page, picture("red"))

    assert answer(page) == "Bay 1 · near orders"
    assert len(posts) == (1 if arrives else 2)
    assert len(stored(bay, driver)) == 1


def test_offline_the_page_says_so_and_goes_on_when_the_connection_is_back(
    bay: Bay, page: Page, driver: Reviewer
) -> None:
    page.context.set_offline(True)
    take(page, picture("red"))
    expect(page.locator("#banner")).to_have_text("No connection. Trying again …")

    page.context.set_offline(False)

    assert answer(page) == "Bay 1 · near orders"
    expect(page.locator("#banner")).to_be_hidden()
    assert len(stored(bay, driver)) == 1


def test_a_huge_photo_is_reduced_before_it_is_sent_and_upright(bay: Bay, page: Page, driver: Reviewer) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (6000, 3000), "red").save(buffer, "JPEG", exif=exif)

    take(page, buffer.getvalue())

    assert answer(page) == "Bay 1 · near orders"
    (key,) = stored(bay, driver)
    with Image.open(bay.s3.get_object(Bucket=bay.bucket, Key=key)["Body"]) as sent:
        assert sent.size == (1024, 2048)


def test_a_driver_who_comes_back_waits_for_the_same_answer(page: Page) -> None:
    take(page, picture("grey", size=(500, 400)))
    answer(page)

    page.reload()

    expect(page.locator("#said")).to_have_text("A person is looking at it")


def test_an_order_that_would_be_refused_is_refused_before_the_photo_is_taken(page: Page) -> None:
    page.fill("#order", "A 47/11")
    page.click("#take")

    message = page.evaluate("() => document.querySelector('#order').validationMessage")
    assert message == "An order has only letters, digits, hyphens and underscores."


@pytest.mark.parametrize(
    ("locale", "button"), [("es-MX", "Hacer una foto"), ("pt-BR", "Tirar uma foto"), ("de-DE", "Take a photo")]
)
def test_the_page_speaks_the_browser_s_language(
    bay: Bay,
    driver: Reviewer,
    browser: Browser,
    contexts: list[BrowserContext],
    locale: str,
    button: str,
) -> None:
    page = open_page(bay, driver, browser, contexts, locale=locale, **PHONE)

    assert page.inner_text("#take") == button
    assert page.evaluate("() => document.documentElement.lang") == (locale[:2] if button != "Take a photo" else "en")


@pytest.mark.parametrize(
    ("device", "scheme"),
    [
        pytest.param(PHONE, "light", id="phone-light"),
        pytest.param(PHONE, "dark", id="phone-dark", marks=pytest.mark.long),
        pytest.param(DESKTOP, "light", id="desktop-light", marks=pytest.mark.long),
        pytest.param(DESKTOP, "dark", id="desktop-dark", marks=pytest.mark.long),
    ],
)
def test_nothing_hinders_anyone(
    bay: Bay,
    driver: Reviewer,
    browser: Browser,
    contexts: list[BrowserContext],
    scheme: str,
    device: dict[str, Any],
) -> None:
    page = open_page(bay, driver, browser, contexts, color_scheme=scheme, reduced_motion="reduce", **device)

    for data in (None, picture("red"), b"no photo", picture("grey", size=(450, 400))):
        if data is not None:
            take(page, data)
            page.wait_for_function(
                "() => document.querySelector('#answer').dataset.status !== 'sending'", polling=POLLING
            )
            answer(page)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_is_enough(page: Page) -> None:
    page.focus("#order")
    page.keyboard.press("Tab")
    expect(page.locator("#take")).to_be_focused()
    opened(page, lambda: page.keyboard.press("Enter")).set_files(
        {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture("red")}
    )

    assert answer(page) == "Bay 1 · near orders"
    assert page.get_attribute("#answer", "role") == "status"  # a screen reader reads it aloud


def test_a_reviewer_is_no_driver(
    bay: Bay,
    browser: Browser,
    contexts: list[BrowserContext],
) -> None:
    person = add_reviewer(bay.stack.deployed, "ben", "ben@example.com")
    contexts.append(browser.new_context(locale="en-US"))
    page = contexts[-1].new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(bay.stack.outputs["DriverUrl"], wait_until="commit")
    sign_in(page, person)

    expect(page.locator("#gate-title")).to_have_text("You have no access")
    kept = json.loads(page.evaluate("() => JSON.stringify([{...localStorage}, document.cookie])"))
    assert kept == [{}, ""]
