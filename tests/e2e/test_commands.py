"""The commands of the documents, one after the other, as a user types them."""

import json
import re
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from .conftest import Run

LOADING_BAY = "loading-bay"


def watch_for(run: Run, pattern: str) -> str:
    """Return what `watch` shows as soon as it shows the pattern, or after half a minute."""
    shown = ""
    for _ in range(30):
        shown = run(LOADING_BAY, "watch", "--local", "--once").stdout
        if re.search(pattern, shown):
            break
    return shown


@pytest.fixture(scope="module")
def stack(run: Run) -> Iterator[dict[str, str]]:
    """Bring the stack up, put the samples into its inbox, and return what `up` says to export."""
    up = run(LOADING_BAY, "up", MAKEFLAGS=" -- PYTHON=/nonexistent")  # as make PYTHON=… hands it on
    assert up.returncode == 0, up.stdout + up.stderr
    run(LOADING_BAY, "upload", "events/photos")
    yield dict(re.findall(r"^export (\w+)=(.+)$", up.stdout, re.MULTILINE))
    run(LOADING_BAY, "down")


@pytest.fixture(scope="module")
def no_stack(run: Run) -> None:
    """Take down the stack that the tests before this one shared."""
    run(LOADING_BAY, "down")


def test_plain_aws_tools_upload_a_photo_with_what_up_prints(run: Run, stack: dict[str, str]) -> None:
    bucket = run(LOADING_BAY, "status").stdout.split("InboxBucket")[1].split()[0]
    photo = "events/photos/motorcycle-right.heic"
    script = f"import boto3; boto3.client('s3').upload_file('{photo}', '{bucket}', 'uploads/from-sdk.heic')"

    assert run("python", "-c", script, **stack).returncode == 0

    routed = r"ROUTED\s+motorcycle .*from-sdk.heic"
    assert re.search(routed, watch_for(run, routed))


def test_upload_watch_status_and_logs_tell_what_happens(run: Run, stack: dict[str, str]) -> None:
    uploaded = run(LOADING_BAY, "upload", "events/photos/bicycle-road.jpg", "events/photos/text.jpg")
    assert "2 of 2 files are in s3://" in uploaded.stdout

    watched = watch_for(run, r"(?s)(?=.*/bicycle-road.jpg)(?=.*/text.jpg)")

    assert re.search(r"ROUTED\s+bicycle 0\.9\d+ 1 near uploads/bicycle-road.jpg", watched), watched
    assert re.search(r"REJECTED\s+UnreadablePhoto - - - uploads/text.jpg", watched), watched
    assert "REJECTED" in run(LOADING_BAY, "status").stdout
    lines = run(LOADING_BAY, "logs", "serialize", "--lines", "1000").stdout.splitlines()
    rejected = [json.loads(line) for line in lines if '"photo rejected"' in line]
    (logged,) = [each for each in rejected if each["s3_key"] == "uploads/text.jpg"]
    assert ":execution:" in logged["execution_arn"]
    assert datetime.fromisoformat(logged["timestamp"]).tzinfo, "Lambda takes a line for one of level INFO otherwise"


@pytest.mark.parametrize(
    ("target", "event", "adds"),
    [
        ("serialize", "serialize.json", {"image_data", "content_type", "photo", "uploaded_at"}),
        ("inference", "inference.json", {"inferences", "variant"}),
        ("threshold", "threshold.json", {"vehicle", "confidence"}),
    ],
)
def test_each_function_runs_alone_on_its_sample(
    run: Run, stack: dict[str, str], target: str, event: str, adds: set[str]
) -> None:
    done = run(LOADING_BAY, "invoke", target, f"events/{event}")

    assert done.returncode == 0, done.stderr
    assert adds <= set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("target", "event", "error"),
    [
        ("serialize", "serialize_not_a_photo.json", "UnreadablePhoto"),
        ("inference", "inference_not_a_picture.json", "InvalidPrediction"),
        ("threshold", "threshold_unsure.json", "LowConfidence"),
    ],
)
def test_each_function_fails_by_name_on_its_failing_sample(
    run: Run, stack: dict[str, str], target: str, event: str, error: str
) -> None:
    done = run(LOADING_BAY, "invoke", target, f"events/{event}")

    assert done.returncode == 1
    assert error in done.stderr


@pytest.mark.parametrize(
    ("event", "status"), [("classify_photo.json", "ROUTED"), ("photo_uploaded.json", "ALREADY_CLAIMED")]
)
def test_the_workflow_takes_its_samples(run: Run, stack: dict[str, str], event: str, status: str) -> None:
    assert run(LOADING_BAY, "upload", "--prefix", "backfill", "events/photos/motorcycle-left.png").returncode == 0

    done = run(LOADING_BAY, "invoke", "photo", f"events/{event}")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == status


def test_a_batch_runs_from_the_command_line(run: Run, stack: dict[str, str]) -> None:
    done = run(LOADING_BAY, "batch", "start", "--local", "--prefix", "uploads/photos/", "--wait", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["photos"] >= 11


def test_the_template_builds_for_lambda_from_any_python(run: Run, checkout: Path) -> None:
    built = run("sam", "build", SAM_CLI_TELEMETRY="0")

    assert built.returncode == 0, built.stderr
    libraries = list((checkout / ".aws-sam/build/SerializeFunction").rglob("*.so"))
    assert any("cpython-313-aarch64" in library.name for library in libraries)
    for library in libraries:
        machine = struct.unpack("<H", library.read_bytes()[18:20])[0]
        assert machine == 183, f"{library.name} is not for arm64"  # EM_AARCH64 of the ELF header


# How sam local invoke reads a template: with values for its parameters, to the environment of each function.
SAM_READS = """
import json, sys
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
stacks, _ = SamLocalStackProvider.get_stacks(sys.argv[1], parameter_overrides=json.loads(sys.argv[2]))
found = SamFunctionProvider(stacks).get_all()
print(json.dumps({each.function_id: each.environment["Variables"] | {"on": each.architectures} for each in found}))
"""


@pytest.mark.parametrize("given", [{}, {"EndpointUrl": "http://here:1", "Architecture": "x86_64"}])
def test_sam_local_invoke_finds_a_value_for_every_variable(run: Run, given: dict[str, str]) -> None:
    read = run("python", "-c", SAM_READS, "template.yaml", json.dumps(given))

    assert read.returncode == 0, read.stderr
    functions = json.loads(read.stdout)
    for name, variables in functions.items():
        unresolved = {variable for variable, value in variables.items() if isinstance(value, dict)}
        assert not unresolved, name
        assert variables["on"] == [given.get("Architecture", "arm64")]
    assert float(functions["ThresholdFunction"]["CONFIDENCE_THRESHOLD"]) == 0.9
    assert functions["InferenceFunction"]["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == given.get("EndpointUrl", "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((LOADING_BAY, "status"), "no local stack is running; start one with: loading-bay up"),
        ((LOADING_BAY, "up", "--model", "nothing.onnx"), "there is no model at"),
        ((LOADING_BAY, "up", "--parameter", "nonsense"), "--parameter wants NAME=VALUE"),
        ((LOADING_BAY, "up", "--parameter", "ConfidenceThreshold=2"), "a number from 0 to 1"),
        ((LOADING_BAY, "upload", "no-such-photo.jpg"), "does not exist"),
    ],
)
@pytest.mark.usefixtures("no_stack")
def test_a_mistake_gets_one_line_that_says_what_to_do(run: Run, command: tuple[str, ...], said: str) -> None:
    done = run(*command)

    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
