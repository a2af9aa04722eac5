"""The endpoint on SageMaker: the exact requests to AWS, and the resources that remain after every failure."""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws

from loading_bay.endpoint import artifact, deployment, inventory, live_endpoint
from loading_bay.endpoint.hosting import Capture, Clients, Hosting, RealTime, Serverless
from loading_bay.model import predictors
from loading_bay.stack.errors import UserError
from loading_bay.stack.prices import hosting_sentence

ROLE = "arn:aws:iam::123456789012:role/endpoint"
REAL_TIME = RealTime("ml.m5.large", 1, 3, 1000, Capture(50, "s3://photos/captures"))
HOSTING = Hosting(
    "bay", "123456789012.dkr.ecr.us-east-1.amazonaws.com/bay:1", "s3://photos/model.tar.gz", ROLE, REAL_TIME, 64
)
STAMPED = re.compile(r"bay-\d{8}-\d{6}")


@dataclass
class Account:
    """A simulated AWS account: its clients, and every request that they sent as (operation, parameters)."""

    clients: Clients
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    services: set[tuple[str, str]] = field(default_factory=set)

    def sent(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.requests if name == operation]


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        clients = Clients.connect("us-east-1")
        account = Account(clients)

        def record(params: dict[str, Any], model: Any, **rest: Any) -> None:
            account.requests.append((model.name, params))
            account.services.add((model.service_model.service_id, model.name))

        for client in (clients.sagemaker, clients.autoscaling, clients.cloudwatch, clients.s3):
            client.meta.events.register("provide-client-params", record)
        clients.s3.create_bucket(Bucket="photos")
        account.services.clear()
        yield account


def nothing() -> None:
    """A probe that always succeeds."""


def quiet(line: str) -> None:
    """A report that is discarded."""


def deploy(account: Account, hosting: Hosting = HOSTING, probe: Callable[[], None] = nothing) -> list[str]:
    lines: list[str] = []
    deployment.deploy(account.clients, hosting, probe, lines.append, poll_seconds=0)
    return lines


def left(account: Account) -> inventory.EndpointStatus:
    return inventory.status(account.clients, "bay")


# The current hosting.


@pytest.mark.parametrize(
    "variant",
    [REAL_TIME, RealTime("ml.c5.large", 2, 5, 600, None), Serverless(2048, 5)],
    ids=["captured", "plain", "serverless"],
)
def test_the_hosting_of_an_endpoint_can_be_read_back_for_another_model(
    account: Account, variant: RealTime | Serverless
) -> None:
    hosting = replace(HOSTING, variant=variant)
    deploy(account, hosting)

    assert live_endpoint.hosting_of(account.clients, "bay") == hosting


def test_a_missing_endpoint_cannot_be_read_back(account: Account) -> None:
    with pytest.raises(UserError, match="cannot look at endpoint bay"):
        live_endpoint.hosting_of(account.clients, "bay")


# A new endpoint.


def test_a_new_endpoint_has_exactly_these_requests(account: Account) -> None:
    deploy(account)
    (model,) = account.sent("CreateModel")
    name = model["ModelName"]
    assert STAMPED.fullmatch(name)
    assert model == {
        "ModelName": name,
        "PrimaryContainer": {
            "Image": HOSTING.image,
            "ModelDataUrl": HOSTING.artifact,
            "Environment": {"LOADING_BAY_IMAGE_SIZE": "64"},
        },
        "ExecutionRoleArn": ROLE,
    }
    assert account.sent("CreateEndpointConfig") == [
        {
            "EndpointConfigName": name,
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                    "InitialVariantWeight": 1.0,
                }
            ],
            "DataCaptureConfig": {
                "EnableCapture": True,
                "InitialSamplingPercentage": 50,
                "DestinationS3Uri": "s3://photos/captures",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
                "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            },
        }
    ]
    assert account.sent("CreateEndpoint") == [{"EndpointName": "bay", "EndpointConfigName": name}]


def test_a_new_endpoint_is_scaled_by_calls_per_instance(account: Account) -> None:
    deploy(account)
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/bay/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    assert account.sent("RegisterScalableTarget") == [{**target, "MinCapacity": 1, "MaxCapacity": 3}]
    assert account.sent("PutScalingPolicy") == [
        {
            **target,
            "PolicyName": "bay-invocations",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 1000.0,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
                "ScaleInCooldown": 300,
                "ScaleOutCooldown": 60,
            },
        }
    ]


