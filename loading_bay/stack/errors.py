"""The error that a user can fix, and the remedy for each AWS error."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import click
from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from .hints import command
from .text import printable

# All errors of a call to AWS.
AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error)

DENIED = "your user lacks a permission; docs/deploy.md has the policy that it needs"
# Error code → remedy.
REMEDIES = {
    "AccessDenied": DENIED,
    "AccessDeniedException": DENIED,
    "ExpiredToken": "your credentials have expired: sign in again",
    "ExpiredTokenException": "your credentials have expired: sign in again",
    "InvalidClientTokenId": "AWS does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "UnrecognizedClientException": "AWS does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "the bucket does not exist: create it with aws s3 mb s3://NAME",
    "ResourceLimitExceeded": (
        "your account's quota is too small, and 0 in a new account; an update needs twice the instances: "
        "request an increase under Service Quotas, SageMaker"
    ),
    "ThrottlingException": "AWS asks to slow down: try again in a minute",
    "ProvisionedThroughputExceededException": "AWS asks to slow down: try again in a minute",
    "404": "the bucket does not exist: create it with aws s3 mb s3://NAME",
    "SlowDown": "AWS asks to slow down: try again in a minute",
}


class UserError(click.ClickException):
    """An error and its remedy for the user; it ends a command with one line, `Error: …`, and exit code 1."""

    def format_message(self) -> str:
        """Return the message; it may quote a key, a file's name or an answer of AWS."""
        return printable(self.message)


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn AWS errors into one line: the failed action, the reason and the remedy.

    Raises:
        UserError: a call to AWS failed inside the block.
    """
    try:
        yield
    except AWS_ERRORS as error:
        raise UserError(f"cannot {action}: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Return one line that says why a call to AWS failed, with the remedy if it is known."""
    if isinstance(error, ClientError):
        code, message = error.response["Error"].get("Code", "?"), error.response["Error"].get("Message", "")
        text, remedy = f"{code}: {message}", REMEDIES.get(code, "")
        return " ".join((f"{text} ({remedy})" if remedy else text).split())
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return "no AWS credentials; run aws configure, or set AWS_PROFILE"
    if isinstance(error, NoRegionError):
        return "no AWS region; give --region or set AWS_DEFAULT_REGION"
    if isinstance(error, ProfileNotFound):
        return f"{error}; aws configure list-profiles shows which exist"
    if isinstance(error, EndpointConnectionError):
        here = urlsplit(error.kwargs["endpoint_url"]).hostname in {"127.0.0.1", "localhost"}
        remedy = f"start the local stack with: {command('up')}" if here else "check the network and the region"
        return f"{error}; {remedy}"
    return " ".join(str(error).split())


def is_missing(error: ClientError) -> bool:
    """Tell whether an AWS error means that the resource does not exist (SageMaker sends a validation error)."""
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
