"""The model commands: options, output, and messages when something is missing."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws
from PIL import Image

from loading_bay.cli.main import main
from loading_bay.cli.model.options import console
from loading_bay.endpoint import preflight
from loading_bay.model import predictors
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import parameter_default
from training.container.settings import THRESHOLD, Settings

ROLE = "arn:aws:iam::123456789012:role/endpoint"
MODEL = Path("training/model/model.onnx").resolve()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.delenv("SAGEMAKER_ROLE", raising=False)
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="photos")
        statement = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        boto3.client("iam").create_role(RoleName="endpoint", AssumeRolePolicyDocument=trust)
        # moto knows no quotas of SageMaker; test_preflight.py reads them.
        monkeypatch.setattr(preflight, "require_quota", lambda quotas, instance_type, needed: f"{needed} are needed")
        yield s3


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, ["model", *arguments], input=answer)


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("bicycle", "motorcycle", "cat"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 256, (90, 160, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def staged(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    result = run("stage", "--folder", str(photos), "--outliers", str(photos), "--output", str(folder))
    assert result.exit_code == 0, result.output
    return folder


def test_every_command_has_help() -> None:
    for command in ("stage", "train", "evaluate", "deploy", "status", "cleanup"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert "--" in result.output
        assert command in run("--help").output


# stage


def test_own_photos_are_staged_and_uploaded_once(account: Any, photos: Path, tmp_path: Path) -> None:
    arguments = ["stage", "--folder", str(photos), "--output", str(tmp_path / "staged"), "--bucket", "photos"]
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    sent = int(re.search(r"(\d+) files uploaded", said(first))[1])  # type: ignore[index]
    assert sent == len([path for path in (tmp_path / "staged").rglob("*") if path.is_file()])
    assert "0 files uploaded" in said(run(*arguments))
    keys = [item["Key"] for item in account.list_objects_v2(Bucket="photos")["Contents"]]
    assert "loading-bay/dataset/train.lst" in keys


def test_the_archive_may_be_named_in_the_environment(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR100_ARCHIVE", "/nonexistent/a.tar.gz")
    output = ["--output", str(tmp_path / "staged")]

    assert "/nonexistent/a.tar.gz does not exist" in said(run("stage", *output))
    assert run("stage", "--folder", str(photos), *output).exit_code == 0


def test_an_archive_with_another_checksum_gives_a_warning_and_is_used_if_valid(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"something else")
    result = run("stage", "--archive", str(path), "--output", str(tmp_path / "staged"))
    assert result.exit_code == 1
    assert "is not the published file" in said(result)
    assert "not CIFAR-100's Python archive" in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--archive", "/nonexistent/a.tar.gz"], "does not exist"),
        (["--folder", "/nonexistent"], "is not a folder"),
        (["--folder", "x", "--archive", "y"], "exclude each other"),
    ],
)
def test_a_missing_input_of_stage_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = run("stage", *arguments, "--output", str(tmp_path / "staged"))
    assert result.exit_code != 0
    assert message in said(result)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("classes", "message"), [("bicycle", "two or more different classes"), ("bicycle,tram", "has no class tram")]
)
def test_missing_classes_are_named(photos: Path, tmp_path: Path, classes: str, message: str) -> None:
    result = run("stage", "--folder", str(photos), "--classes", classes, "--output", str(tmp_path / "staged"))
    assert result.exit_code == 1
    assert message in said(result)


@pytest.mark.skipif("CIFAR100_ARCHIVE" not in os.environ, reason="CIFAR100_ARCHIVE names no archive")
def test_the_real_archive_is_staged(tmp_path: Path) -> None:
    result = run("stage", "--archive", os.environ["CIFAR100_ARCHIVE"], "--output", str(tmp_path / "staged"))
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "staged" / "dataset.json").read_text())
    assert manifest["counts"]["test"] == 200


# train


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "builtin"], "give --bucket"),
        (["--recipe", "builtin", "--bucket", "photos"], "give --role"),
        (["--recipe", "builtin", "--bucket", "photos", "--role", "trainer"], "is not a role ARN"),
        (["--recipe", "bundled", "--seeds", "one"], "is not a list of seeds"),
        (["--recipe", "builtin", "--quick"], "--quick trains the bundled recipe on this machine"),
    ],
)
def test_a_missing_input_of_train_is_one_line(staged: Path, arguments: list[str], message: str) -> None:
    result = run("train", "--data", str(staged), *arguments)
    assert result.exit_code != 0
    assert message in said(result)


@pytest.mark.parametrize("recipe", [["builtin"], ["bundled", "--on-sagemaker"]])
def test_a_missing_sdk_names_the_installation(staged: Path, monkeypatch: pytest.MonkeyPatch, recipe: list[str]) -> None:
    for name in ("sagemaker", "sagemaker.core", "sagemaker.core.helper.session_helper"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run(
        "train", "--data", str(staged), "--bucket", "photos", "--role", ROLE, "--batch", "4", "--recipe", *recipe
    )
    assert result.exit_code == 1
    assert re.search("install it with make -C .* setup-training", said(result))


def test_training_before_staging_names_the_command_to_run(tmp_path: Path) -> None:
    result = run("train", "--recipe", "bundled", "--data", str(tmp_path), "--output", str(tmp_path / "model"))
    assert result.exit_code == 1
    assert "run loading-bay model stage first" in said(result)


# evaluate


def test_the_shipped_model_is_measured_and_reported(staged: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--data", str(staged), "--model", str(MODEL), "--output", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output
    assert "Accuracy of the accepted" in result.output
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    metrics = found["whole photos"]
    assert metrics["photos"] == 6
    assert metrics["class_names"] == ["bicycle", "motorcycle"]
    page = (tmp_path / "report" / "evaluation.html").read_text()
    assert page.count("<svg") == 2 * 5  # each chart for a screen and for a phone
    assert "<title>Evaluation of training/model/model.onnx</title>" in page
    assert "data:image/png;base64," in page
    # One file, and a browser fetches nothing else.
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]+\"", page.replace("xlink:", ""))
    # The same evaluation writes the same page.
    run("evaluate", "--data", str(staged), "--model", str(MODEL), "--output", str(tmp_path / "again"))
    assert (tmp_path / "again" / "evaluation.html").read_text() == page


def test_own_photos_are_measured_whole(photos: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--photos", str(photos), "--model", str(MODEL), "--output", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert (found["whole photos"]["photos"], found["whole photos"]["outliers"]) == (40, 20)


def test_a_model_of_other_classes_is_refused(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "three"
    run("stage", "--folder", str(photos), "--classes", "bicycle,motorcycle,cat", "--output", str(folder))
    result = run("evaluate", "--data", str(folder), "--model", str(MODEL), "--output", str(tmp_path / "report"))
    assert result.exit_code == 1
    assert "knows 2 classes, the data set" in said(result)


def test_options_for_several_models_exclude_each_other(staged: Path) -> None:
    result = run("evaluate", "--data", str(staged), "--url", "http://127.0.0.1:9", "--endpoint", "bay")
    assert "exclude each other" in said(result)


# deploy, status, cleanup

DEPLOY = [
    "deploy",
    "--endpoint",
    "bay",
    "--model",
    str(MODEL),
    "--image",
    "image",
    "--bucket",
    "photos",
    "--role",
    ROLE,
]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors, "endpoint_predictor", lambda runtime, name: lambda body: [0.4, 0.6])


@pytest.mark.usefixtures("answering")
def test_deploy_shows_the_price_first_and_status_and_cleanup_find_the_endpoint(account: Any) -> None:
    declined = run(*DEPLOY, answer="n\n")
    assert "about $84 to $168 a month" in said(declined)
    assert declined.exit_code == 1
    assert "Endpoint bay and its resources do not exist." in said(run("status", "--endpoint", "bay"))

    done = run(*DEPLOY, "--yes")
    assert done.exit_code == 0, done.output
    assert "Endpoint bay answers" in said(done)
    shown = said(run("status", "--endpoint", "bay"))
    assert "InService" in shown
    assert "1 to 2 instances" in shown

    account.put_object(Bucket="photos", Key="captures/bay/AllTraffic/a.jsonl", Body=b"{}")
    kept = run("cleanup", "--endpoint", "bay", answer="n\n")
    assert kept.exit_code == 1
    gone = run("cleanup", "--endpoint", "bay", "--captures", "--yes")
    assert gone.exit_code == 0, gone.output
    assert "deleted endpoint bay" in said(gone)
    assert "deleted 1 captured records" in said(gone)
    assert "Endpoint bay has nothing to delete." in said(run("cleanup", "--endpoint", "bay", "--yes"))


@pytest.mark.usefixtures("answering")
def test_a_dry_run_checks_and_says_the_price_but_asks_and_creates_nothing() -> None:
    done = run(*DEPLOY, "--dry-run")

    assert done.exit_code == 0, done.output
    assert re.search(r"credentials: .* role: .* bucket: .* quota: .* about \$84 to \$168 a month", said(done))
    assert "Go on?" not in said(done)
    assert "Endpoint bay and its resources do not exist." in said(run("status", "--endpoint", "bay"))


def test_nothing_is_priced_that_cannot_be_deployed() -> None:
    refused = run(*DEPLOY, "--bucket", "nowhere")

    assert "aws s3 mb" in said(refused)
    assert "a month" not in said(refused)


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("instance_type", ["ml.t2.medium", "ml.t2.xlarge"])
def test_a_burstable_endpoint_is_not_scaled(instance_type: str) -> None:
    done = run(*DEPLOY, "--instance-type", instance_type, "--yes")

    assert done.exit_code == 0, done.output
    assert f"{instance_type} cannot be scaled automatically: it stays at 1" in said(done)
    assert "to 2 instances" not in said(run("status", "--endpoint", "bay"))


@pytest.mark.usefixtures("answering")
def test_captures_can_be_deleted_after_the_endpoint(account: Any) -> None:
    account.put_object(Bucket="photos", Key="captures/bay/AllTraffic/a.jsonl", Body=b"{}")
    result = run("cleanup", "--endpoint", "bay", "--captures", "--bucket", "photos", "--yes")
    assert "deleted 1 captured records" in said(result)
    assert "has nothing to delete" in said(
        run("cleanup", "--endpoint", "bay", "--captures", "--bucket", "photos", "--yes")
    )


def test_a_serverless_endpoint_refuses_capture_with_a_remedy() -> None:
    result = run(*DEPLOY, "--serverless", "--yes")
    assert result.exit_code == 1
    assert "a serverless endpoint cannot capture data" in said(result)
    assert "--capture-percent 0" in said(result)


@pytest.mark.usefixtures("answering")
def test_a_serverless_endpoint_needs_no_price_confirmation() -> None:
    result = run(*DEPLOY, "--serverless", "--capture-percent", "0")
    assert result.exit_code == 0, result.output
    assert "a month" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "x"], "is not a role ARN"),
        (["--endpoint", "bay_1"], "cannot name an endpoint"),
        (["--endpoint", "Bay"], "use lower-case letters"),
        (["--min-instances", "3"], "--max-instances is less than --min-instances"),
        (["--photo", "/nonexistent.png"], "cannot be read"),
        (["--job", "j"], "exclude each other"),
        (["--model", "/nonexistent.onnx"], "there is no model"),
        (["--bucket", "nowhere"], "aws s3 mb"),
    ],
)
def test_a_missing_input_of_deploy_is_one_line(arguments: list[str], message: str) -> None:
    result = run(*DEPLOY, "--yes", *arguments)
    assert result.exit_code != 0
    assert message in said(result)
    assert "Traceback" not in result.output


def test_a_role_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_ROLE", "nonsense")
    assert "nonsense is not a role ARN" in said(run(*DEPLOY[:-2], "--yes"))


def test_a_dead_endpoint_is_not_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(body: bytes) -> list[float]:
        raise UserError("endpoint bay does not answer")

    monkeypatch.setattr(predictors, "endpoint_predictor", lambda runtime, name: dead)
    result = run(*DEPLOY, "--yes")
    assert result.exit_code == 1
    assert "does not answer (all rolled back)" in said(result)
    assert "Endpoint bay and its resources do not exist." in said(run("status", "--endpoint", "bay"))


def test_the_recipe_the_template_and_the_help_agree_on_defaults() -> None:
    assert float(parameter_default("ConfidenceThreshold")) == THRESHOLD
    assert f"{Settings.epochs} for bundled" in said(run("train", "--help"))