def test_alarms_watch_errors_and_latency_of_this_endpoint(account: Account) -> None:
    deploy(account)
    alarms = {request["AlarmName"]: request for request in account.sent("PutMetricAlarm")}
    assert set(alarms) == {"bay-errors", "bay-latency"}
    for alarm in alarms.values():
        assert alarm["Namespace"] == "AWS/SageMaker"
        assert {"Name": "EndpointName", "Value": "bay"} in alarm["Dimensions"]
        assert alarm["TreatMissingData"] == "notBreaching"
    assert (alarms["bay-errors"]["MetricName"], alarms["bay-errors"]["Threshold"]) == ("Invocation5XXErrors", 0)
    assert (alarms["bay-latency"]["MetricName"], alarms["bay-latency"]["Threshold"]) == ("ModelLatency", 1_000_000)


def test_the_endpoint_is_probed_before_it_is_scaled_and_called_done(account: Account) -> None:
    deploy(account, probe=lambda: account.requests.append(("probe", {})))
    order = [name for name, _ in account.requests]
    assert order.index("CreateEndpoint") < order.index("probe") < order.index("RegisterScalableTarget")


def test_without_capture_none_is_requested(account: Account) -> None:
    deploy(account, replace(HOSTING, variant=replace(REAL_TIME, capture=None)))
    assert "DataCaptureConfig" not in account.sent("CreateEndpointConfig")[0]


def test_a_serverless_endpoint_has_no_instances_capture_alarms_or_scaling(account: Account) -> None:
    deploy(account, replace(HOSTING, variant=Serverless(2048, 5)))
    (config,) = account.sent("CreateEndpointConfig")
    (variant,) = config["ProductionVariants"]
    assert variant == {
        "VariantName": "AllTraffic",
        "ModelName": config["EndpointConfigName"],
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
    }
    assert "DataCaptureConfig" not in config
    assert account.sent("PutMetricAlarm") == account.sent("RegisterScalableTarget") == []


def test_a_wrong_answer_removes_a_new_endpoint(account: Account) -> None:
    def wrong() -> None:
        raise UserError("the endpoint knows 3 classes instead of 2")

    with pytest.raises(UserError, match=r"3 classes instead of 2 \(all rolled back\)"):
        deploy(account, probe=wrong)
    assert not left(account).exists


def test_ctrl_c_removes_a_new_endpoint(account: Account) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(UserError, match="interrupted"):
        deploy(account, probe=interrupt)
    assert not left(account).exists


# Failures that moto does not simulate: AWS answers one by one.


@pytest.fixture
def scripted() -> Iterator[tuple[Clients, dict[str, Stubber]]]:
    clients = Clients.connect("us-east-1")
    stubs = {
        "sagemaker": Stubber(clients.sagemaker),
        "autoscaling": Stubber(clients.autoscaling),
        "cloudwatch": Stubber(clients.cloudwatch),
    }
    for stub in stubs.values():
        stub.activate()
    yield clients, stubs
    for stub in stubs.values():
        stub.assert_no_pending_responses()


def describe(state: str, config: str = "bay-20260101-000000", **more: Any) -> dict[str, Any]:
    instances = more.pop("instances", 1)
    variant = more.pop("variant", {"VariantName": "AllTraffic", "DesiredInstanceCount": instances})
    return {
        "EndpointName": "bay",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/bay",
        "EndpointConfigName": config,
        "EndpointStatus": state,
        "CreationTime": 0,
        "LastModifiedTime": 0,
        "ProductionVariants": [variant],
        **more,
    }


def missing(stub: Stubber) -> None:
    stub.add_client_error(
        "describe_endpoint",
        "ValidationException",
        'Could not find endpoint "bay".',
        expected_params={"EndpointName": "bay"},
    )


