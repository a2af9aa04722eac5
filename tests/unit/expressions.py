"""Reads the JSONata expressions of a definition: their variables, and the input that they use without `$states`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonata

# The attributes of a syntax tree's node in jsonata-python that contain other nodes.
PARTS = (
    "expressions", "lhs", "rhs", "procedure", "arguments", "body", "condition", "then", "_else", "lhs_object",
    "expression", "expr", "group", "terms",
)  # fmt: skip
# Functions that Step Functions adds to JSONata:
# https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html#jsonata-functions
FUNCTIONS = {"hash", "parse", "partition", "random", "range", "uuid", *jsonata.Jsonata.static_frame.bindings}


@dataclass
class Uses:
    """The workflow variables that an expression uses, the paths below `$states`, and names outside both."""

    variables: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)


def uses(expression: str) -> Uses:
    """Read an expression, given without its `{%` and `%}`."""
    found = Uses()
    _read(jsonata.Jsonata(expression).ast, found, frozenset(), at_top=True)
    return found


def _read(node: Any, found: Uses, local: frozenset[str], *, at_top: bool) -> frozenset[str]:
    """Read a node; return the local names bound after it. At the top, the context is the whole input."""
    if isinstance(node, (list, tuple)):
        for each in node:
            local = _read(each, found, local, at_top=at_top)
        return local
    kind = getattr(node, "type", None)
    if kind == "variable":
        _variable(str(node.value), found, local)
    elif kind in {"name", "wildcard", "descendant"} and at_top:
        found.bare.add(str(node.value))
    elif kind == "path":
        _path(node, found, local, at_top=at_top)
    elif kind == "bind":
        inner = local | {str(node.lhs.value)}
        _read(node.rhs, found, inner, at_top=at_top)  # a function may call itself
        return inner
    elif kind == "lambda":
        arguments = {str(each.value) for each in node.arguments}
        _read(node.body, found, local | arguments, at_top=at_top)
    elif kind == "block":
        _read(node.expressions, found, local, at_top=at_top)
    elif kind is not None:
        for part in _parts(node):
            _read(part, found, local, at_top=at_top)
    return local


def _parts(node: Any) -> Iterator[Any]:
    return (part for name in PARTS if (part := getattr(node, name, None)) not in (None, False))


def _path(node: Any, found: Uses, local: frozenset[str], *, at_top: bool) -> None:
    first, *steps = node.steps
    if getattr(first, "value", None) == "states" and first.type == "variable":
        found.states.add(".".join(str(step.value) for step in steps if step.type == "name"))
    else:
        _read(first, found, local, at_top=at_top)
    for step in node.steps:
        for inside in (*(step.stages or []), *(step.predicate or [])):
            _read(inside.expr, found, local, at_top=False)
    for step in steps:
        if step.type != "name":
            _read(step, found, local, at_top=False)
    if node.group:
        _read(node.group, found, local, at_top=False)


def _variable(name: str, found: Uses, local: frozenset[str]) -> None:
    if name in {"", "$"}:  # AWS accepts them below the top, other interpreters do not
        found.bare.add(f"${name}")
    elif name == "states":
        found.states.add("")
    elif name not in local | FUNCTIONS:
        found.variables.add(name)
