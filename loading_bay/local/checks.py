"""Checks the options of `up` before anything starts: the template's parameters, and the model."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from functions.decisions.classes import parse_classes
from loading_bay.stack.addresses import require_separate
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.stack.template import parameter_default, read_template
from training.container.serve import Model


def check_parameters(given: Mapping[str, str]) -> None:
    """Check every value against the constraints in the template.

    Raises:
        UserError: the template does not define the parameter, or does not accept its value.
    """
    known = read_template()["Parameters"]
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise UserError(f"the template does not define a parameter {name}; {hint}")
        if wanted := unmet(known[name], value):
            raise UserError(f"{name} cannot be {value!r}: {wanted}")
    require_separate(*(given.get(name, parameter_default(name)) for name in ("UploadPrefix", "BatchPrefix")))


def unmet(parameter: Mapping[str, Any], value: str) -> str:
    """Return the constraint of a parameter that a value violates, if any."""
    if allowed := parameter.get("AllowedValues"):
        return "" if value in map(str, allowed) else f"one of {', '.join(map(str, allowed))}"
    if "AllowedPattern" in parameter and not re.fullmatch(parameter["AllowedPattern"], value):
        return f"it must match {parameter['AllowedPattern']}"
    if len(value) > parameter.get("MaxLength", len(value)):
        return f"at most {parameter['MaxLength']} characters"
    if parameter["Type"] == "Number":
        low, high = parameter["MinValue"], parameter["MaxValue"]
        try:
            fits = low <= float(value) <= high
        except ValueError:
            fits = False
        return "" if fits else f"a number from {low} to {high}"
    return ""


def check_model(path: Path, parameters: Mapping[str, str]) -> None:
    """Open the model, and compare its classes with those of the stack.

    Raises:
        UserError: the file is missing, is not a model, or was trained for other classes.
    """
    try:
        found = Model.load(path, threads=1).class_names
    except FileNotFoundError:
        raise UserError(f"no model at {path}; train one with: {command('model', 'train')}") from None
    except Exception as error:  # the errors of onnxruntime do not share a base class
        raise UserError(f"{path} is not a model for this endpoint: {' '.join(str(error).split())[:200]}") from error
    wanted = parameters.get("VehicleClasses", parameter_default("VehicleClasses"))
    names = list(parse_classes(wanted))
    if found != names:
        raise UserError(
            f"{path} was trained for {', '.join(found)}, but the stack expects {', '.join(names)}: "
            "give --parameter VehicleClasses=NAME:BAY:ORDERS,… in the model's order, or another --model"
        )
