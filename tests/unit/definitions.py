"""Reads the state machines' definitions for tests: their states, their tasks, and the calls of the tasks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from loading_bay.stack.template import ROOT, read_template

DEFINITIONS = sorted((ROOT / "statemachine").glob("*.asl.*"))
# arn:PARTITION:states:::[aws-sdk:]SERVICE:ACTION[.PATTERN]; the partition may be a substitution.
RESOURCE = re.compile(r"arn:[^:]+:states:::(?P<sdk>aws-sdk:)?(?P<service>\w+):(?P<action>\w+)(\.(?P<pattern>.+))?")
# The Step Functions name of a service → its botocore name, if they differ.
BOTOCORE_NAMES = {"sfn": "stepfunctions", "states": "stepfunctions"}


@dataclass(frozen=True)
class Integration:
    """The call of a task: through the integration of a service, or through the SDK integration."""

    sdk: bool
    service: str
    action: str
    pattern: str = ""

    @classmethod
    def parse(cls, resource: str) -> "Integration":
        match = RESOURCE.fullmatch(resource)
        assert match, f"{resource} is not an integration of Step Functions"
        return cls(bool(match["sdk"]), match["service"], match["action"], match["pattern"] or "")

    @property
    def kind(self) -> str:
        return ("aws-sdk:" if self.sdk else "") + self.service

    @property
    def client(self) -> str:
        """The service as botocore names it."""
        return BOTOCORE_NAMES.get(self.service, self.service)

    @property
    def operation(self) -> str:
        """The operation as botocore names it."""
        return self.action[0].upper() + self.action[1:]


@dataclass(frozen=True)
class Task:
    """A task of a state machine, by the machine's name in the template."""

    machine: str
    name: str
    state: dict[str, Any]
    integrations: tuple[Integration, ...]

    def __str__(self) -> str:
        return f"{self.machine}.{self.name}"


def read(path: Path) -> dict[str, Any]:
    machine: dict[str, Any] = yaml.safe_load(path.read_text())
    return machine


@cache
def machines() -> dict[str, dict[str, Any]]:
    """The properties of every state machine that the template deploys, by name."""
    resources = read_template()["Resources"].items()
    return {
        name: resource["Properties"]
        for name, resource in resources
        if resource["Type"] == "AWS::StepFunctions::StateMachine"
    }


@cache
def definition_of(machine: str) -> dict[str, Any]:
    return read(ROOT / machines()[machine]["DefinitionS3Location"])


def machine_of(path: Path) -> str:
    """The template's name for the state machine that this file defines."""
    names = [name for name, each in machines().items() if each["DefinitionS3Location"] == f"statemachine/{path.name}"]
    assert len(names) == 1, f"the template deploys {names} of {path.name}"
    return names[0]


def states_of(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        for inner in [state.get("ItemProcessor"), *state.get("Branches", [])]:
            if inner:
                yield from states_of(inner)


@cache
def tasks() -> list[Task]:
    found = []
    for machine, properties in machines().items():
        for name, state in states_of(definition_of(machine)):
            if state["Type"] == "Task":
                resources = alternatives(state["Resource"], properties["DefinitionSubstitutions"])
                found.append(Task(machine, name, state, tuple(map(Integration.parse, resources))))
    return found


def alternatives(text: str, substitutions: dict[str, Any]) -> list[str]:
    """Every possible result of substitutions that depend on conditions."""
    names = re.findall(r"\$\{(\w+)\}", text)
    if not names:
        return [text]
    value = substitutions[names[0]]
    values = value["Fn::If"][1:] if isinstance(value, dict) and "Fn::If" in value else [value]
    texts = [text.replace(f"${{{names[0]}}}", as_text(each)) for each in values]
    return [found for each in texts for found in alternatives(each, substitutions)]


def as_text(value: Any) -> str:
    """A value of the template as text; pseudo parameters keep their names, without the syntax of a reference."""
    if isinstance(value, dict):
        (value,) = value.values()
        value = ".".join(value) if isinstance(value, list) else value
    return re.sub(r"\$\{([^}]+)\}", r"\1", str(value)).replace("AWS::", "AWS-")


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
