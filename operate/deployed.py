"""The deployed stack: its outputs, and clients for what it consists of.

The same code talks to AWS and to the local AWS: `AWS_ENDPOINT_URL`, as `python -m local env` prints it, decides.
"""

from dataclasses import dataclass
from typing import Any

import boto3
import click
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


class OperateError(click.ClickException):
    """A failure that the user can mend; the message says how."""


@dataclass(frozen=True)
class Deployed:
    """A deployed stack's outputs by name, and a session to reach its parts."""

    session: Any
    outputs: dict[str, str]

    @classmethod
    def find(cls, stack_name: str) -> "Deployed":
        """Look the stack up by name.

        Raises:
            OperateError: no credentials, no region, or no such stack; the message says what to do.
        """
        session = boto3.Session()
        try:
            stacks = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
        except ClientError as error:
            message = error.response["Error"]["Message"]
            if "does not exist" in message:
                raise OperateError(
                    f"there is no stack {stack_name}; deploy it with sam build && sam deploy, "
                    "or name another with --stack-name"
                ) from error
            raise OperateError(f"the stack {stack_name} cannot be looked up: {message}") from error
        except BotoCoreError as error:
            raise OperateError(
                f"{error}; configure AWS with aws configure, or point to the local stack with "
                'eval "$(python -m local env)"'
            ) from error
        return cls(session, {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]})

    def client(self, service: str) -> Any:
        """Return a boto3 client that may be used from several threads."""
        return self.session.client(service, config=Config(max_pool_connections=32))
