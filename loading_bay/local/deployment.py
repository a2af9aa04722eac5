"""Builds and deploys the real template to the local AWS.

This module holds every difference from the cloud: the functions run on this machine's Python and processor, and
resources that the local AWS does not know are left out.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loading_bay.stack.deployed import STACK_NAME
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import make
from loading_bay.stack.template import ROOT, read_definition, read_template

from .processes import MARK

# The endpoint and the functions run on this Python, even if another one runs the command.
PYTHON = ROOT / ".venv" / "bin" / "python"
SAM = PYTHON.parent / "sam"

# With a custom runtime, the local AWS calls functions like AWS, through the AWS runtime client. Then exceptions reach
# Step Functions under their class names, which the emulator's Python runtimes do not pass on.
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH="$LAMBDA_TASK_ROOT" AWS_LAMBDA_LOG_FORMAT=JSON
exec "{python}" -m awslambdaric "$_HANDLER"
"""


# JSONata reference → the beginning of the JSONPath to the same value.
EXPRESSION = re.compile(r"\{% \$states\.(input|context)\.([\w.]+) %\}")
ROOTS = {"input": "$", "context": "$$"}


def render_local(template: dict[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the template in the form that the local AWS accepts."""
    function = template["Globals"]["Function"]
    function |= on_this_machine(ROOT / function["CodeUri"])
    # It refuses alarms on metric math, and lacks the metrics that AWS publishes and the registry of schemas.
    template["Resources"] = {
        name: resource
        for name, resource in template["Resources"].items()
        if "Metrics" not in resource.get("Properties", {}) and not resource["Type"].startswith("AWS::EventSchemas::")
    }
    concurrency = parameters.get("BatchMaxConcurrency", template["Parameters"]["BatchMaxConcurrency"]["Default"])
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            machine = resource["Properties"]
            definition = read_definition(ROOT / machine.pop("DefinitionS3Location"))
            _with_maps_in_jsonpath(definition, int(concurrency))
            # It returns received messages as the older SQS protocol did: one as an object, several as a list.
            if receive := definition["States"].get("ReceiveMessages"):
                one_or_more = "$type($states.result) = 'array' ? $states.result : $states.result.Message"
                receive["Output"] = f"{{% [{one_or_more}] %}}"
            machine["DefinitionString"] = json.dumps(definition)
    return template


def on_this_machine(code: Path) -> dict[str, object]:
    """Return the properties with which a function whose code is in this folder runs here, after `add_bootstrap`."""
    # Paths are relative to the template, and the rendered template is in another folder.
    machine = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"
    return {"Runtime": "provided.al2023", "CodeUri": str(code), "Architectures": [machine]}


def add_bootstrap(package: Path) -> None:
    """Add to a function's package the program that starts it here."""
    bootstrap = package / "bootstrap"
    bootstrap.write_text(BOOTSTRAP.format(python=PYTHON))
    bootstrap.chmod(0o755)


def _with_maps_in_jsonpath(definition: dict[str, Any], concurrency: int) -> None:
    """Rewrite the distributed Maps of a definition: the local AWS does not evaluate JSONata in their fields.

    It reads JSONPaths there, and a constant concurrency.
    """
    states = list(_states(definition))
    maps = [state for state in states if "ItemReader" in state]
    if not maps:
        return
    language = definition.pop("QueryLanguage")
    for state in states:
        state["QueryLanguage"] = language
    for state in maps:
        del state["QueryLanguage"], state["Output"]
        state["MaxConcurrency"] = concurrency
        state["ItemSelector"] = _as_paths(state["ItemSelector"])
        for field in ("ItemReader", "ResultWriter"):
            state[field]["Parameters"] = _as_paths(state[field].pop("Arguments"))
        state["ResultPath"] = None
        state["Catch"] = [{"ErrorEquals": each["ErrorEquals"], "Next": each["Next"]} for each in state["Catch"]]


def _states(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for state in machine["States"].values():
        yield state
        if "ItemProcessor" in state:
            yield from _states(state["ItemProcessor"])


def _as_paths(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields with a path in place of each `{% $states.input.… %}` or `{% $states.context.… %}`."""
    found: dict[str, str] = {}
    for name, value in fields.items():
        path = EXPRESSION.fullmatch(value)
        found |= {f"{name}.$": f"{ROOTS[path[1]]}.{path[2]}"} if path else {name: value}
    return found


def build(folder: Path, parameters: Mapping[str, str]) -> None:
    """Build the template into `folder`.

    Raises:
        UserError: SAM is missing, or failed; its output is in `folder`.
    """
    if not SAM.exists():
        raise UserError(f"SAM CLI is not installed here; run: {make('setup')}")
    rendered, built = folder / "template.json", folder / "build"
    rendered.write_text(json.dumps(render_local(read_template(), parameters)))
    env = {"LAMBDA_PYTHON": str(PYTHON), "WITHOUT_PACKAGES": "1"}
    _sam(folder, ["build", "--template", str(rendered), "--build-dir", str(built)], env)
    for function in built.glob("*Function"):
        add_bootstrap(function)
    # SAM reads a template a dozen times: each takes milliseconds for JSON, half a second for YAML.
    template = built / "template.yaml"
    template.write_text(json.dumps(read_template(template)))


def deploy(
    folder: Path, env: Mapping[str, str], parameters: Mapping[str, str], bucket: str, *, name: str = STACK_NAME
) -> None:
    """Deploy the template that was built in `folder` to the local AWS of `env`; the code goes through the bucket.

    Raises:
        UserError: SAM failed; its output is in `folder`.
    """
    built = folder / "build"
    command = ["deploy", "--template", str(built / "template.yaml"), "--stack-name", name]
    command += ["--s3-bucket", bucket, "--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", "--use-json"]
    command += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
    _sam(folder, command, {**env, "SAM_CLI_POLL_DELAY": "0.3"})
    shutil.rmtree(built)


def _sam(folder: Path, arguments: list[str], env: Mapping[str, str]) -> None:
    log = folder / f"sam-{arguments[0]}.log"
    with log.open("w") as output:
        done = subprocess.run(
            [str(SAM), *arguments],
            check=False,
            cwd=ROOT,
            env={**os.environ, **env, "SAM_CLI_TELEMETRY": "0", MARK: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        said = "; ".join(lines[-3:])
        raise UserError(f"sam {arguments[0]} failed: {said} (all of it in {log})")
