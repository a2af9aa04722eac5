"""Reads the template before it is deployed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


class _Loader(yaml.CSafeLoader):
    """Reads CloudFormation short forms, such as !Ref, as long forms."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, object]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        return {name: value.split(".", 1) if suffix == "GetAtt" else value}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _long_form)


def read_template(path: Path = ROOT / "template.yaml") -> dict[str, Any]:
    """Return the template with every short form expanded."""
    return dict(json.loads(_as_json(path.read_text())))


@cache
def _as_json(template: str) -> str:
    """Return a template as JSON, which is read a hundred times faster than YAML."""
    return json.dumps(yaml.load(template, _Loader))  # noqa: S506 - a safe loader


def read_definition(path: Path) -> dict[str, Any]:
    """Return a state machine's definition, before substitutions."""
    return dict(yaml.load(path.read_text(), yaml.CSafeLoader))


@cache
def _parameters() -> dict[str, dict[str, Any]]:
    return dict(read_template()["Parameters"])


def parameter_default(name: str) -> str:
    """Return the default of a parameter, as text."""
    return str(_parameters()[name]["Default"])
