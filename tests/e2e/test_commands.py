"""The documented commands as a user types them, during the life of a stack: started, used and stopped."""

import json
import re
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from loading_bay.local import processes
from loading_bay.stack.template import ROOT

from .conftest import Run, Running

LOADING_BAY = "loading-bay"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands that bring the stack up and down, stay until Ctrl-C, or have tests elsewhere.
LEFT_OUT = re.compile(r"loading-bay (up|down|demo|check|model|report)\b")
# Commands for any stack; the others are only for this machine.
ANY_STACK = re.compile(r"loading-bay (watch|explain|replay|presign|erase|(batch|review|reviewers|drivers) [a-z]+)")
STANDS_FOR = {
    "PHOTO": "uploads/photos/bicycle-road.jpg",
    "KEY": "uploads/photos/bicycle-road.jpg",
    "VEHICLE": "bicycle",
    "DRIVER": "driver-7",
    "NAME": "march",
    "--stack-name loading-bay-prod": "",
    " --follow": "",
    "loading-bay watch": "loading-bay watch --once",
}


@dataclass(frozen=True)
class Up:
    """A stack that came up after a killed `up`: the variables for other tools, and a second `up` during the first."""

    exports: dict[str, str]
    while_busy: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def up(run: Run, running: Running) -> Iterator[Up]:
    """Bring the stack up, after a first attempt was killed, and put the samples into its inbox."""
    with running(LOADING_BAY, "up", until="sam build") as killed:
        while_busy = run(LOADING_BAY, "up")
        killed.kill()
    done = run(LOADING_BAY, "up", MAKEFLAGS=" -- PYTHON=/nonexistent")  # as make PYTHON=… hands it on
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(LOADING_BAY, "upload", "events/photos").returncode == 0
    yield Up(dict(re.findall(r"^export (\w+)=(.+)$", done.stdout, re.MULTILINE)), while_busy)
    run(LOADING_BAY, "down")


@pytest.fixture(scope="module")
def used(up: Up, run: Run, running: Running, checkout: Path) -> None:
    """Put into the stack everything that the documents mention: photos here and in the inbox, a batch, a manifest."""
    shutil.copy(checkout / "events/photos/bicycle-road.jpg", checkout / "photo.jpg")
    shutil.copytree(checkout / "events/photos", checkout / "folder", dirs_exist_ok=True)
    (checkout / "photos.csv").write_text("s3_key\nbackfill/2026/photo.jpg\n")
    assert run(LOADING_BAY, "upload", "--prefix", "backfill/2026/", "photo.jpg").returncode == 0
    with running(LOADING_BAY, "watch", "--local", until="bicycle-road.jpg"):
        pass
    batch = "loading-bay batch start --local --manifest photos.csv --name march --wait"
    assert run(*batch.split()).returncode == 0


@pytest.fixture(scope="module")
def no_stack(run: Run) -> None:
    """Take down the stack that the tests before this one shared."""
    run(LOADING_BAY, "down")


def test_two_commands_do_not_start_one_stack(up: Up) -> None:
    assert up.while_busy.returncode == 1
    assert "another command is using the stack" in up.while_busy.stderr


def test_up_on_a_stack_that_runs_says_so(up: Up, run: Run) -> None:
    again = run(LOADING_BAY, "up")

    assert again.returncode == 0
    assert "is already running" in again.stdout
    assert dict(re.findall(r"^export (\w+)=(.+)$", again.stdout, re.MULTILINE)) == up.exports


@pytest.mark.usefixtures("up")
def test_only_the_owner_can_read_the_stack_s_data(checkout: Path) -> None:
    folder = checkout / ".local"

    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in (".", "run", "capture")} == {0o700}
    assert list((folder / "run").rglob("*.pem")), "the key that signs tokens is kept elsewhere"


def test_a_tool_that_ignores_the_endpoint_does_not_reach_aws(up: Up) -> None:
    session: Any = boto3.Session()

    assert up.exports["AWS_DEFAULT_REGION"] not in {
        region for service in ("sqs", "s3", "sts") for region in session.get_available_regions(service)
    }


def test_aws_tools_upload_a_photo_with_the_variables_from_up(run: Run, running: Running, up: Up) -> None:
    bucket = run(LOADING_BAY, "status").stdout.split("InboxBucket")[1].split()[0]
    photo = "events/photos/motorcycle-right.heic"
    script = f"import boto3; boto3.client('s3').upload_file('{photo}', '{bucket}', 'uploads/from-sdk.heic')"

    assert run("python", "-c", script, **up.exports).returncode == 0

    with running(LOADING_BAY, "watch", "--local", until=r"ROUTED\s+motorcycle .*from-sdk.heic"):
        pass


