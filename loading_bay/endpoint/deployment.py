"""Deploys a model to an endpoint: creates it, or updates it by canary, and rolls everything back on failure.

Plain boto3, because the SDK cannot express a serverless variant.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from loading_bay.model.predictors import Predictor
from loading_bay.stack.errors import UserError, explained, is_missing
from loading_bay.stack.hints import command
from loading_bay.stack.image_size import VARIABLE

from .guardrails import canary_request, deregister_scaling, put_alarms, put_scaling
from .hosting import POLL_SECONDS, STAMP, VARIANT, Capture, Clients, Hosting, RealTime, Serverless, alarm_names
from .live_endpoint import Report, delete_endpoint, describe, instances_now, wait

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DescribeEndpointOutputTypeDef


@dataclass
class Rollback:
    """The resources created so far, which a later failure deletes again."""

    steps: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    def add(self, name: str, delete: Callable[[], object]) -> None:
        """Remember how to delete something that now exists."""
        self.steps.append((name, delete))

    def run(self) -> list[str]:
        """Delete the resources, newest first; return the names of those that could not be deleted."""
        left = []
        for name, delete in reversed(self.steps):
            try:
                delete()
            except (ClientError, BotoCoreError, UserError) as error:
                if not (isinstance(error, ClientError) and is_missing(error)):
                    left.append(name)
        return left


@dataclass
class Deployment:
    """One run of deploy: its settings, its timestamped name, and the resources created so far."""

    clients: Clients
    hosting: Hosting
    report: Report
    poll_seconds: float
    name: str
    existing: "DescribeEndpointOutputTypeDef | None"
    rollback: Rollback = field(default_factory=Rollback)

    def run(self, probe: Callable[[], None]) -> None:
        """Create or update the endpoint, probe it, and turn scaling on."""
        self.create_model()
        self.create_config()
        if isinstance(self.hosting.variant, RealTime):
            self.create_alarms()
        if self.existing:
            self.update(self.existing)
        else:
            self.create()
        probe()
        if isinstance(self.hosting.variant, RealTime):
            self.settle(self.hosting.variant)

    def create_model(self) -> None:
        """Create the model: image, artifact and role."""
        self.clients.sagemaker.create_model(
            ModelName=self.name,
            PrimaryContainer={"Image": self.hosting.image, "ModelDataUrl": self.hosting.artifact}
            | ({"Environment": {VARIABLE: str(self.hosting.image_size)}} if self.hosting.image_size else {}),
            ExecutionRoleArn=self.hosting.role,
        )
        self.rollback.add(f"model {self.name}", lambda: self.clients.sagemaker.delete_model(ModelName=self.name))

    def create_config(self) -> None:
        """Create the endpoint configuration: one variant, with data capture if it is wanted."""
        kind = self.hosting.variant
        variant: dict[str, object] = {"VariantName": VARIANT, "ModelName": self.name}
        request: dict[str, object] = {"EndpointConfigName": self.name, "ProductionVariants": [variant]}
        if isinstance(kind, Serverless):
            variant["ServerlessConfig"] = {"MemorySizeInMB": kind.memory, "MaxConcurrency": kind.concurrency}
        else:
            now = instances_now(self.existing)
            variant |= {
                "InstanceType": kind.instance_type,
                # A canary is at most half of the new instances: an update starts with two of them.
                "InitialInstanceCount": max(kind.least, now, 2) if now else kind.least,
                "InitialVariantWeight": 1.0,
            }
            if kind.capture:
                request["DataCaptureConfig"] = capture_request(kind.capture)
        self.clients.sagemaker.create_endpoint_config(**request)
        self.rollback.add(
            f"endpoint configuration {self.name}",
            lambda: self.clients.sagemaker.delete_endpoint_config(EndpointConfigName=self.name),
        )

    def create_alarms(self) -> None:
        """Create the alarms, or refresh those of an existing endpoint, which a rollback keeps."""
        endpoint = self.hosting.endpoint
        if not self.existing:
            names = alarm_names(endpoint)
            self.rollback.add("alarms", lambda: self.clients.cloudwatch.delete_alarms(AlarmNames=names))
        put_alarms(self.clients, endpoint)

    def create(self) -> None:
        """Create the endpoint and wait for it."""
        endpoint = self.hosting.endpoint
        self.clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=self.name)
        self.rollback.add(f"endpoint {endpoint}", lambda: delete_endpoint(self.clients, endpoint, self.poll_seconds))
        wait(self.clients, endpoint, self.report, self.poll_seconds)

    def update(self, existing: "DescribeEndpointOutputTypeDef") -> None:
        """Shift traffic to the new configuration, one instance first; alarms shift it back."""
        endpoint, earlier = self.hosting.endpoint, existing["EndpointConfigName"]
        request: dict[str, object] = {"EndpointName": endpoint, "EndpointConfigName": self.name}
        if isinstance(self.hosting.variant, RealTime):
            # While a variant is scaled automatically, AWS refuses to change its instance type.
            deregister_scaling(self.clients, endpoint)
            request["DeploymentConfig"] = canary_request(endpoint)
        self.rollback.add(f"the update of {endpoint}", lambda: self.switch_back(earlier))
        self.clients.sagemaker.update_endpoint(**request)
        after = wait(self.clients, endpoint, self.report, self.poll_seconds)
        if after["EndpointConfigName"] != self.name:
            reason = after.get("FailureReason", "an alarm went off, or new instances did not come up")
            raise UserError(f"AWS rolled the update of {endpoint} back: {reason}")

    def switch_back(self, earlier: str) -> None:
        """Return an updated endpoint to its earlier configuration, unless AWS has already done so."""
        endpoint = self.hosting.endpoint
        now = wait(self.clients, endpoint, self.report, self.poll_seconds)
        if now["EndpointConfigName"] != earlier:
            self.clients.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=earlier)
            wait(self.clients, endpoint, self.report, self.poll_seconds)
        if isinstance(self.hosting.variant, RealTime):
            put_scaling(self.clients, endpoint, self.hosting.variant)

    def settle(self, variant: RealTime) -> None:
        """Return to the earlier number of instances, and let load decide from there."""
        endpoint = self.hosting.endpoint
        wanted = max(instances_now(self.existing), variant.least)
        if instances_now(describe(self.clients, endpoint)) > wanted:
            self.clients.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=endpoint,
                DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": wanted}],
            )
            wait(self.clients, endpoint, self.report, self.poll_seconds)
        put_scaling(self.clients, endpoint, variant)

    def forget(self, config: str) -> None:
        """Delete the replaced configuration and its model, if deploy created them."""
        if re.fullmatch(f"{re.escape(self.hosting.endpoint)}-{STAMP}", config):
            with explained(f"delete the earlier configuration {config}"):
                self.clients.sagemaker.delete_endpoint_config(EndpointConfigName=config)
                self.clients.sagemaker.delete_model(ModelName=config)


def deploy(
    clients: Clients,
    hosting: Hosting,
    probe: Callable[[], None],
    report: Report,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Create the endpoint, or move an existing one to a new model by canary; succeed only if it answers.

    Args:
        clients: AWS.
        hosting: the endpoint's settings.
        probe: sends one photo to the endpoint and checks the answer.
        report: receives a line about each step.
        poll_seconds: how often to read the endpoint's state.

    Raises:
        UserError: a step failed; the new resources were deleted, or the message names those that remain.
    """
    with explained(f"look at endpoint {hosting.endpoint}"):
        existing = describe(clients, hosting.endpoint)
    if existing:
        require_updatable(existing, hosting)
    name = f"{hosting.endpoint}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    deployment = Deployment(clients, hosting, report, poll_seconds, name, existing)
    try:
        with explained(f"deploy endpoint {hosting.endpoint}"):
            deployment.run(probe)
    except (UserError, KeyboardInterrupt) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        report("rolling back")
        left = deployment.rollback.run()
        kept = "; the endpoint serves its earlier model" if existing else ""
        after = f"could not be deleted and may cost money: {', '.join(left)}" if left else f"all rolled back{kept}"
        raise UserError(f"{reason} ({after})") from error
    if existing:
        deployment.forget(existing["EndpointConfigName"])