def created(stubs: dict[str, Stubber]) -> None:
    stubs["sagemaker"].add_response("create_model", {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"})
    stubs["sagemaker"].add_response(
        "create_endpoint_config",
        {"EndpointConfigArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/c"},
    )
    for _ in range(2):
        stubs["cloudwatch"].add_response("put_metric_alarm", {})


ENDPOINT_ARN = {"EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/bay"}


def test_a_failed_endpoint_is_removed_with_the_reason_from_aws(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    missing(sagemaker)
    created(stubs)
    sagemaker.add_response("create_endpoint", ENDPOINT_ARN)
    sagemaker.add_response("describe_endpoint", describe("Creating"))
    sagemaker.add_response("describe_endpoint", describe("Failed", FailureReason="The image\ncould not be pulled."))
    sagemaker.add_response("delete_endpoint", {}, {"EndpointName": "bay"})
    sagemaker.add_response("describe_endpoint", describe("Deleting"))
    missing(sagemaker)
    stubs["cloudwatch"].add_response("delete_alarms", {}, {"AlarmNames": ["bay-errors", "bay-latency"]})
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": ANY})
    sagemaker.add_response("delete_model", {}, {"ModelName": ANY})
    with pytest.raises(UserError, match=r"is Failed: The image could not be pulled\. \(all rolled back\)"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


def test_resources_that_cannot_be_deleted_are_named(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    missing(sagemaker)
    created(stubs)
    sagemaker.add_response("create_endpoint", ENDPOINT_ARN)
    sagemaker.add_response("describe_endpoint", describe("Failed", FailureReason="no"))
    sagemaker.add_client_error("delete_endpoint", "AccessDeniedException", "not you")
    stubs["cloudwatch"].add_response("delete_alarms", {})
    sagemaker.add_response("delete_endpoint_config", {})
    sagemaker.add_response("delete_model", {})
    with pytest.raises(UserError, match="could not be deleted and may cost money: endpoint bay"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


def test_a_refused_alarm_leaves_no_other_alarms(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    missing(sagemaker)
    sagemaker.add_response("create_model", {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"})
    sagemaker.add_response(
        "create_endpoint_config",
        {"EndpointConfigArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/c"},
    )
    stubs["cloudwatch"].add_response("put_metric_alarm", {})
    stubs["cloudwatch"].add_client_error("put_metric_alarm", "LimitExceeded", "too many alarms")
    stubs["cloudwatch"].add_response("delete_alarms", {}, {"AlarmNames": ["bay-errors", "bay-latency"]})
    sagemaker.add_response("delete_endpoint_config", {})
    sagemaker.add_response("delete_model", {})
    with pytest.raises(UserError, match=r"too many alarms \(all rolled back\)"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


def test_a_used_up_quota_names_the_place_to_raise_it(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    missing(sagemaker)
    created(stubs)
    sagemaker.add_client_error("create_endpoint", "ResourceLimitExceeded", "ml.m5.large for endpoint usage is 0")
    stubs["cloudwatch"].add_response("delete_alarms", {})
    sagemaker.add_response("delete_endpoint_config", {})
    sagemaker.add_response("delete_model", {})
    with pytest.raises(UserError, match=r"usage is 0 .*Service Quotas, SageMaker"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


def test_a_role_that_sagemaker_may_not_assume_is_passed_on(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    missing(stubs["sagemaker"])
    stubs["sagemaker"].add_client_error("create_model", "ValidationException", f"Could not assume role {ROLE}")
    with pytest.raises(UserError, match=f"Could not assume role {ROLE}"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


# An existing endpoint.


CANARY = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 300,
        },
        "TerminationWaitInSeconds": 120,
        "MaximumExecutionTimeoutInSeconds": 3600,
    },
    "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "bay-errors"}, {"AlarmName": "bay-latency"}]},
}
NEW = "bay-20260202-000000"


@pytest.fixture
def at_new_years_second(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        @staticmethod
        def now(zone: Any) -> str:
            return Stamp()  # type: ignore[return-value]

    class Stamp:
        def __format__(self, form: str) -> str:
            return NEW.removeprefix("bay-")

    monkeypatch.setattr(deployment, "datetime", Clock)


def script_update(stubs: dict[str, Stubber], instances: int, initial: int) -> None:
    sagemaker = stubs["sagemaker"]
    sagemaker.add_response("describe_endpoint", describe("InService", instances=instances))
    sagemaker.add_response("create_model", {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"})
    sagemaker.add_response(
        "create_endpoint_config",
        {"EndpointConfigArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/c"},
        {
            "EndpointConfigName": NEW,
            "ProductionVariants": [
                {
                    "VariantName": "AllTraffic",
                    "ModelName": NEW,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": initial,
                    "InitialVariantWeight": 1.0,
                }
            ],
            "DataCaptureConfig": ANY,
        },
    )
    for _ in range(2):
        stubs["cloudwatch"].add_response("put_metric_alarm", {})
    stubs["autoscaling"].add_client_error(
        "deregister_scalable_target", "ObjectNotFoundException", "No scalable target found"
    )
    sagemaker.add_response(
        "update_endpoint",
        ENDPOINT_ARN,
        {"EndpointName": "bay", "EndpointConfigName": NEW, "DeploymentConfig": CANARY},
    )


@pytest.mark.usefixtures("at_new_years_second")
def test_an_update_is_a_canary_of_one_of_two_and_goes_back_to_one(
    scripted: tuple[Clients, dict[str, Stubber]],
) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    script_update(stubs, instances=1, initial=2)
    sagemaker.add_response("describe_endpoint", describe("Updating"))
    sagemaker.add_response("describe_endpoint", describe("InService", NEW, instances=2))
    sagemaker.add_response("describe_endpoint", describe("InService", NEW, instances=2))
    sagemaker.add_response(
        "update_endpoint_weights_and_capacities",
        ENDPOINT_ARN,
        {
            "EndpointName": "bay",
            "DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}],
        },
    )
    sagemaker.add_response("describe_endpoint", describe("InService", NEW, instances=1))
    stubs["autoscaling"].add_response("register_scalable_target", {})
    stubs["autoscaling"].add_response("put_scaling_policy", {"PolicyARN": "arn"})
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": "bay-20260101-000000"})
    sagemaker.add_response("delete_model", {}, {"ModelName": "bay-20260101-000000"})
    lines: list[str] = []
    deployment.deploy(clients, HOSTING, nothing, lines.append, poll_seconds=0)
    assert lines[:2] == ["endpoint bay: Updating", "endpoint bay: InService"]


@pytest.mark.usefixtures("at_new_years_second")
def test_an_update_that_aws_rolled_back_is_a_failure_and_leaves_the_old_model(
    scripted: tuple[Clients, dict[str, Stubber]],
) -> None:
    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    script_update(stubs, instances=4, initial=4)
    sagemaker.add_response("describe_endpoint", describe("RollingBack"))
    rolled_back = describe("InService", FailureReason="Alarm bay-errors is in ALARM", instances=4)
    sagemaker.add_response("describe_endpoint", rolled_back)
    sagemaker.add_response("describe_endpoint", rolled_back)
    stubs["autoscaling"].add_response("register_scalable_target", {})
    stubs["autoscaling"].add_response("put_scaling_policy", {"PolicyARN": "arn"})
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NEW})
    sagemaker.add_response("delete_model", {}, {"ModelName": NEW})
    with pytest.raises(UserError, match=r"rolled .* back: Alarm bay-errors .*serves its earlier model"):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


@pytest.mark.usefixtures("at_new_years_second")
def test_an_update_that_answers_wrongly_is_switched_back(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    def wrong() -> None:
        raise UserError("not a list of probabilities")

    clients, stubs = scripted
    sagemaker = stubs["sagemaker"]
    script_update(stubs, instances=2, initial=2)
    sagemaker.add_response("describe_endpoint", describe("InService", NEW, instances=2))
    sagemaker.add_response("describe_endpoint", describe("InService", NEW, instances=2))
    sagemaker.add_response(
        "update_endpoint", ENDPOINT_ARN, {"EndpointName": "bay", "EndpointConfigName": "bay-20260101-000000"}
    )
    sagemaker.add_response("describe_endpoint", describe("InService", instances=2))
    stubs["autoscaling"].add_response("register_scalable_target", {})
    stubs["autoscaling"].add_response("put_scaling_policy", {"PolicyARN": "arn"})
    sagemaker.add_response("delete_endpoint_config", {}, {"EndpointConfigName": NEW})
    sagemaker.add_response("delete_model", {}, {"ModelName": NEW})
    with pytest.raises(UserError, match=r"not a list of probabilities .*serves its earlier model"):
        deployment.deploy(clients, HOSTING, wrong, quiet, poll_seconds=0)


@pytest.mark.parametrize(
    ("existing", "message"),
    [
        (describe("Updating"), "is Updating: wait"),
        (describe("Failed"), "has failed: run loading-bay model cleanup --endpoint bay, then"),
        (
            describe(
                "InService",
                variant={
                    "VariantName": "AllTraffic",
                    "CurrentServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
                },
            ),
            "is serverless and AWS cannot make it real-time",
        ),
    ],
)
def test_an_endpoint_that_cannot_be_updated_is_untouched(
    scripted: tuple[Clients, dict[str, Stubber]], existing: dict[str, Any], message: str
) -> None:
    clients, stubs = scripted
    stubs["sagemaker"].add_response("describe_endpoint", existing)
    with pytest.raises(UserError, match=message):
        deployment.deploy(clients, HOSTING, nothing, quiet, poll_seconds=0)


# The probe, the artifact, the price.


def test_the_probe_wants_a_score_per_class() -> None:
    deployment.probe(lambda body: [0.5, 0.5], b"photo", 2)
    with pytest.raises(UserError, match="knows 3 classes instead of 2"):
        deployment.probe(lambda body: [0.2, 0.3, 0.5], b"photo", 2)


def test_a_packed_model_is_in_the_server_s_path_and_reproducible(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"onnx")
    packed = artifact.pack(path)
    assert packed == artifact.pack(path)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        (member,) = tar.getmembers()
        assert member.name == "model.onnx"
        content = tar.extractfile(member)
        assert content is not None
        assert content.read() == b"onnx"


def test_the_shipped_model_is_uploaded_under_its_content(account: Account) -> None:
    made = artifact.from_file(account.clients, Path("training/model/model.onnx"), "image", "photos")
    assert (made.classes, made.side) == (2, predictors.load_model(Path("training/model/model.onnx")).side)
    assert re.fullmatch(r"s3://photos/loading-bay/models/[0-9a-f]{16}/model\.tar\.gz", made.uri)
    key = made.uri.removeprefix("s3://photos/")
    assert account.clients.s3.head_object(Bucket="photos", Key=key)["ContentLength"] > 1000


@pytest.mark.parametrize(
    ("model", "image", "bucket", "message"),
    [
        ("training/model/model.onnx", None, "photos", "give --image"),
        ("training/model/model.onnx", "image", None, "give --bucket"),
        ("nothing.onnx", "image", "photos", "there is no model"),
        ("training/model/model.onnx", "image", "nowhere", "aws s3 mb"),
    ],
)
def test_a_missing_input_for_a_local_model_is_named(
    account: Account, model: str, image: str | None, bucket: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        artifact.from_file(account.clients, Path(model), image, bucket)


def job(status: str, hyperparameters: dict[str, str]) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
        "TrainingJobStatus": status,
        "SecondaryStatus": status,
        "ModelArtifacts": {"S3ModelArtifacts": "s3://photos/jobs/model.tar.gz"},
        "AlgorithmSpecification": {"TrainingImage": "aws/image-classification:1", "TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 30},
        "StoppingCondition": {},
        "CreationTime": 0,
        "HyperParameters": hyperparameters,
    }


def test_a_job_of_the_builtin_recipe_is_hosted_by_its_own_image(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    stubs["sagemaker"].add_response(
        "describe_training_job", job("Completed", {"num_classes": "2", "image_shape": "3,32,32"})
    )
    made = artifact.from_job(clients, "job", None)
    assert made == artifact.Artifact("aws/image-classification:1", "s3://photos/jobs/model.tar.gz", 2, 32)


def test_a_job_of_the_bundled_recipe_needs_the_container_image(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    for _ in range(2):
        stubs["sagemaker"].add_response("describe_training_job", job("Completed", {"classes": "a,b,c"}))
    with pytest.raises(UserError, match="give --image"):
        artifact.from_job(clients, "job", None)
    made = artifact.from_job(clients, "job", "bundled:1")
    assert (made.image, made.classes) == ("bundled:1", 3)


def test_a_running_job_has_no_model(scripted: tuple[Clients, dict[str, Stubber]]) -> None:
    clients, stubs = scripted
    stubs["sagemaker"].add_response("describe_training_job", job("InProgress", {}))
    with pytest.raises(UserError, match="is InProgress"):
        artifact.from_job(clients, "job", None)


def test_the_price_per_month_is_given_as_a_range() -> None:
    assert hosting_sentence("ml.m5.large", 1, 3) == (
        "1 to 3 × ml.m5.large all the time: about $84 to $252 a month (us-east-1 list price)"
    )
    assert hosting_sentence("ml.m5.large", 2, 2).startswith("2 × ml.m5.large all the time: about $168 a month")
    assert "not in our price list" in hosting_sentence("ml.p9.huge", 1, 1)


# Status and cleanup.


def test_status_finds_everything_that_belongs_to_an_endpoint(account: Account) -> None:
    assert not left(account).exists
    deploy(account)
    found = left(account)
    assert found.state == "InService"
    assert found.scaling == "1 to 3 instances"
    assert found.capture_uri == "s3://photos/captures"
    assert len(found.configs) == len(found.models) == 1
    assert {alarm.split()[0] for alarm in found.alarms} == {"bay-errors", "bay-latency"}


def test_cleanup_deletes_all_of_it_and_finds_nothing_the_second_time(account: Account) -> None:
    deploy(account)
    deleted = inventory.cleanup(account.clients, left(account), poll_seconds=0)
    assert {line.split()[0] for line in deleted} == {"scaling", "endpoint", "model", "alarm"}
    assert not left(account).exists
    assert inventory.cleanup(account.clients, left(account), poll_seconds=0) == []


def test_cleanup_leaves_an_endpoint_with_a_longer_name_untouched(account: Account) -> None:
    deploy(account, replace(HOSTING, endpoint="bay-two"))
    deploy(account)
    inventory.cleanup(account.clients, left(account), poll_seconds=0)
    assert inventory.status(account.clients, "bay-two").state == "InService"
    assert len(inventory.status(account.clients, "bay-two").models) == 1


def test_captures_of_this_endpoint_only_are_deleted(account: Account) -> None:
    s3 = account.clients.s3
    for key in ("captures/bay/AllTraffic/a.jsonl", "captures/bay/AllTraffic/b.jsonl", "captures/bay-two/x.jsonl"):
        s3.put_object(Bucket="photos", Key=key, Body=b"{}")
    keys = inventory.captures(account.clients, "s3://photos/captures/", "bay")
    assert len(keys) == 2
    inventory.delete_captures(account.clients, "s3://photos/captures", keys)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="photos")["Contents"]] == ["captures/bay-two/x.jsonl"]


def test_captures_of_a_whole_bucket_are_found(account: Account) -> None:
    account.clients.s3.put_object(Bucket="photos", Key="bay/AllTraffic/a.jsonl", Body=b"{}")
    assert len(inventory.captures(account.clients, "s3://photos", "bay")) == 1


def test_an_address_outside_s3_is_refused(account: Account) -> None:
    with pytest.raises(UserError, match="s3://BUCKET/PREFIX"):
        inventory.captures(account.clients, "photos/captures", "bay")


def test_a_missing_region_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(UserError, match="no AWS region; give --region"):
        Clients.connect(None)


# The trainer's policy in docs/deploy.md.

SERVICES = {
    "SageMaker": "sagemaker",
    "Application Auto Scaling": "application-autoscaling",
    "CloudWatch": "cloudwatch",
    "S3": "s3",
}
# Operations with another name in IAM, and those of this test.
ACTIONS = {"s3:ListObjectsV2": "s3:ListBucket", "s3:DeleteObjects": "s3:DeleteObject"}


def allowed() -> set[str]:
    policy = json.loads(Path("training/iam/trainer.json").read_text())
    actions: set[str] = set()
    for statement in policy["Statement"]:
        found = statement["Action"]
        actions.update([found] if isinstance(found, str) else found)
    return actions


def test_the_trainers_policy_allows_all_calls(account: Account) -> None:
    made = artifact.from_file(account.clients, Path("training/model/model.onnx"), "image", "photos")
    deploy(account, replace(HOSTING, artifact=made.uri))
    inventory.cleanup(account.clients, left(account), poll_seconds=0)
    account.clients.s3.put_object(Bucket="photos", Key="captures/bay/a.jsonl", Body=b"{}")
    inventory.delete_captures(
        account.clients, "s3://photos/captures", inventory.captures(account.clients, "s3://photos/captures", "bay")
    )
    used = {f"{SERVICES[service]}:{name}" for service, name in account.services}
    used |= {"sagemaker:UpdateEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities", "sagemaker:InvokeEndpoint"}
    assert {ACTIONS.get(action, action) for action in used} <= allowed()
    # Nothing is allowed to everyone.
    assert not any("*" in action for action in allowed())