@pytest.mark.usefixtures("up")
def test_upload_watch_status_and_logs_show_progress(run: Run, running: Running) -> None:
    uploaded = run(LOADING_BAY, "upload", "events/photos/bicycle-road.jpg", "events/photos/text.jpg")
    assert "2 of 2 files are in s3://" in uploaded.stdout

    for line in (
        r"ROUTED\s+bicycle 0\.9\d+ 1 near - uploads/bicycle-road.jpg",
        r"REJECTED\s+UnreadablePhoto - - - - uploads/text.jpg",
    ):
        with running(LOADING_BAY, "watch", "--local", until=line):
            pass
    assert "REJECTED" in run(LOADING_BAY, "status").stdout
    lines = run(LOADING_BAY, "logs", "serialize", "--lines", "1000").stdout.splitlines()
    rejected = [json.loads(line) for line in lines if '"photo rejected"' in line]
    (logged,) = [each for each in rejected if each["s3_key"] == "uploads/text.jpg"]
    assert ":execution:" in logged["execution_arn"]
    assert datetime.fromisoformat(logged["timestamp"]).tzinfo, "otherwise Lambda treats a line as INFO"


@pytest.mark.parametrize(
    ("target", "event", "adds"),
    [
        ("serialize", "serialize.json", {"image_data", "content_type", "photo", "uploaded_at"}),
        ("inference", "inference.json", {"inferences", "variant"}),
        ("threshold", "threshold.json", {"vehicle", "confidence"}),
    ],
)
@pytest.mark.usefixtures("up")
def test_each_function_runs_alone_on_its_sample(run: Run, target: str, event: str, adds: set[str]) -> None:
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
@pytest.mark.usefixtures("up")
def test_each_function_fails_by_name_on_its_failing_sample(run: Run, target: str, event: str, error: str) -> None:
    done = run(LOADING_BAY, "invoke", target, f"events/{event}")

    assert done.returncode == 1
    assert error in done.stderr


