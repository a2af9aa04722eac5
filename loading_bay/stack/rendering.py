"""Renders parts of the template before it is deployed, with parameter defaults and placeholder resource names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .template import ROOT, parameter_default, read_definition, read_template

PLACE = "us-east-1:123456789012"
STACK = {"Partition": "aws", "Region": "us-east-1", "AccountId": "123456789012", "StackName": "loading-bay"}
# Resource type → ARN, with a gap for the logical id.
ARNS = {
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{PLACE}:table/{{}}",
    "AWS::Serverless::Function": f"arn:aws:lambda:{PLACE}:function:{{}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{PLACE}:stateMachine:{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{PLACE}:{{}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{PLACE}:{{}}",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
}
# Resource types whose Ref is their ARN.
REF_IS_ARN = {"AWS::StepFunctions::StateMachine", "AWS::SNS::Topic"}


@dataclass(frozen=True)
class StateMachine:
    """A state machine: its name in the template, its type, its definition with substitutions."""

    name: str
    type: Literal["STANDARD", "EXPRESS"]
    definition: dict[str, Any]


def render_machines() -> Iterator[StateMachine]:
    """Yield every state machine of the template as it would be deployed."""
    for name, resource in read_template()["Resources"].items():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            properties = resource["Properties"]
            text = json.dumps(_folded(read_definition(ROOT / properties["DefinitionS3Location"])))
            for substitution, value in properties["DefinitionSubstitutions"].items():
                text = text.replace(f"${{{substitution}}}", json.dumps(str(render(value)))[1:-1])
            yield StateMachine(name, render(properties["StateMachineType"]), json.loads(text))


def render(value: Any) -> Any:
    """Return a part of the template as CloudFormation resolves it when every condition is false."""
    found = value
    match value:
        case list():
            found = [each for part in value if (each := render(part)) is not None]
        case {"Ref": name}:
            found = reference(name)
        case {"Fn::GetAtt": [name, attribute]}:
            found = reference(f"{name}.{attribute}")
        case {"Fn::Sub": text}:
            found = re.sub(r"\$\{([^}]+)\}", lambda match: str(reference(match[1])), text)
        case {"Fn::FindInMap": [table, first, second]}:
            found = read_template()["Mappings"][table][first][second]
        case {"Fn::If": [_, _, otherwise]}:
            found = render(otherwise)
        case dict():
            found = {name: render(part) for name, part in value.items()}
    return found


def reference(name: str) -> str | None:
    """Return the value of `Inbox`, `Inbox.Arn`, `AWS::Region` or a parameter; None for AWS::NoValue."""
    if name.startswith("AWS::"):
        return STACK.get(name.removeprefix("AWS::"))
    template = read_template()
    if name in template["Parameters"]:
        return parameter_default(name)
    logical_id, _, attribute = name.partition(".")
    kind = template["Resources"][logical_id]["Type"]
    is_arn = attribute == "Arn" or (not attribute and kind in REF_IS_ARN)
    return ARNS[kind].format(logical_id) if is_arn else logical_id


def _folded(value: object) -> object:
    """Return a definition with each expression on one line, as the AWS validator for editors requires."""
    if isinstance(value, dict):
        return {name: _folded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_folded(part) for part in value]
    return re.sub(r"\s*\n\s*", " ", value) if isinstance(value, str) and value.startswith("{%") else value
