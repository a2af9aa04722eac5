"""Describes a live endpoint, waits for it, and deletes it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from loading_bay.stack.errors import UserError, explained, is_missing
from loading_bay.stack.image_size import VARIABLE

from .guardrails import scaling_target
from .hosting import Capture, Clients, Hosting, RealTime, Serverless

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import (
        DataCaptureConfigOutputTypeDef,
        DescribeEndpointOutputTypeDef,
        ProductionVariantOutputTypeDef,
    )

Report = Callable[[str], None]


def describe(clients: Clients, endpoint: str) -> "DescribeEndpointOutputTypeDef | None":
    """Return the description of an endpoint; None if it does not exist."""
    try:
        description: DescribeEndpointOutputTypeDef = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return description


def instances_now(description: "DescribeEndpointOutputTypeDef | None") -> int:
    """Return the number of instances that an endpoint currently asks for; 0 without an endpoint or instances."""
    variants = description.get("ProductionVariants", []) if description else []
    return max((variant.get("DesiredInstanceCount", 0) for variant in variants), default=0)


def wait(clients: Clients, endpoint: str, report: Report, poll_seconds: float) -> "DescribeEndpointOutputTypeDef":
    """Wait until an endpoint is in service, and return its description.

    Raises:
        UserError: the endpoint failed; the message gives the reason that AWS names.
    """
    said = ""
    while True:
        description: DescribeEndpointOutputTypeDef = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
        status = description["EndpointStatus"]
        if status != said:
            report(f"endpoint {endpoint}: {status}")
            said = status
        if status == "InService":
            return description
        if status in {"Failed", "UpdateRollbackFailed", "OutOfService"}:
            reason = " ".join(description.get("FailureReason", "no reason given").split())
            raise UserError(f"endpoint {endpoint} is {status}: {reason}")
        time.sleep(poll_seconds)


def delete_endpoint(clients: Clients, endpoint: str, poll_seconds: float) -> None:
    """Delete an endpoint and wait until it is gone."""
    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    while describe(clients, endpoint):
        time.sleep(poll_seconds)


def hosting_of(clients: Clients, endpoint: str) -> Hosting:
    """Return the current settings of an endpoint, for hosting another model the same way.

    Raises:
        UserError: the endpoint does not exist, or AWS denies access.
    """
    with explained(f"look at endpoint {endpoint}"):
        name = clients.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        config = clients.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        variant = config["ProductionVariants"][0]
        model = clients.sagemaker.describe_model(ModelName=variant["ModelName"])
        container = model["PrimaryContainer"]
        kind: RealTime | Serverless
        if serverless := variant.get("ServerlessConfig"):
            kind = Serverless(serverless["MemorySizeInMB"], serverless["MaxConcurrency"])
        else:
            kind = _real_time(clients, endpoint, variant, config.get("DataCaptureConfig", {}))
    side = container.get("Environment", {}).get(VARIABLE)
    return Hosting(
        endpoint=endpoint,
        image=container["Image"],
        artifact=container["ModelDataUrl"],
        role=model["ExecutionRoleArn"],
        variant=kind,
        image_size=int(side) if side else None,
    )


def _real_time(
    clients: Clients,
    endpoint: str,
    variant: "ProductionVariantOutputTypeDef",
    capture: "DataCaptureConfigOutputTypeDef",
) -> RealTime:
    target = scaling_target(endpoint)
    found = {"ServiceNamespace": target["ServiceNamespace"]}
    limits = clients.autoscaling.describe_scalable_targets(**found, ResourceIds=[target["ResourceId"]])
    policies = clients.autoscaling.describe_scaling_policies(**found, ResourceId=target["ResourceId"])
    if not limits["ScalableTargets"] or not policies["ScalingPolicies"]:
        raise UserError(f"endpoint {endpoint} is not scaled the way deploy sets it up: use deploy for the new model")
    scaled, policy = limits["ScalableTargets"][0], policies["ScalingPolicies"][0]
    return RealTime(
        instance_type=variant["InstanceType"],
        least=scaled["MinCapacity"],
        most=scaled["MaxCapacity"],
        calls_per_instance=int(policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]),
        capture=Capture(capture["InitialSamplingPercentage"], capture["DestinationS3Uri"])
        if capture.get("EnableCapture")
        else None,
    )