@pytest.mark.usefixtures("up")
def test_a_batch_runs_from_the_command_line(run: Run) -> None:
    done = run(LOADING_BAY, "batch", "start", "--local", "--prefix", "uploads/photos/", "--wait", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["photos"] >= 11


def shown() -> dict[str, str]:
    """Return each command of this project on a page, with the comment after it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command, _, comment = line.partition("#")
                if command.startswith("loading-bay ") and not LEFT_OUT.search(command):
                    found.setdefault(command.strip(), comment.strip())
    return found


@pytest.mark.parametrize(("command", "comment"), shown().items(), ids=shown())
@pytest.mark.usefixtures("used")
def test_a_documented_command_works(run: Run, command: str, comment: str) -> None:
    for word, meant in STANDS_FOR.items():
        command = command.replace(word, meant)
    if "--local" not in command:
        command = ANY_STACK.sub(r"\g<0> --local", command, count=1)

    done = run("sh", "-c", command)

    fails = re.match(r"fails: (\w+)", comment)
    assert (done.returncode != 0) == bool(fails), done.stdout + done.stderr
    assert fails is None or fails[1] in done.stderr
    assert "Traceback" not in done.stderr
    assert "ALREADY_CLAIMED" not in done.stdout


@pytest.mark.usefixtures("used")
def test_an_event_about_a_known_photo_finds_it_claimed(run: Run) -> None:
    run(LOADING_BAY, "upload", "--prefix", "backfill", "events/photos/motorcycle-left.png")
    run(LOADING_BAY, "invoke", "photo", "events/classify_photo.json")

    done = run(LOADING_BAY, "invoke", "photo", "events/photo_uploaded.json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ALREADY_CLAIMED"


def test_the_documents_have_commands() -> None:
    assert len(shown()) > 15


@pytest.mark.usefixtures("used")
def test_a_report_on_a_stack_has_the_captures_of_that_stack(run: Run, checkout: Path) -> None:
    earlier = checkout / ".local/capture/20260101-000000/loading-bay/AllTraffic/2026/01/01/00/00-00-000-earlier.jsonl"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("from an earlier stack\n")

    done = run(LOADING_BAY, "report", "--local", "--json", "--output", ".local/report")

    assert done.returncode == 0, done.stderr
    found = json.loads((checkout / ".local/report/metrics.json").read_text())
    assert found["predictions"] > 0
    assert found["skipped"] == {}


@pytest.mark.usefixtures("up")
def test_a_stack_without_its_endpoint_or_record_does_not_run_and_down_ends_the_rest(run: Run, checkout: Path) -> None:
    folder = checkout / ".local"
    (endpoint,) = [each for each in processes.of_stack(folder) if "loading_bay.local.endpoint" in each.cmdline()]

    endpoint.kill()

    assert "no local stack is running" in run(LOADING_BAY, "status").stderr
    (folder / "stack.json").write_text('{"aws_url": "http://127.')
    assert "no local stack is running" in run(LOADING_BAY, "status").stderr
    assert "stopped" in run(LOADING_BAY, "down").stdout
    assert processes.of_stack(folder) == []
    assert not (folder / "run").exists()
    nothing = run(LOADING_BAY, "down")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing was running\n")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((LOADING_BAY, "status"), "no local stack is running; start one with: loading-bay up"),
        ((LOADING_BAY, "up", "--model", "nothing.onnx"), "no model at"),
        ((LOADING_BAY, "up", "--parameter", "nonsense"), "--parameter needs NAME=VALUE"),
        ((LOADING_BAY, "up", "--parameter", "ConfidenceThreshold=2"), "a number from 0 to 1"),
        ((LOADING_BAY, "upload", "no-such-photo.jpg"), "does not exist"),
    ],
)
@pytest.mark.usefixtures("no_stack")
def test_a_mistake_gets_one_line_with_a_remedy(run: Run, command: tuple[str, ...], said: str) -> None:
    done = run(*command)

    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_hint_works_from_any_folder_where_the_command_is_not_on_the_path(run: Run, checkout: Path) -> None:
    elsewhere = checkout / ".venv/bin" / LOADING_BAY

    said = run(str(elsewhere), "status", PATH="/usr/bin:/bin").stderr

    hint = said.partition("start one with: ")[2]
    assert (
        run("sh", "-c", f"cd / && {hint.rstrip().removesuffix(' up')} --version", PATH="/usr/bin:/bin").returncode == 0
    )


# Settings of pip that install into the user's folder, or refuse to install.
PIP_SETTINGS = {"PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1", "PYTHON": f"{sys.base_prefix}/bin/python3"}


@pytest.fixture(scope="module")
def pip_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables with pip settings of users who restrict where it installs."""
    file = tmp_path_factory.mktemp("pip") / "pip.conf"
    file.write_text("[global]\nuser = true\nrequire-virtualenv = true\n")
    return PIP_SETTINGS | {"PIP_CONFIG_FILE": str(file)}


@pytest.mark.long
def test_the_template_builds_for_lambda_from_any_python(run: Run, checkout: Path, pip_settings: dict[str, str]) -> None:
    built = run("sam", "build", SAM_CLI_TELEMETRY="0", **pip_settings)

    assert built.returncode == 0, built.stderr
    libraries = list((checkout / ".aws-sam/build/SerializeFunction").rglob("*.so"))
    assert any("cpython-313-aarch64" in library.name for library in libraries)
    for library in libraries:
        machine = struct.unpack("<H", library.read_bytes()[18:20])[0]
        assert machine == 183, f"{library.name} is not for arm64"  # EM_AARCH64 of the ELF header


@pytest.mark.long
def test_make_installs_with_any_pip_settings(run: Run, tmp_path: Path, pip_settings: dict[str, str]) -> None:
    for name in ("Makefile", "requirements/uv.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    done = run("make", "-C", str(tmp_path), ".tools/uv/bin/uv", **pip_settings)

    assert done.returncode == 0, done.stderr


# Reads the template like sam local invoke: from parameter values to the environment of each function.
SAM_READS = """
import json, sys
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
for given in json.loads(sys.argv[1]):
    stacks, _ = SamLocalStackProvider.get_stacks("template.yaml", parameter_overrides=given)
    found = SamFunctionProvider(stacks).get_all()
    print(json.dumps({each.function_id: each.environment["Variables"] | {"on": each.architectures} for each in found}))
"""


def test_sam_local_invoke_finds_a_value_for_every_variable(run: Run) -> None:
    given = [{}, {"EndpointUrl": "http://here:1", "Architecture": "x86_64"}]

    read = run("python", "-c", SAM_READS, json.dumps(given))

    assert read.returncode == 0, read.stderr
    for each, line in zip(given, read.stdout.splitlines(), strict=True):
        functions = json.loads(line)
        for name, variables in functions.items():
            unresolved = {variable for variable, value in variables.items() if isinstance(value, dict)}
            assert not unresolved, name
            assert variables["on"] == [each.get("Architecture", "arm64")]
        assert float(functions["ThresholdFunction"]["CONFIDENCE_THRESHOLD"]) == 0.9
        assert functions["InferenceFunction"]["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == each.get("EndpointUrl", "")


def test_tests_without_a_browser_end_with_a_hint(run: Run, tmp_path: Path) -> None:
    done = run(".venv/bin/pytest", "tests/e2e/test_report_page.py", "-q", PATH=str(tmp_path), CI="")

    assert re.fullmatch(r"\d+ tests were skipped: .*make setup-browser.*", done.stdout.splitlines()[-1])
