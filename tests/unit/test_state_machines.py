"""What cfn-lint does not see in a state machine: targets, substitutions, error names, expressions."""

import json
import re
from pathlib import Path
from typing import Any

import jsonata
import pytest
from statelint.linter import Linter

from .definitions import DEFINITIONS, definition_of, machine_of, machines, read, states_of, strings_in

# Documented fields of a distributed Map that the linter does not know yet.
NEWER_FIELDS = re.compile(r'Field "(Label|InputType|CSVHeaderLocation)" not allowed|ExecutionType|Seconds is "{%')
SUBSTITUTES = {"Partition": "aws", "RunPhoto": "arn:aws:states:::states:startExecution.sync:2"}
PERMANENT = {"PhotoNotFound", "PhotoTooLarge", "UnreadablePhoto", "InvalidPrediction", "LowConfidence"}

every_definition = pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)


def declared_substitutions(path: Path) -> set[str]:
    return set(machines()[machine_of(path)]["DefinitionSubstitutions"])


def on_one_line(state: dict[str, Any]) -> dict[str, Any]:
    return {name: " ".join(each.split()) if isinstance(each, str) else each for name, each in state.items()}


@every_definition
def test_the_definition_is_valid_and_every_target_exists_and_is_reached(path: Path) -> None:
    # The linter wants a resource to be an ARN, and knows no expression of several lines.
    text = re.sub(r"\$\{(Partition|RunPhoto)\}", lambda name: SUBSTITUTES[name[1]], json.dumps(read(path)))

    problems = Linter().validate(json.loads(text, object_hook=on_one_line))

    assert [problem for problem in problems if not NEWER_FIELDS.search(problem)] == []


@every_definition
def test_every_substitution_is_supplied_and_every_supplied_one_is_used(path: Path) -> None:
    used = set(re.findall(r"\$\{([A-Za-z]+)\}", path.read_text()))

    assert used == declared_substitutions(path)


@every_definition
def test_only_transient_errors_are_retried_by_name_and_with_full_jitter(path: Path) -> None:
    for name, state in states_of(read(path)):
        for retry in state.get("Retry", []):
            assert retry["JitterStrategy"] == "FULL", name
            assert not {"States.ALL", "States.TaskFailed"} & set(retry["ErrorEquals"]), name
            assert not PERMANENT & set(retry["ErrorEquals"]), name


@every_definition
def test_every_task_has_a_time_out(path: Path) -> None:
    tasks = [(name, state) for name, state in states_of(read(path)) if state["Type"] == "Task"]

    assert [name for name, state in tasks if "TimeoutSeconds" not in state] == []


@every_definition
def test_every_expression_is_jsonata(path: Path) -> None:
    expressions = [text[2:-2] for text in strings_in(read(path)) if text.startswith("{%")]

    for expression in expressions:
        jsonata.Jsonata(re.sub(r"\$\{[A-Za-z]+\}", "1", expression))
    assert expressions


def test_every_way_through_the_photo_s_workflow_ends_in_a_named_end() -> None:
    states = definition_of("ClassifyPhoto")["States"]
    ends = {name: state.get("Error") for name, state in states.items() if state["Type"] in {"Succeed", "Fail"}}

    assert ends == {
        "AlreadyClaimed": None,
        "VehicleRouted": None,
        "InvalidInput": "InvalidInput",
        "LowConfidence": "LowConfidence",
        "PhotoRejected": "PhotoRejected",
        "ClassificationFailed": "ClassificationFailed",
    }


@every_definition
def test_every_line_of_a_definition_can_be_read_without_scrolling(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []
