"""Finds and deletes everything that belongs to an endpoint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loading_bay.stack.addresses import Address
from loading_bay.stack.errors import UserError, explained

from .guardrails import deregister_scaling, scaling_target
from .hosting import POLL_SECONDS, STAMP, Clients, alarm_names
from .live_endpoint import delete_endpoint, describe


@dataclass(frozen=True)
class EndpointStatus:
    """The resources of an endpoint that exist now; missing ones are empty lists or None."""

    endpoint: str
    state: str | None
    failure: str | None
    config: str | None
    variants: list[str]
    capture: str
    scaling: str
    alarms: list[str]
    configs: list[str]
    models: list[str]
    capture_uri: str | None

    def rows(self) -> list[tuple[str, str]]:
        """Return the existing resources as (label, value)."""
        rows = [
            ("state", self.state or "no endpoint"),
            ("failure", self.failure or ""),
            ("configuration", self.config or ""),
            *(("variant", variant) for variant in self.variants),
            ("data capture", self.capture if self.state else ""),
            ("scaling", self.scaling),
            *(("alarm", alarm) for alarm in self.alarms),
            ("configurations", ", ".join(self.configs)),
            ("models", ", ".join(self.models)),
        ]
        return [(label, value) for label, value in rows if value]

    @property
    def exists(self) -> bool:
        """Tell whether any resource of this endpoint exists."""
        return bool(self.state or self.configs or self.models or self.alarms or self.scaling != "none")


def status(clients: Clients, endpoint: str) -> EndpointStatus:
    """Look up everything that belongs to an endpoint.

    Raises:
        UserError: AWS denies access.
    """
    with explained(f"look at endpoint {endpoint}"):
        description: Mapping[str, Any] = describe(clients, endpoint) or {}
        configs = _made(clients, "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", endpoint)
        models = _made(clients, "list_models", "Models", "ModelName", endpoint)
        alarms = clients.cloudwatch.describe_alarms(AlarmNames=alarm_names(endpoint))["MetricAlarms"]
        targets = clients.autoscaling.describe_scalable_targets(
            ServiceNamespace="sagemaker", ResourceIds=[scaling_target(endpoint)["ResourceId"]]
        )["ScalableTargets"]
        destinations = {uri for config in configs if (uri := _capture_uri(clients, config))}
    return EndpointStatus(
        endpoint=endpoint,
        state=description.get("EndpointStatus"),
        failure=description.get("FailureReason"),
        config=description.get("EndpointConfigName"),
        variants=[_variant_line(variant) for variant in description.get("ProductionVariants", [])],
        capture=_capture_line(description),
        scaling=f"{targets[0]['MinCapacity']} to {targets[0]['MaxCapacity']} instances" if targets else "none",
        alarms=[f"{alarm['AlarmName']} is {alarm['StateValue']}" for alarm in alarms],
        configs=configs,
        models=models,
        capture_uri=next(iter(sorted(destinations)), None),
    )


def _variant_line(variant: Mapping[str, Any]) -> str:
    serverless = variant.get("CurrentServerlessConfig")
    if serverless:
        return f"{variant['VariantName']}: serverless, {serverless['MemorySizeInMB']} MB"
    return f"{variant['VariantName']}: {variant.get('CurrentInstanceCount', 0)} instances"


def _capture_line(description: Mapping[str, Any]) -> str:
    capture = description.get("DataCaptureConfig")
    if not capture or not capture.get("EnableCapture"):
        return "off"
    return f"{capture.get('CurrentSamplingPercentage', '?')} % to {capture.get('DestinationS3Uri')}"


def _made(clients: Clients, method: str, collection: str, key: str, endpoint: str) -> list[str]:
    """Return the names of the resources that deploy created for exactly this endpoint, not for a longer name."""
    pages = clients.sagemaker.get_paginator(method).paginate(NameContains=endpoint)
    names = [item[key] for page in pages for item in page[collection]]
    return [name for name in names if re.fullmatch(f"{re.escape(endpoint)}-{STAMP}", name)]


def _capture_uri(clients: Clients, config: str) -> str | None:
    description = clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)
    uri: str | None = description.get("DataCaptureConfig", {}).get("DestinationS3Uri")
    return uri


def cleanup(clients: Clients, found: EndpointStatus, poll_seconds: float = POLL_SECONDS) -> list[str]:
    """Delete every resource that status found, the expensive ones first; return the names of those deleted.

    Raises:
        UserError: AWS refuses; run cleanup again to delete the rest.
    """
    deleted = []
    with explained(f"delete endpoint {found.endpoint} (run cleanup again for the rest)"):
        if found.scaling != "none" and deregister_scaling(clients, found.endpoint):
            deleted.append("scaling")
        if found.state:
            delete_endpoint(clients, found.endpoint, poll_seconds)
            deleted.append(f"endpoint {found.endpoint}")
        for config in found.configs:
            clients.sagemaker.delete_endpoint_config(EndpointConfigName=config)
            deleted.append(f"endpoint configuration {config}")
        for model in found.models:
            clients.sagemaker.delete_model(ModelName=model)
            deleted.append(f"model {model}")
        if found.alarms:
            clients.cloudwatch.delete_alarms(AlarmNames=alarm_names(found.endpoint))
            deleted += [f"alarm {name}" for name in alarm_names(found.endpoint)]
    return deleted


def captures(clients: Clients, uri: str, endpoint: str) -> list[dict[str, str]]:
    """List an endpoint's captured records in S3, in the form that `delete_objects` takes.

    Raises:
        UserError: the bucket does not exist, or AWS denies access.
    """
    captures = Address.parse(uri).folder
    with explained(f"list {uri}"):
        pages = clients.s3.get_paginator("list_objects_v2").paginate(
            Bucket=captures.bucket, Prefix=f"{captures.prefix}{endpoint}/"
        )
        return [{"Key": item["Key"]} for page in pages for item in page.get("Contents", [])]


def delete_captures(clients: Clients, uri: str, keys: list[dict[str, str]]) -> None:
    """Delete captured records, a thousand per call.

    Raises:
        UserError: AWS refuses some; run cleanup again to delete the rest.
    """
    bucket = Address.parse(uri).bucket
    with explained(f"delete captures in {uri}"):
        for start in range(0, len(keys), 1000):
            answer = clients.s3.delete_objects(
                Bucket=bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True}
            )
            if errors := answer.get("Errors"):
                raise UserError(f"{len(errors)} captures in {uri} could not be deleted: {errors[0]['Message']}")
