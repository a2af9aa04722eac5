"""For any input, the workflow's first state accepts a valid photo or nothing.

A second implementation of JSONata replaces that of Step Functions. `FUZZ_EXAMPLES` sets the number of examples.
"""

import json
import os
import re
from functools import cache
from typing import Any

import jsonata
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loading_bay.stack.template import ROOT, read_definition

STATES = read_definition(ROOT / "statemachine" / "classify_photo.asl.yaml")["States"]
INBOX = "inbox"
CONTEXT = {"Execution": {"Id": "arn:execution", "StartTime": "2026-11-20T04:00:00.000Z"}}
EXAMPLES = max(500, int(os.environ.get("FUZZ_EXAMPLES", "0")) // 10)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEY = st.text(min_size=1, max_size=12) | ANYTHING
BUCKET = st.just(INBOX) | KEY
ETAG = st.from_regex('\\A"?[0-9a-f]{32}"?\n?\\Z') | KEY


def event_like(key: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return inputs that resemble the detail of an S3 event, with parts missing or replaced."""
    thing = st.fixed_dictionaries(
        {}, optional={"key": key, "etag": ETAG, "version-id": KEY, "size": ANYTHING, "sequencer": ANYTHING}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "bucket": st.fixed_dictionaries({}, optional={"name": BUCKET}) | ANYTHING,
            "object": thing | ANYTHING,
        },
    )


def typed_like(key: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return inputs that resemble those from a person or a batch."""
    named = {"s3_bucket": BUCKET, "s3_key": key, "etag": ETAG, "version_id": KEY, "batch_id": KEY}
    return st.fixed_dictionaries({}, optional=named)


def run(given: Any) -> tuple[str, Any]:
    """Run the workflow's states until one makes a call; return its name and the decision so far."""
    name, decision = "ReadInput", None
    while (state := STATES[name])["Type"] in {"Choice", "Pass"}:
        taken = next((each for each in state.get("Choices", []) if holds(each["Condition"], given, decision)), state)
        if "Assign" in taken:
            decision = evaluate(taken["Assign"]["decision"], given, decision)
        name = taken.get("Next") or state["Default"]
    return name, decision


def holds(condition: str, given: Any, decision: Any) -> bool:
    """Evaluate a condition; AWS fails an execution whose condition is neither true nor false."""
    found = evaluate(condition, given, decision)
    assert isinstance(found, bool), f"{condition} is {found!r}"
    return found


def evaluate(expression: str, given: Any, decision: Any) -> Any:
    query = compiled(expression)
    frame = query.create_frame()
    frame.bind("states", {"input": given, "context": CONTEXT})
    frame.bind("decision", decision)
    return query.evaluate(None, frame)


@cache
def compiled(expression: str) -> jsonata.Jsonata:
    inside = expression.removeprefix("{%").removesuffix("%}").replace("${InboxBucket}", INBOX)
    found = jsonata.Jsonata(inside)
    found.register_lambda("uuid", lambda: "0f8fad5b-d9cb-469f-a165-70867728950e")
    return found


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(given_input=ANYTHING | event_like(KEY) | typed_like(KEY))
def test_an_input_is_a_photo_of_the_inbox_with_a_key_or_is_refused(given_input: Any) -> None:
    state, decision = run(given_input)

    assert state in {"ClaimPhoto", "FindPhoto", "InvalidInput", "NotAPhoto"}
    if state in {"InvalidInput", "NotAPhoto"}:
        return
    assert decision["s3_bucket"] == INBOX
    assert 0 < len(decision["s3_key"]) <= 1024
    assert decision["execution_arn"] == CONTEXT["Execution"]["Id"]
    if state == "ClaimPhoto":
        assert re.fullmatch("[0-9a-f]{32}(-[0-9]{1,5})?", decision["etag"])
        assert decision["photo"] == f"s3://{INBOX}/{decision['s3_key']}#{decision['etag']}"
    assert all(isinstance(value, str) for value in decision.values()), (
        "DynamoDB and S3 would refuse it, after all retries"
    )


@pytest.mark.parametrize(("key", "state"), [("é" * 512, "FindPhoto"), ("é" * 513, "InvalidInput")])
def test_a_key_of_more_bytes_than_s3_takes_is_refused_and_not_looked_up(key: str, state: str) -> None:
    assert run({"s3_key": key})[0] == state


@pytest.mark.parametrize("more", ["\n", "\r", "\u2028", " ", "-", "-123456"])
def test_an_etag_with_anything_behind_it_does_not_name_a_second_photo(more: str) -> None:
    etag = "0" * 32 + more

    assert run({"bucket": {"name": INBOX}, "object": {"key": "a.jpg", "etag": etag}})[0] == "InvalidInput"
    assert run({"s3_key": "a.jpg", "etag": etag})[0] == "FindPhoto"


@pytest.mark.parametrize("name", ["etag", "version_id", "batch_id"])
@pytest.mark.parametrize("value", [5, True, [], ["0" * 32], {}, {"S": "x"}], ids=json.dumps)
def test_a_part_of_a_typed_input_that_is_no_text_is_refused(name: str, value: object) -> None:
    assert run({"s3_key": "a.jpg", name: value})[0] == "InvalidInput"


@pytest.mark.parametrize("key", ["uploads/new/", "uploads/new_$folder$", "/", "_$folder$"])
def test_the_marker_of_a_folder_is_never_claimed(key: str) -> None:
    event = {"bucket": {"name": INBOX}, "object": {"key": key, "etag": "0" * 32, "size": 0}}

    assert [run(given)[0] for given in (event, {"s3_key": key}, {"s3_key": key, "etag": "0" * 32})] == ["NotAPhoto"] * 3
