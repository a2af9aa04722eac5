"""Batch Transform: the exact request, the job's end, and results in the form of the decisions table."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from stack.addresses import Address
from stack.decisions import Decision, decisions_in_file
from stack.errors import UserError
from stack.window import Window
from training import transform

PHOTOS = Address.parse("s3://archive/2026/march").folder
RAN = (datetime(2026, 3, 1, 4, tzinfo=UTC), datetime(2026, 3, 1, 5, tzinfo=UTC))
RESULTS = Address.parse("s3://archive/results/march").folder


@pytest.fixture
def sagemaker() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield client, stub
        stub.assert_no_pending_responses()


def test_the_job_asks_for_one_photo_a_request_and_nothing_else(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    expected = {
        "TransformJobName": "march",
        "ModelName": "loading-bay-model",
        "BatchStrategy": "SingleRecord",
        "MaxPayloadInMB": 6,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 60, "InvocationsMaxRetries": 3},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://archive/2026/march/"}},
            "ContentType": "application/x-image",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": "s3://archive/results/march/",
            "Accept": "application/json",
            "AssembleWith": "None",
        },
        "TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
    }
    stub.add_response("create_transform_job", {"TransformJobArn": "arn:aws:sagemaker:::transform-job/march"}, expected)

    transform.start(client, "march", "loading-bay-model", PHOTOS, RESULTS, "ml.c5.xlarge", 2)


def test_the_model_is_the_one_that_the_endpoint_serves(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    described = {
        "EndpointName": "loading-bay",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/loading-bay",
        "EndpointConfigName": "config-1",
        "EndpointStatus": "InService",
        "CreationTime": 0,
        "LastModifiedTime": 0,
    }
    config = {
        "EndpointConfigName": "config-1",
        "EndpointConfigArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/config-1",
        "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "model-1"}],
        "CreationTime": 0,
    }
    stub.add_response("describe_endpoint", described, {"EndpointName": "loading-bay"})
    stub.add_response("describe_endpoint_config", config, {"EndpointConfigName": "config-1"})

    assert transform.model_of(client, "loading-bay") == "model-1"


def job(status: str, **more: object) -> dict[str, Any]:
    return {
        "TransformJobName": "march",
        "TransformJobArn": "arn:aws:sagemaker:us-east-1:123456789012:transform-job/march",
        "TransformJobStatus": status,
        "ModelName": "m",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://a/b"}}},
        "TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        "CreationTime": 0,
        **more,
    }


def test_a_job_is_followed_to_its_end(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    for status in ("InProgress", "InProgress"):
        stub.add_response("describe_transform_job", job(status), {"TransformJobName": "march"})
    ended = job("Completed", TransformStartTime=RAN[0], TransformEndTime=RAN[1])
    stub.add_response("describe_transform_job", ended, {"TransformJobName": "march"})
    said: list[str] = []

    assert transform.wait_for(client, "march", said.append, sleep=lambda seconds: None) == RAN
    assert said == ["job march: InProgress", "job march: Completed"]


def test_a_failed_job_says_why(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    failed = job("Failed", FailureReason="ClientError: Too many objects failed")
    stub.add_response("describe_transform_job", failed, {"TransformJobName": "march"})

    with pytest.raises(UserError, match="Too many objects failed"):
        transform.wait_for(client, "march", lambda line: None)


def test_a_refusal_is_one_line(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    stub.add_client_error("create_transform_job", "ResourceLimitExceeded", "no ml.c5.xlarge for you")

    with pytest.raises(UserError, match="a quota of your account is used up"):
        transform.start(client, "march", "model", PHOTOS, RESULTS, "ml.c5.xlarge", 1)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="archive")
        yield client


def test_results_are_lines_in_the_form_of_the_decisions_table(s3: Any, tmp_path: Path) -> None:
    etag = s3.put_object(Bucket="archive", Key="2026/march/a b.jpg", Body="a photo")["ETag"].strip('"')
    answers = {"a b.jpg": "[0.97, 0.03]", "x/c.png": "[0.52, 0.48]"}
    for name, answer in answers.items():
        s3.put_object(Bucket="archive", Key=f"results/march/{name}.out", Body=answer)
    s3.put_object(Bucket="archive", Key="results/march/notes.txt", Body="not a result")
    out = tmp_path / "decisions.jsonl"

    counts = transform.collect(s3, PHOTOS, RESULTS, ["bicycle", "motorcycle"], 0.9, RAN, out)

    assert counts == {"ROUTED": 1, "REVIEW": 1}
    routed, review = (json.loads(line) for line in out.read_text().splitlines())
    assert routed == {
        "photo": f"s3://archive/2026/march/a b.jpg#{etag}",
        "s3_bucket": "archive",
        "s3_key": "2026/march/a b.jpg",
        "etag": etag,
        "status": "ROUTED",
        "claimed_at": "2026-03-01T04:00:00Z",
        "decided_at": "2026-03-01T05:00:00Z",
        "confidence": 0.97,
        "probabilities": {"bicycle": 0.97, "motorcycle": 0.03},
        "vehicle": "bicycle",
    }
    assert (review["status"], review["photo"]) == ("REVIEW", "s3://archive/2026/march/x/c.png#none")
    assert "vehicle" not in review


def test_monitoring_reads_the_results(s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="archive", Key="results/march/ö.jpg.out", Body="[0.97, 0.03]")
    out = tmp_path / "decisions.jsonl"
    transform.collect(s3, PHOTOS, RESULTS, ["bicycle", "motorcycle"], 0.9, RAN, out)

    (decision,) = decisions_in_file(out, Window())

    assert isinstance(decision, Decision)
    assert (decision.key, decision.vehicle, decision.confidence) == ("2026/march/ö.jpg", "bicycle", 0.97)


@pytest.mark.parametrize("answer", ["[0.2, 0.3, 0.5]", "<html>", "0.5", '["a", "b"]'])
def test_an_answer_of_another_form_is_named(s3: Any, tmp_path: Path, answer: str) -> None:
    s3.put_object(Bucket="archive", Key="results/march/a.jpg.out", Body=answer)

    with pytest.raises(UserError, match=r"march/a.jpg is not 2 probabilities"):
        transform.collect(s3, PHOTOS, RESULTS, ["bicycle", "motorcycle"], 0.9, RAN, tmp_path / "out.jsonl")


@pytest.mark.parametrize("uri", ["archive/2026", "s3://", "https://archive"])
def test_an_address_must_be_one(uri: str) -> None:
    with pytest.raises(UserError, match="write s3://BUCKET/PREFIX"):
        Address.parse(uri)
