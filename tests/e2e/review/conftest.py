"""A stack with people who review, each in a separate browser."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from loading_bay.local.stack import Options, Stack
from loading_bay.operations.reviewers import Reviewer, add_reviewer
from tests.e2e.pages import PATIENCE, SECOND_SHARE, Open, sign_in
from tests.integration.bay import Bay, picture
from tests.integration.endpoint import Endpoint, by_colour, scores

FOUND = {"box": [0.25, 0.1, 0.75, 0.5], "score": 0.7, "counts": {"bicycle": 1}, "reason_code": "TOO_SMALL"}


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def people(bay: Bay) -> dict[str, Reviewer]:
    deployed = bay.stack.deployed
    return {name: add_reviewer(deployed, name, f"{name}@example.com") for name in ("ana", "ben", "eve", "ivy")}


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
        page.goto(bay.stack.outputs["ReviewUrl"], wait_until="commit")
        sign_in(page, people[name])
        return page

    return open_as


@pytest.fixture(autouse=True)
def empty_queue(bay: Bay) -> Iterator[None]:
    """Leave no waiting photos to the next test."""
    yield
    for decision in bay.all_decisions():
        bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": {"S": decision.photo}})