def require_updatable(existing: "DescribeEndpointOutputTypeDef", hosting: Hosting) -> None:
    """Check that an endpoint can take these settings.

    Raises:
        UserError: the endpoint has failed, is being changed, or is of the other kind.
    """
    name, status = hosting.endpoint, existing["EndpointStatus"]
    cleanup, see = command("model", "cleanup", "--endpoint", name), command("model", "status", "--endpoint", name)
    if status == "Failed":
        raise UserError(f"endpoint {name} has failed: run {cleanup}, then deploy again")
    if status != "InService":
        raise UserError(f"endpoint {name} is {status}: wait until it is InService; see {see}")
    serverless = any("CurrentServerlessConfig" in variant for variant in existing.get("ProductionVariants", []))
    if serverless != isinstance(hosting.variant, Serverless):
        kind, wanted = ("serverless", "real-time") if serverless else ("real-time", "serverless")
        raise UserError(
            f"endpoint {name} is {kind} and AWS cannot make it {wanted}: "
            f"run {cleanup} first, or give another --endpoint"
        )


def capture_request(capture: Capture) -> dict[str, object]:
    """Return the `DataCaptureConfig` for SageMaker: images as base64, answers as plain JSON."""
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": capture.percent,
        "DestinationS3Uri": capture.uri,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }


def probe(predictor: Predictor, photo: bytes, classes: int | None) -> None:
    """Send one photo and check that the answer has one probability per class.

    Raises:
        UserError: the answer is missing or wrong.
    """
    answer = predictor(photo)
    if classes is not None and len(answer) != classes:
        raise UserError(f"the endpoint knows {len(answer)} classes instead of {classes}")
