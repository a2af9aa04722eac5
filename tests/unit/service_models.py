"""Compares the calls of tasks with botocore's service models: their arguments, and the names of their errors."""

import json
import re
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

from .definitions import Integration

# Arguments for which an optimised integration accepts any JSON and passes it on as text.
# https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html and the pages of the services there
JSON_AS_TEXT = {
    ("lambda", "Invoke", "Payload"),
    ("events", "PutEvents", "Detail"),
    ("states", "StartExecution", "input"),
    ("sqs", "SendMessage", "MessageBody"),
    ("sns", "Publish", "Message"),
}
COMPUTED = re.compile(r"\{%.*%\}", re.DOTALL)


@cache
def operation(integration: Integration) -> OperationModel:
    service = botocore.session.get_session().get_service_model(integration.client)
    return service.operation_model(integration.operation)


def problems(integration: Integration, arguments: Any) -> str:
    """The operation's complaints about these arguments; computed values count as correct."""
    shape = operation(integration).input_shape
    assert shape
    called = _as_called(integration, shape, arguments, integration.operation)
    report: str = ParamValidator().validate(called, shape).generate_report()
    return report


def _as_called(integration: Integration, shape: Shape, value: Any, name: str) -> Any:
    if isinstance(value, str) and COMPUTED.fullmatch(value.strip()):
        return _sample(shape)
    if (integration.service, integration.operation, name) in JSON_AS_TEXT and not integration.sdk:
        return json.dumps(value)
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        # Step Functions writes every parameter in PascalCase, even if the API writes it in camelCase.
        # https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
        names = {member[0].upper() + member[1:]: member for member in shape.members}
        known = {names[key]: each for key, each in value.items() if key in names}
        unknown = {f"{key} (in PascalCase)": each for key, each in value.items() if key not in names}
        return unknown | {
            member: _as_called(integration, shape.members[member], each, member) for member, each in known.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_as_called(integration, shape.member, each, name) for each in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _as_called(integration, shape.value, each, name) for key, each in value.items()}
    return value


def _sample(shape: Shape) -> Any:
    """A value that the shape allows."""
    if isinstance(shape, StructureShape):
        return {name: _sample(shape.members[name]) for name in shape.required_members}
    least = int(shape.metadata.get("min", 0))
    if isinstance(shape, ListShape):
        return [_sample(shape.member)] * least
    samples = {"map": {}, "string": "x" * max(1, least), "boolean": True, "blob": b"", "timestamp": 0}
    return samples.get(shape.type_name, max(1, least))


def modelled_errors(integration: Integration) -> set[str]:
    """The documented errors of an operation, under their class names in the AWS SDK for Java.

    Step Functions reports these names, always with the suffix Exception.
    https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html
    """
    names = {error.name for error in operation(integration).error_shapes}
    return {name if name.endswith("Exception") else name.removesuffix("Fault") + "Exception" for name in names}
