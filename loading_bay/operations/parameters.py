"""Compares the parameters of a deployed stack with samconfig.toml."""

import shlex
import tomllib
from pathlib import Path

from loading_bay.stack.deployed import Deployed
from loading_bay.stack.template import ROOT, parameter_default, read_template

SAMCONFIG = ROOT / "samconfig.toml"


def described(deployed: Deployed, *, compare: bool, samconfig: Path = SAMCONFIG) -> str:
    """Return region, account, and each parameter that differs from the template's default or from samconfig.toml.

    Args:
        deployed: the stack.
        compare: whether samconfig.toml describes this stack.
        samconfig: the path of samconfig.toml.
    """
    _, _, _, region, account, *_ = deployed.outputs["StateMachineArn"].split(":")
    written = overrides(deployed.outputs["StackName"], samconfig) if compare else {}
    found = []
    for name in read_template()["Parameters"]:
        default = parameter_default(name)
        value = deployed.parameters.get(name, default)
        wanted = written.get(name, default)
        if compare and value != wanted:
            found.append(f"{name}={value} (samconfig.toml: {wanted or 'empty'})")
        elif value != default:
            found.append(f"{name}={value}")
    return f"{region}, account {account}; " + (", ".join(found) or "every parameter has its default")


def overrides(stack_name: str, samconfig: Path = SAMCONFIG) -> dict[str, str]:
    """Return the parameters that samconfig.toml gives this stack; empty if the file does not name the stack.

    SAM accepts them as one string of NAME=VALUE pairs, or as a list of these pairs.
    """
    if not samconfig.exists():
        return {}
    for section in tomllib.loads(samconfig.read_text()).values():
        given = section.get("deploy", {}).get("parameters", {}) if isinstance(section, dict) else {}
        if given.get("stack_name") == stack_name:
            texts = given.get("parameter_overrides", "")
            pairs = shlex.split(texts) if isinstance(texts, str) else texts
            return dict(pair.split("=", 1) for pair in pairs)
    return {}
