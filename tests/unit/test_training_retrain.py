"""Retraining from the command line: its plan, and the condition for replacing the model in service.

An existing model file replaces the training, which needs PyTorch.
"""

import json
import shutil
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
from loading_bay.cli.model import host, retrain
from loading_bay.cli.model.options import SHIPPED_MODEL, console
from loading_bay.endpoint import deployment
from loading_bay.model import predictors
from loading_bay.model.comparison import Comparison, compare
from loading_bay.model.labels import read_labels

from .test_training_comparison import measured

ROLE = "arn:aws:iam::123456789012:role/endpoint"
WEAK = measured([0.95] * 80 + [0.05] * 20, [], "old")
STRONG = measured([0.95] * 100, [], "new")


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.setattr(predictors, "endpoint_predictor", lambda runtime, name: lambda body: [0.4, 0.6])
    monkeypatch.setattr(host, "preflight", lambda *_, **__: iter(()))  # test_preflight.py tests it
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="photos")
        yield boto3.client("sagemaker")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["model", *arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a retraining of a staged data set and 60 labels, whose new model is the shipped model."""
    generator = np.random.default_rng(0)
    for folder, count in (("photos", 20), ("labels", 30)):
        for label in ("bicycle", "motorcycle"):
            (tmp_path / folder / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / label / f"{number}.png")
    staged = tmp_path / "staged"
    assert run("stage", "--folder", str(tmp_path / "photos"), "--output", str(staged)).exit_code == 0

    def trained(staged: Path, output: Path, seeds: list[int], epochs: int | None, quick: bool) -> None:
        output.mkdir()
        shutil.copyfile(SHIPPED_MODEL, output / "model.onnx")

    monkeypatch.setattr(retrain, "train_here", trained)
    output = ["--data", str(staged), "--output", str(tmp_path / "retrained")]
    return ["retrain", "--labels", str(tmp_path / "labels"), *output]


def test_a_quick_look_is_one_seed_and_is_not_deployed(arguments: list[str]) -> None:
    assert "1 seed is trained" in said(run(*arguments, "--quick", "--dry-run"))
    refused = run(*arguments, "--quick", "--deploy")
    assert refused.exit_code == 2
    assert "a quick look makes no model to deploy" in said(refused)


def test_a_dry_run_shows_the_plan_and_changes_nothing(arguments: list[str], tmp_path: Path) -> None:
    result = run(*arguments, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "held out" in result.output
    assert "Nothing was trained or changed" in said(result)
    assert not (tmp_path / "retrained").exists()


def test_the_new_model_is_measured_on_the_test_split_and_on_held_out_labels(
    arguments: list[str], tmp_path: Path
) -> None:
    result = run(*arguments)

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "retrained/comparison.json").read_text())
    assert [each["photos"] for each in found["sets"]] == ["test", "held-out reviews"]
    assert found["verdict"] == "no difference shown"
    learned = {path.stem for path in (tmp_path / "retrained/staged/train/bicycle").iterdir()}
    assert found["sets"][1]["new"]["photos"] + len(learned) > 30
    assert "Held-out reviews" in (tmp_path / "retrained/comparison.html").read_text()


def test_labels_of_some_classes_join_the_staged_photos_of_all(arguments: list[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "labels/motorcycle")

    result = run(*arguments)

    assert result.exit_code == 0, result.output
    assert "No labels of motorcycle" in said(result)
    learned = {each.name: len(list(each.iterdir())) for each in (tmp_path / "retrained/staged/train").iterdir()}
    assert learned["bicycle"] > learned["motorcycle"] > 0
    assert (tmp_path / "retrained/comparison.html").exists()


def test_the_new_model_is_measured_on_audits_and_on_reviews_apart(arguments: list[str], tmp_path: Path) -> None:
    held_out = read_labels(tmp_path / "labels", ["bicycle", "motorcycle"]).held_out
    audited = held_out[0]
    (tmp_path / "labels/.audited").write_text(f"0.1 {audited.label}/{audited.name}\n")

    result = run(*arguments)

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "retrained/comparison.json").read_text())
    assert [each["photos"] for each in found["sets"]] == ["test", "held-out reviews", "held-out audits"]
    counts = [each["new"]["photos"] for each in found["sets"][1:]]
    assert (sum(counts), counts[1]) == (len(held_out), sum(photo.name == audited.name for photo in held_out))


DEPLOY = ["deploy", "--endpoint", "bay", "--image", "image", "--bucket", "photos", "--role", ROLE, "--yes"]


def serving(sagemaker: Any) -> str:
    name: str = sagemaker.describe_endpoint(EndpointName="bay")["EndpointConfigName"]
    return name


def test_a_model_that_is_not_better_is_not_deployed(arguments: list[str], account: Any) -> None:
    assert run(*DEPLOY).exit_code == 0
    before = serving(account)

    result = run(*arguments, "--deploy", "--endpoint", "bay", "--yes")

    assert result.exit_code == 1
    assert "the new model is not deployed" in said(result)
    assert serving(account) == before


def test_a_better_model_is_deployed_with_the_same_hosting(
    arguments: list[str], account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*_: object) -> list[Comparison]:
        return compare({"test": (WEAK, STRONG)}, 0.9)

    monkeypatch.setattr(retrain, "judged", judged)
    assert run(*DEPLOY, "--min-instances", "2", "--max-instances", "4").exit_code == 0
    hosted = []
    monkeypatch.setattr(deployment, "deploy", lambda clients, hosting, probe, say: hosted.append(hosting))

    result = run(*arguments, "--deploy", "--endpoint", "bay", "--yes")

    assert result.exit_code == 0, result.output
    (hosting,) = hosted
    assert (hosting.endpoint, hosting.image, hosting.role) == ("bay", "image", ROLE)
    assert (hosting.variant.least, hosting.variant.most, hosting.variant.capture.percent) == (2, 4, 100)


def test_a_worse_model_is_not_deployed(arguments: list[str], account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "judged", lambda *_: compare({"test": (STRONG, WEAK)}, 0.9))
    assert run(*DEPLOY).exit_code == 0

    result = run(*arguments, "--deploy", "--endpoint", "bay", "--yes")

    assert result.exit_code == 1
    assert "not deployed: worse" in said(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "x", "--local"], "give --labels or --local, not both"),
        (["--labels", "/nonexistent"], "is not a folder"),
    ],
)
def test_a_missing_option_of_retrain_is_one_line(arguments: list[str], options: list[str], message: str) -> None:
    result = run("retrain", *arguments[3:], *options)

    assert result.exit_code != 0
    assert message in said(result)
