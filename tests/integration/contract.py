"""The contract of the stack's events: the schemas in events/schemas, by detail-type."""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft4Validator

from loading_bay.stack.template import ROOT

SCHEMAS: dict[str, dict[str, Any]] = {
    schema["title"]: schema
    for schema in (json.loads(path.read_text()) for path in sorted((ROOT / "events" / "schemas").glob("*.json")))
}


def breaches(event: Mapping[str, Any]) -> list[str]:
    """Return each breach of an event's schema; an unknown field is a breach too."""
    schema = SCHEMAS.get(event["detail-type"])
    if schema is None:
        return [f"{event['detail-type']} lacks a schema"]
    found = [f"{error.json_path}: {error.message}" for error in Draft4Validator(schema).iter_errors(event)]
    known = schema["properties"]["detail"]["properties"]
    return found + [f"the schema does not know {name}" for name in event["detail"] if name not in known]
