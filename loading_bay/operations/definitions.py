"""Validates the workflows' definitions on AWS: free, and without a stack."""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from loading_bay.stack.errors import AWS_ERRORS, describe
from loading_bay.stack.rendering import render_machines

from .result import CheckResult

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


def validate(stepfunctions: "SFNClient") -> Iterator[CheckResult]:
    """Yield the AWS verdict on each definition, as the template deploys it; a warning is shown but does not fail.

    https://docs.aws.amazon.com/step-functions/latest/apireference/API_ValidateStateMachineDefinition.html

    Args:
        stepfunctions: Step Functions, as a boto3 client.
    """
    for machine in render_machines():
        started = time.monotonic()
        try:
            answer = stepfunctions.validate_state_machine_definition(
                definition=json.dumps(machine.definition), type=machine.type, severity="WARNING"
            )
        except AWS_ERRORS as error:
            yield CheckResult(machine.name, "failed", round(time.monotonic() - started, 1), describe(error))
            continue
        found = "; ".join(
            f"{each['severity']} {each['code']} at {each.get('location', '/')}: {each['message']}"
            for each in answer["diagnostics"]
        )
        taken = answer["result"] == "OK"
        seconds = round(time.monotonic() - started, 1)
        yield CheckResult(machine.name, "ok" if taken else "failed", seconds, found or "AWS accepts it")
