"""A report on a deployed stack automatically finds captures, decisions, classes and threshold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from loading_bay.cli.main import main
from loading_bay.stack.deployed import Deployed

from .captures import lines, place, record

pytestmark = pytest.mark.usefixtures("undrawn")
PARAMETERS = {"ConfidenceThreshold": "0.8"}
OUTPUTS = {
    "EndpointName": "bay",
    "DecisionsTable": "decisions",
    "VehicleClasses": "bicycle:1:near,motorcycle:2:far",
}
ROLE = "arn:aws:iam::123456789012:role/endpoint"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with mock_aws():
        session = boto3.Session()
        session.client("s3").create_bucket(Bucket="photos")
        session.client("dynamodb").create_table(
            TableName="decisions",
            KeySchema=[{"AttributeName": "photo", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "photo", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        monkeypatch.setattr(Deployed, "find", lambda name, region: Deployed(session, OUTPUTS, PARAMETERS))
        yield session


def host(session: Any, **config: Any) -> None:
    sagemaker = session.client("sagemaker")
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "m",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant], **config)
    sagemaker.create_endpoint(EndpointName="bay", EndpointConfigName="c")


def report(folder: Path) -> Any:
    options = ["--stack-name", "bay", "--output", str(folder / "out"), "--cache", str(folder / "cache")]
    return CliRunner().invoke(main, ["report", *options])


def test_a_stack_s_captures_decisions_classes_and_threshold_are_found(session: Any, tmp_path: Path) -> None:
    host(
        session,
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://photos/captures",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        },
    )
    captured = lines(record((0.85, 0.15)), record((0.75, 0.25)))
    s3, table = session.client("s3"), session.client("dynamodb")
    s3.put_object(Bucket="photos", Key=f"captures/{place(endpoint='bay')}", Body=captured)
    s3.put_object(Bucket="photos", Key=f"captures/{place(endpoint='another')}", Body=captured)
    item = {"photo": "s3://inbox/a.jpg#0", "status": "REVIEW", "claimed_at": "2026-11-20T04:10:00.000Z"}
    table.put_item(TableName="decisions", Item={name: {"S": value} for name, value in item.items()})

    result = report(tmp_path)

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (found["predictions"], found["threshold"], found["below_threshold"]["count"]) == (2, 0.8, 1)
    assert found["decisions"]["counts"]["REVIEW"] == 1


def test_a_missing_endpoint_or_one_without_captures_is_one_line(session: Any, tmp_path: Path) -> None:
    missing = report(tmp_path)
    assert missing.exit_code == 1
    assert "cannot look at endpoint bay" in missing.output

    host(session)
    silent = report(tmp_path)
    assert silent.exit_code == 1
    assert "endpoint bay captures nothing" in silent.output
