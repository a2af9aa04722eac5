"""Helps the tests of the pages in a browser: signs people in, waits for photos, presses keys."""

import json
from collections.abc import Callable
from functools import partial

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from loading_bay.operations.reviewers import Reviewer
from tests.integration.bay import Bay, picture, wait_for

PATIENCE = 90_000  # milliseconds: on a busy machine a function takes long to start
# Milliseconds between two looks at a waiting page; by default, Playwright looks at every frame.
POLLING = 200
SECOND_SHARE = 0.00001  # so a photo is drawn only if its name was sought for it
Open = Callable[..., Page]

expect.set_options(timeout=PATIENCE)


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


def is_decided(bay: Bay, key: str) -> bool:
    return bay.outcome(key).status != "REVIEW"


def is_announced(bay: Bay, key: str) -> bool:
    return any(event["detail"].get("reviewed_by") for event in bay.announced(key))


def serious(page: Page) -> list[str]:
    """Return the violations that axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {json.dumps([node['target'] for node in each['nodes']])}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
