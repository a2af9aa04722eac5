"""Checks of state machines beyond cfn-lint: targets, substitutions, retries, expressions, variables."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from statelint.linter import Linter

from .definitions import DEFINITIONS, definition_of, machine_of, machines, read, states_of, strings_in
from .expressions import uses

# Documented fields of a distributed Map that the linter does not know.
NEWER_FIELDS = re.compile(r'Field "(Label|InputType)" not allowed|ExecutionType|(Seconds|MaxConcurrency) is "{%')
SUBSTITUTES = {"Partition": "aws", "RunPhoto": "arn:aws:states:::states:startExecution.sync:2"}
PERMANENT = {"PhotoNotFound", "PhotoTooLarge", "UnreadablePhoto", "InvalidPrediction", "LowConfidence"}
PERMANENT |= {"DynamoDB.ConditionalCheckFailedException", "S3.NoSuchBucketException", "S3.NoSuchKeyException"}
# S3's 4xx and 5xx share a name; CheckLookup reads their cause.
TOLD_APART = {"FindPhoto": {"S3.S3Exception"}}
# A photo that failed in a batch is not worth another try, and on AWS its error has the name of any failed task.
RUNS_A_WORKFLOW = {"ClassifyListed", "ClassifyNamed", "ClassifyInventoried"}

every_definition = pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)


def declared_substitutions(path: Path) -> set[str]:
    return set(machines()[machine_of(path)]["DefinitionSubstitutions"])


@every_definition
def test_the_definition_is_valid_and_every_state_is_reachable(path: Path) -> None:
    text = re.sub(r"\$\{(Partition|RunPhoto)\}", lambda name: SUBSTITUTES[name[1]], json.dumps(read(path)))

    problems = Linter().validate(json.loads(text))

    assert [problem for problem in problems if not NEWER_FIELDS.search(problem)] == []


@every_definition
def test_every_substitution_is_supplied_and_every_supplied_one_is_used(path: Path) -> None:
    used = set(re.findall(r"\$\{([A-Za-z]+)\}", path.read_text()))

    assert used == declared_substitutions(path)


def retries_of(state: dict[str, Any]) -> tuple[set[str], list[dict[str, Any]]]:
    """The errors that a state never retries, and its rules for all others."""
    rules = state.get("Retry", [])
    never = {error for rule in rules if rule.get("MaxAttempts") == 0 for error in rule["ErrorEquals"]}
    return never, [rule for rule in rules if rule.get("MaxAttempts") != 0]


@every_definition
def test_every_error_is_retried_with_full_jitter_but_the_permanent_ones(path: Path) -> None:
    for name, state in states_of(read(path)):
        never, again = retries_of(state)
        assert never == never & PERMANENT | TOLD_APART.get(name, set()), name
        assert all(rule["JitterStrategy"] == "FULL" for rule in again), name
        assert not PERMANENT & {error for rule in again for error in rule["ErrorEquals"]}, name
        if again and name not in RUNS_A_WORKFLOW:
            assert again[-1]["ErrorEquals"] == ["States.ALL"], name


@every_definition
def test_a_permanent_error_that_a_task_catches_is_not_retried_by_a_rule_for_all(path: Path) -> None:
    for name, state in states_of(read(path)):
        caught = {error for catch in state.get("Catch", []) for error in catch["ErrorEquals"]}
        if state.get("Retry"):
            assert caught & PERMANENT <= retries_of(state)[0], name


@every_definition
def test_every_task_has_a_time_out(path: Path) -> None:
    tasks = [(name, state) for name, state in states_of(read(path)) if state["Type"] == "Task"]

    assert [name for name, state in tasks if "TimeoutSeconds" not in state] == []


def expressions_in(value: Any) -> list[str]:
    """The expressions, with substitutions for numbers and for parts of text."""
    texts = [text for text in strings_in(value) if "{%" in text]
    assert all(text.startswith("{% ") and text.endswith(" %}") for text in texts)
    return [re.sub(r"\$\{\w+\}", "1", text[3:-3]) for text in texts]


@every_definition
def test_an_expression_reads_its_input_only_through_states(path: Path) -> None:
    """AWS refuses a bare name, `$` and `$$` at the top of an expression: UNSUPPORTED_JSONATA_EXPRESSION."""
    expressions = expressions_in(read(path))

    assert expressions
    assert {expression: found for expression in expressions if (found := uses(expression).bare)} == {}


@every_definition
def test_an_expression_is_one_line_of_bounded_length(path: Path) -> None:
    """The AWS validator rejects line breaks in an expression; readers reject longer expressions."""
    expressions = [text for text in strings_in(read(path)) if "{%" in text]

    assert [expression for expression in expressions if "\n" in expression or len(expression) > 600] == []


@pytest.mark.parametrize(
    ("expression", "bare"),
    [
        ("name", {"name"}),
        ("$", {"$"}),
        ("$sum($$.a)", {"$$"}),
        ("$map($x, function($v) { $v & y })", {"y"}),
        ("*", {"*"}),
    ],
)
def test_a_name_outside_states_is_noticed(expression: str, bare: set[str]) -> None:
    assert uses(expression).bare == bare


# ----------------------------------------------------------------------------------------------------- variables ---

Edge = tuple[str, set[str]]


def edges_of(state: dict[str, Any]) -> Iterator[Edge]:
    """Each state that may follow, with the variables that are assigned on the way."""
    for rule in state.get("Choices", []):
        yield rule["Next"], set(rule.get("Assign", {}))
    for rule in state.get("Catch", []):
        yield rule["Next"], set(rule.get("Assign", {}))
    for name in ("Next", "Default"):
        if name in state:
            yield state[name], set(state.get("Assign", {}))


def scopes_of(
    machine: dict[str, Any], known: frozenset[str] = frozenset()
) -> Iterator[tuple[dict[str, Any], dict[str, set[str]]]]:
    """Each scope (the machine, each Map's processor), with the variables that certainly exist when a state begins."""
    states = machine["States"]
    begin: dict[str, set[str]] = {machine["StartAt"]: set(known)}
    waiting = [machine["StartAt"]]
    while waiting:
        name = waiting.pop()
        for target, assigned in edges_of(states[name]):
            reached = begin[name] | assigned
            if target not in begin or not begin[target] <= reached:
                begin[target] = reached & begin.get(target, reached)
                waiting.append(target)
    yield machine, begin
    for name, state in states.items():
        for inner in [state.get("ItemProcessor"), *state.get("Branches", [])]:
            if inner:
                # A distributed Map's children are separate executions, which do not see their parent's variables.
                distributed = inner.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED"
                yield from scopes_of(inner, frozenset() if distributed else frozenset(begin[name]))


def assigned_in(machine: dict[str, Any]) -> set[str]:
    return {name for state in machine["States"].values() for _, assigned in edges_of(state) for name in assigned}


def twice_assigned(machine: dict[str, Any], outside: frozenset[str] = frozenset()) -> set[str]:
    """Variables that are assigned in a scope and also in an outer scope, which AWS refuses."""
    here = assigned_in(machine)
    found = here & outside
    for state in machine["States"].values():
        for inner in [state.get("ItemProcessor"), *state.get("Branches", [])]:
            if inner:
                found |= twice_assigned(inner, outside | here)
    return found


@every_definition
def test_no_variable_is_assigned_in_a_scope_and_in_one_around_it(path: Path) -> None:
    """https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html"""
    assert twice_assigned(read(path)) == set()


def read_too_early(machine: dict[str, Any]) -> set[tuple[str, str]]:
    """The states that read a variable before it is certainly assigned, with the variable."""
    found = set()
    for scope, begin in scopes_of(machine):
        for name, state in scope["States"].items():
            own = {key: value for key, value in state.items() if key not in {"ItemProcessor", "Branches"}}
            for expression in expressions_in(own):
                found |= {(name, variable) for variable in uses(expression).variables - begin.get(name, set())}
    return found


@every_definition
def test_no_variable_is_read_before_it_is_assigned(path: Path) -> None:
    assert read_too_early(read(path)) == set()


def test_a_variable_in_two_scopes_and_one_read_too_early_are_noticed() -> None:
    states = {
        "Count": {"Type": "Pass", "Assign": {"started": 0}, "Next": "Done"},
        "Done": {"Type": "Pass", "Output": "{% $other %}", "End": True},
    }
    processor = {"StartAt": "Count", "States": states}
    outer = {"Type": "Map", "ItemProcessor": processor, "Assign": {"started": 1}, "Next": "End"}
    machine = {"StartAt": "Each", "States": {"Each": outer, "End": {"Type": "Succeed"}}}

    assert twice_assigned(machine) == {"started"}
    assert read_too_early(machine) == {("Done", "other")}


@every_definition
def test_results_and_errors_are_read_only_where_they_exist(path: Path) -> None:
    for name, state in states_of(read(path)):
        for rule in [*state.get("Catch", []), *state.get("Choices", [])]:
            for expression in expressions_in(rule):
                assert not any(each.startswith("result") for each in uses(expression).states), name
        for rule in state.get("Choices", []):
            for expression in expressions_in(rule):
                assert not any(each.startswith("errorOutput") for each in uses(expression).states), name
        own = {
            key: value for key, value in state.items() if key not in {"ItemProcessor", "Branches", "Catch", "Choices"}
        }
        before = {key: value for key, value in own.items() if key not in {"Assign", "Output"}}
        has_result = state["Type"] in {"Task", "Map", "Parallel"}
        for expression in expressions_in(own):
            assert not any(each.startswith("errorOutput") for each in uses(expression).states), name
        for expression in expressions_in(before if has_result else own):
            assert not any(each.startswith("result") for each in uses(expression).states), name


def test_every_path_through_the_photo_s_workflow_ends_in_a_named_state() -> None:
    states = definition_of("ClassifyPhoto")["States"]
    ends = {name: state.get("Error") for name, state in states.items() if state["Type"] in {"Succeed", "Fail"}}

    assert ends == {
        "AlreadyClaimed": None,
        "NotAPhoto": None,
        "VehicleRouted": None,
        "InvalidInput": "InvalidInput",
        "LowConfidence": "LowConfidence",
        "PhotoRejected": "PhotoRejected",
        "ClassificationFailed": "ClassificationFailed",
    }


@every_definition
def test_every_line_of_a_definition_can_be_read_without_scrolling(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if len(line) > 120] == []
