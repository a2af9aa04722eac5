"""The events' contract: schemas with examples that hold, the same ones in the template, one for each announcement."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft4Validator

from functions.decisions.reason_code import ReasonCode
from loading_bay.stack.template import read_template
from tests.integration.contract import SCHEMAS, breaches

from .definitions import DEFINITIONS, read

TEMPLATE = read_template()
every_type = pytest.mark.parametrize("detail_type", SCHEMAS)


@every_type
def test_a_schema_is_valid_and_its_examples_hold(detail_type: str) -> None:
    schema = SCHEMAS[detail_type]

    Draft4Validator.check_schema(schema)
    assert schema["examples"]
    assert [breach for example in schema["examples"] for breach in breaches(example)] == []


@every_type
@pytest.mark.parametrize("change", [{"version": "2"}, {"photo": 7}, {"reason_code": "OTHER"}, {"more": ""}])
def test_an_event_of_another_form_is_a_breach(detail_type: str, change: dict[str, Any]) -> None:
    (example, *_) = SCHEMAS[detail_type]["examples"]

    assert breaches(example | {"detail": example["detail"] | change})


def content_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a schema in the template, with the mappings filled in."""
    content = schema["Properties"]["Content"]
    text, values = content["Fn::Sub"] if isinstance(content, dict) else (content, {})
    for name, value in values.items():
        first, second, third = value["Fn::FindInMap"]
        text = text.replace(f"${{{name}}}", TEMPLATE["Mappings"][first][second][third])
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_registry_holds_the_same_schemas() -> None:
    resources = TEMPLATE["Resources"].values()
    registered = [content_of(each) for each in resources if each["Type"] == "AWS::EventSchemas::Schema"]

    assert {each["title"]: each for each in registered} == {
        title: {name: value for name, value in schema.items() if name != "examples"}
        for title, schema in SCHEMAS.items()
    }


def test_every_announcement_has_a_schema() -> None:
    entries = [
        entry
        for path in DEFINITIONS
        for state in read(path)["States"].values()
        if state.get("Resource", "").endswith("events:putEvents")
        for entry in state["Arguments"]["Entries"]
    ]
    # A detail-type is a name of several words; statuses are in capitals.
    announced = {
        name
        for entry in entries
        for name in re.findall(r"'([A-Z][a-z]+(?: [A-Z][a-z]+)+)'", entry["DetailType"]) or [entry["DetailType"]]
    }

    assert announced == set(SCHEMAS)


@pytest.mark.parametrize("detail_type", sorted(set(SCHEMAS) - {"Batch Completed"}))
def test_the_schemas_name_every_reason_code(detail_type: str) -> None:
    known = SCHEMAS[detail_type]["properties"]["detail"]["properties"]["reason_code"]["enum"]

    assert known == ["", *ReasonCode]
