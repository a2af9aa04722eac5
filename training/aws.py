"""AWS at arm's length: one way to a client, and what each of AWS's refusals means to the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    WaiterError,
)

from training.errors import TrainingError

DENIED: Final = "your user lacks a permission; README has the policy that it needs"
# Error code → what to do about it. The codes of S3, SageMaker, IAM, STS and Application Auto Scaling.
REMEDIES: Final = {
    "AccessDenied": DENIED,
    "AccessDeniedException": DENIED,
    "ExpiredToken": "your credentials have expired: sign in again",
    "ExpiredTokenException": "your credentials have expired: sign in again",
    "InvalidClientTokenId": "AWS does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "there is no such bucket: create it with aws s3 mb s3://NAME",
    "ResourceLimitExceeded": "a quota of your account is used up: ask for more under Service Quotas, SageMaker",
    "ThrottlingException": "AWS asks to slow down: try again in a minute",
}


def client(service: str, region: str | None) -> Any:
    """Give a boto3 client that retries throttled calls.

    Raises:
        TrainingError: no region is set, or the profile does not exist.

    """
    with explained(f"reach {service}"):
        return boto3.client(service, region_name=region, config=Config(retries={"mode": "standard"}))


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn boto3's errors into one line: what could not be done, why, and what helps.

    Raises:
        TrainingError: any of boto3's errors came out of the block.

    """
    try:
        yield
    except ClientError as error:
        raise TrainingError(f"cannot {action}: {describe(error)}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise TrainingError(f"cannot {action}: no AWS credentials; run aws configure, or set AWS_PROFILE") from error
    except NoRegionError as error:
        raise TrainingError(f"cannot {action}: no AWS region; give --region or set AWS_DEFAULT_REGION") from error
    except ProfileNotFound as error:
        raise TrainingError(f"cannot {action}: {error}; aws configure list-profiles shows which exist") from error
    except EndpointConnectionError as error:
        raise TrainingError(f"cannot {action}: {error}; check the network and the region") from error
    except WaiterError as error:
        raise TrainingError(f"cannot {action}: {error}") from error
    except BotoCoreError as error:
        raise TrainingError(f"cannot {action}: {error}") from error


def describe(error: ClientError) -> str:
    """Say in one line what AWS refused, with what helps where that is known."""
    code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
    remedy = REMEDIES.get(code)
    text = " ".join(f"{code}: {message}".split())
    return f"{text} ({remedy})" if remedy else text


def is_missing(error: ClientError) -> bool:
    """Say whether AWS means that the thing does not exist (SageMaker says it with a validation error)."""
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if code in {
        "404",
        "NoSuchKey",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "ObjectNotFoundException",
    }:
        return True
    return code == "ValidationException" and any(
        part in message for part in ("Could not find", "does not exist", "not found", "No scalable target")
    )
