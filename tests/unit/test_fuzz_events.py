"""Whatever the workflow is started with, its first state takes a photo that is one, or nothing.

A second implementation of JSONata stands for the one of Step Functions. `FUZZ_EXAMPLES` makes it long.
"""

import json
import os
from typing import Any

import jsonata
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.template import ROOT

CHECK_INPUT = json.loads((ROOT / "statemachine" / "classify_photo.asl.json").read_text())["States"]["CheckInput"]
CONTEXT = {"Execution": {"Id": "arn:execution", "StartTime": "2026-11-20T04:00:00.000Z"}}
EXAMPLES = max(500, int(os.environ.get("FUZZ_EXAMPLES", "0")) // 10)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEY = st.text(min_size=1, max_size=12) | ANYTHING


def event_like(key: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return inputs that resemble the detail of an S3 event, with any part missing or something else."""
    thing = st.fixed_dictionaries(
        {}, optional={"key": key, "etag": KEY, "version-id": KEY, "size": ANYTHING, "sequencer": ANYTHING}
    )
    return st.fixed_dictionaries(
        {},
        optional={"bucket": st.fixed_dictionaries({}, optional={"name": KEY}) | ANYTHING, "object": thing | ANYTHING},
    )


def typed_like(key: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Return inputs that resemble what a person types, or a batch passes."""
    return st.fixed_dictionaries(
        {}, optional={"s3_bucket": KEY, "s3_key": key, "etag": KEY, "version_id": KEY, "batch_id": KEY}
    )


def evaluate(expression: str, given_input: Any) -> Any:
    compiled = jsonata.Jsonata(expression.removeprefix("{%").removesuffix("%}"))
    frame = compiled.create_frame()
    frame.bind("states", {"input": given_input, "context": CONTEXT})
    return compiled.evaluate(None, frame)


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(given_input=ANYTHING | event_like(KEY) | typed_like(KEY))
def test_an_input_is_a_photo_with_bucket_and_key_or_is_refused(given_input: Any) -> None:
    taken = next((each for each in CHECK_INPUT["Choices"] if evaluate(each["Condition"], given_input) is True), None)
    if taken is None:
        assert CHECK_INPUT["Default"] == "InvalidInput"
        return

    decision = evaluate(taken["Assign"]["decision"], given_input)

    bucket, key = decision["s3_bucket"], decision["s3_key"]
    assert isinstance(bucket, str)
    assert isinstance(key, str)
    assert decision["photo"].startswith(f"s3://{bucket}/{key}")
    assert decision["execution_arn"] == CONTEXT["Execution"]["Id"]
    assert all(isinstance(value, str) for value in decision.values()), (
        "DynamoDB and S3 would refuse it, after all retries"
    )
