"""Training jobs: the requests of the SageMaker SDK, channel by channel, and the ends of jobs."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from loading_bay.model import jobs
from loading_bay.model.jobs import JobSettings
from loading_bay.model.staging import Manifest
from loading_bay.stack.errors import UserError

ROLE = "arn:aws:iam::123456789012:role/trainer"
SETTINGS = JobSettings(
    bucket="photos",
    prefix="loading-bay/dataset",
    role=ROLE,
    region="us-east-1",
    instance_type="ml.g4dn.xlarge",
    spot=False,
    max_seconds=3600,
)
MANIFEST = Manifest(
    class_names=["bicycle", "motorcycle"],
    counts={
        "train": 842,
        "validation": 149,
        "test": 200,
        "outliers/train": 171,
        "outliers/validation": 80,
        "several/train": 9,
    },
    dropped=9,
    digest="sha256:0",
    seed=1,
    smallest_side=32,
)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Every CreateTrainingJob request to boto3, and no request to the SDK's telemetry."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    seen: list[dict[str, Any]] = []
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="photos")
        import botocore.client  # noqa: PLC0415

        send = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

        def record(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
            if operation == "CreateTrainingJob":
                seen.append(parameters | {"region": self.meta.region_name})
            return send(self, operation, parameters)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
        yield seen


def channel(name: str, path: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": f"s3://photos/loading-bay/dataset/{path}",
                "S3DataDistributionType": "FullyReplicated",
            }
        },
        "ContentType": "application/x-image",
    }


def test_the_builtin_job_has_exactly_this_request(requests: list[dict[str, Any]]) -> None:
    name = jobs.start(jobs.builtin_trainer(SETTINGS, MANIFEST, epochs=60, batch=32))
    (request,) = requests
    assert request["TrainingJobName"] == name
    assert request["RoleArn"] == ROLE
    assert request["AlgorithmSpecification"] == {
        "TrainingImage": "811284229777.dkr.ecr.us-east-1.amazonaws.com/image-classification:1",
        "TrainingInputMode": "File",
    }
    assert request["InputDataConfig"] == [
        channel("train", "train/"),
        channel("validation", "validation/"),
        channel("train_lst", "train.lst"),
        channel("validation_lst", "validation.lst"),
    ]
    assert request["HyperParameters"] == {
        "num_layers": "20",
        "image_shape": "3,32,32",
        "num_classes": "2",
        "num_training_samples": "842",
        "mini_batch_size": "32",
        "epochs": "60",
        "learning_rate": "0.05",
        "lr_scheduler_step": "30,45",
        "lr_scheduler_factor": "0.1",
        "optimizer": "sgd",
        "momentum": "0.9",
        "weight_decay": "0.0005",
        "augmentation_type": "crop_color_transform",
        "use_pretrained_model": "0",
    }
    assert request["ResourceConfig"] == {
        "InstanceType": "ml.g4dn.xlarge",
        "InstanceCount": 1,
        "VolumeSizeInGB": 30,
    }
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert request["OutputDataConfig"]["S3OutputPath"] == "s3://photos/loading-bay/jobs"
    assert not request.get("EnableManagedSpotTraining")


def test_the_builtin_job_takes_the_side_that_was_staged() -> None:
    found = jobs.builtin_hyperparameters(replace(MANIFEST, smallest_side=64), epochs=60, batch=32)
    assert (found["image_shape"], found["num_layers"]) == ("3,64,64", "18")


def test_spot_training_may_wait_as_long_again_as_it_runs(requests: list[dict[str, Any]]) -> None:
    jobs.start(jobs.builtin_trainer(replace(SETTINGS, spot=True), MANIFEST, epochs=60, batch=32))
    (request,) = requests
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}


def test_the_job_runs_in_the_region_that_was_given_with_its_own_image(requests: list[dict[str, Any]]) -> None:
    jobs.start(jobs.builtin_trainer(replace(SETTINGS, region="eu-central-1"), MANIFEST, epochs=60, batch=32))
    (request,) = requests
    assert request["region"] == "eu-central-1"
    assert re.fullmatch(
        r"\d{12}\.dkr\.ecr\.eu-central-1\.amazonaws\.com/image-classification:1",
        request["AlgorithmSpecification"]["TrainingImage"],
    )


def test_the_bundled_job_runs_train_py_in_the_pytorch_image(requests: list[dict[str, Any]]) -> None:
    settings = replace(SETTINGS, instance_type="ml.c5.2xlarge")
    jobs.start(jobs.bundled_trainer(settings, MANIFEST, {"seeds": "7,8"}))
    (request,) = requests
    algorithm = request["AlgorithmSpecification"]
    assert algorithm["TrainingImage"].endswith("/pytorch-training:2.10-cpu-py313")
    assert {metric["Name"]: metric["Regex"] for metric in algorithm["MetricDefinitions"]} == jobs.METRICS
    assert request["HyperParameters"] == {
        "classes": "bicycle,motorcycle",
        "data_digest": "sha256:0",
        "seeds": "7,8",
    }
    channels = {item["ChannelName"]: item for item in request["InputDataConfig"]}
    for name, path in (
        ("train", "train/"),
        ("validation", "validation/"),
        ("outliers_train", "outliers/train/"),
        ("outliers_validation", "outliers/validation/"),
        ("several_train", "several/train/"),
        ("detector", "detector/"),
    ):
        assert channels.pop(name) == channel(name, path)
    assert set(channels) == {"code", "sm_drivers"}


def test_the_bundled_job_brings_the_code_that_it_runs_and_no_model(requests: list[dict[str, Any]]) -> None:
    jobs.start(jobs.bundled_trainer(SETTINGS, MANIFEST, {}))
    s3 = boto3.client("s3", region_name="us-east-1")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="photos")["Contents"]]
    code = {key.split("/input/code/")[1] for key in keys if "/input/code/" in key}
    assert {"container/train.py", "container/network.py", "container/requirements-train.txt"} <= code
    assert not any(name.endswith((".onnx", ".pyc")) for name in code)
    script = next(key for key in keys if key.endswith("sm_train.sh"))
    text = s3.get_object(Bucket="photos", Key=script)["Body"].read().decode()
    assert "python -m container.train" in text
    assert "container/requirements-train.txt" in text


def test_without_outliers_there_is_no_channel_for_them(requests: list[dict[str, Any]]) -> None:
    manifest = replace(MANIFEST, counts={"train": 842, "validation": 149, "outliers/train": 0})
    jobs.start(jobs.bundled_trainer(SETTINGS, manifest, {}))
    names = {item["ChannelName"] for item in requests[0]["InputDataConfig"]}
    assert names == {"train", "validation", "detector", "code", "sm_drivers"}


def test_the_metrics_are_what_train_prints() -> None:
    line = (
        "detector step=50/500 box_loss=0.1026 objectness_loss=0.2 class_loss=0.3 seconds=4\n"
        "seed=1 step=180/1440 epoch=3/24 train_loss=0.4423 validation_loss=0.2936 validation_accuracy=0.8591 seconds=9"
    )
    found = {name: re.search(pattern, line) for name, pattern in jobs.METRICS.items()}
    assert {name: match and match[1] for name, match in found.items()} == {
        "train_loss": "0.4423",
        "validation_loss": "0.2936",
        "validation_accuracy": "0.8591",
        "box_loss": "0.1026",
    }


def test_the_sdks_telemetry_is_off(requests: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    from sagemaker.core.telemetry import telemetry_logging  # noqa: PLC0415

    called: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_logging, "_send_telemetry_request", lambda *args, **rest: called.append("sent"))
        with caplog.at_level(logging.DEBUG):
            jobs.start(jobs.builtin_trainer(SETTINGS, MANIFEST, epochs=60, batch=32))
    assert called == []


def test_fewer_photos_than_a_batch_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(UserError, match="20 training photos do not fill one batch of 32"):
        jobs.builtin_hyperparameters(replace(MANIFEST, counts={"train": 20}), epochs=60, batch=32)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match="no AWS credentials: run aws configure"):
        jobs.builtin_trainer(SETTINGS, MANIFEST, epochs=60, batch=32)


def test_a_missing_region_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(UserError, match="no AWS region: give --region"):
        jobs.builtin_trainer(replace(SETTINGS, region=None), MANIFEST, epochs=60, batch=32)


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("ResourceLimitExceeded", "ml.g4dn.xlarge for training job usage is 0", "Service Quotas, SageMaker"),
        ("ValidationException", f"Could not assume role {ROLE}", f"Could not assume role {ROLE}"),
        ("AccessDeniedException", "no iam:PassRole", "docs/deploy.md has the policy"),
    ],
)
def test_a_refused_job_names_the_remedy(
    requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, code: str, message: str, said: str
) -> None:
    import botocore.client  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    send = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def refuse(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        if operation == "CreateTrainingJob":
            raise ClientError({"Error": {"Code": code, "Message": message}}, operation)
        return send(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    trainer = jobs.builtin_trainer(SETTINGS, MANIFEST, epochs=60, batch=32)
    with pytest.raises(UserError, match=re.escape(said)):
        jobs.start(trainer)


# Following a job.


def description(status: str, **more: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://photos/jobs/model.tar.gz"},
        "TrainingJobStatus": status,
        "SecondaryStatus": "Training",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 30},
        "StoppingCondition": {},
        "CreationTime": 0,
        **more,
    }


def step(status: str, message: str = "") -> dict[str, Any]:
    return {"Status": status, "StartTime": 0, "StatusMessage": message}


def metric(value: float) -> dict[str, Any]:
    return {"MetricName": "validation:accuracy", "Value": value, "Timestamp": 0}


@pytest.fixture
def sagemaker() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        yield client, stub


def test_phases_and_metrics_are_reported_once_each_until_the_job_ends(sagemaker: tuple[Any, Stubber]) -> None:
    client, stub = sagemaker
    starting = step("Starting", "Preparing the instances")
    for answer in (
        description("InProgress", SecondaryStatusTransitions=[starting]),
        description("InProgress", SecondaryStatusTransitions=[starting], FinalMetricDataList=[metric(0.7)]),
        description("InProgress", SecondaryStatusTransitions=[starting], FinalMetricDataList=[metric(0.8)]),
        description("Completed", SecondaryStatusTransitions=[starting, step("Completed")]),
    ):
        stub.add_response("describe_training_job", answer, {"TrainingJobName": "job"})
    lines: list[str] = []
    job = jobs.wait_for(client, "job", lines.append, poll_seconds=0)
    assert lines == [
        "Starting: Preparing the instances",
        "validation:accuracy 0.7000",
        "validation:accuracy 0.8000",
        "Completed",
    ]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == "s3://photos/jobs/model.tar.gz"


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_failed_job_ends_with_the_reason_from_aws(sagemaker: tuple[Any, Stubber], status: str) -> None:
    client, stub = sagemaker
    reason = "AlgorithmError:\nClientError: images are smaller than image_shape"
    stub.add_response("describe_training_job", description(status, FailureReason=reason))
    with pytest.raises(UserError, match=rf"job ended as {status}: AlgorithmError: ClientError: images are smaller"):
        jobs.wait_for(client, "job", lambda line: None, poll_seconds=0)


def test_ctrl_c_reports_that_the_job_continues_and_how_to_stop_it(
    sagemaker: tuple[Any, Stubber], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    client, stub = sagemaker
    stub.add_response("describe_training_job", description("InProgress"))
    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(UserError, match="stop-training-job --training-job-name job"):
        jobs.wait_for(client, "job", lambda line: None)
