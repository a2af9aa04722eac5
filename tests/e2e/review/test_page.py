"""The review page in a real browser, on the real stack: shown to the right people, and usable by all of them."""

import time
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from loading_bay.stack.template import ROOT
from tests.e2e.pages import Open, is_decided, press, serious, shown, wait
from tests.integration.bay import Bay, picture, wait_for

PHOTOS = ROOT / "events" / "photos"
MARKUP = '"><img src=x onerror=document.title=1>\u202egpj.png'
EVIL = "Your account is locked. Call +1 555 0100."


def focused(page: Page) -> str:
    """Return the text of the focused element, without its key."""
    return str(page.evaluate("() => document.activeElement.firstChild?.textContent"))


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

    page.goto(f"{bay.stack.outputs['ReviewUrl']}?{link}", wait_until="commit")

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

    page.goto(url, wait_until="commit")

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
    bay.stack.client("cognito-idp").admin_remove_user_from_group(UserPoolId=pool, Username="ivy", GroupName="reviewers")

    page = open_as("ivy")

    expect(page.get_by_role("heading", name="You have no access")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()


def test_after_sign_out_the_tab_knows_nothing(bay: Bay, open_as: Open) -> None:
    page = open_as("ana")

    page.get_by_role("button", name="Sign out").click()

    page.wait_for_url("**/oauth2/authorize*")
    page.goto(bay.stack.outputs["ReviewUrl"], wait_until="commit")
    page.wait_for_url("**/oauth2/authorize*")


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (360, "dark"),
        *(pytest.param(*each, marks=pytest.mark.long) for each in [(360, "light"), (1280, "light"), (1280, "dark")]),
    ],
)
def test_there_are_no_serious_accessibility_issues_in_any_theme_or_width(
    bay: Bay, open_as: Open, theme: str, width: int
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
