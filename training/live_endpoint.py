"""An endpoint as it is now on SageMaker: described, waited for, deleted."""

import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from stack.errors import UserError, is_missing

from .hosting import Clients

Report = Callable[[str], None]


def describe(clients: Clients, endpoint: str) -> dict[str, Any] | None:
    """Return SageMaker's description of an endpoint; None where there is none."""
    try:
        description: dict[str, Any] = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
    return description


def instances_now(description: dict[str, Any] | None) -> int:
    """Return the number of instances that an endpoint wants at present; 0 without an endpoint or instances."""
    variants = description.get("ProductionVariants", []) if description else []
    return max((variant.get("DesiredInstanceCount", 0) for variant in variants), default=0)


def wait(clients: Clients, endpoint: str, report: Report, poll_seconds: float) -> dict[str, Any]:
    """Wait until an endpoint rests: its description, in service.

    Raises:
        UserError: it failed; the message is AWS's reason.
    """
    said = ""
    while True:
        description: dict[str, Any] = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
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
