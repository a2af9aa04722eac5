"""A deployed stack, on AWS or on this machine: its outputs, and clients for its services."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .errors import UserError, describe, explained
from .hints import command
from .template import ROOT

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef

STACK_NAME = "loading-bay"
# The record of the local stack while it runs.
LOCAL_RECORD = ROOT / ".local" / "stack.json"

# Several threads may share a client, and a client retries throttled calls.
CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=32)


@dataclass(frozen=True)
class Deployed:
    """A deployed stack: its outputs and parameters by name, an AWS session, and the options that select it."""

    session: boto3.Session
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    endpoint_url: str | None = None
    options: tuple[str, ...] = ()

    @classmethod
    def find(cls, stack_name: str = STACK_NAME, region: str | None = None) -> "Deployed":
        """Look a stack up by name, on AWS or wherever `AWS_ENDPOINT_URL` points.

        Raises:
            UserError: no credentials, no region, or no such stack; the message says how to fix it.
        """
        try:
            session = boto3.Session(region_name=region)
            described = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                raise UserError(
                    f"stack {stack_name} does not exist; deploy it with sam build && sam deploy, "
                    "or name another with --stack-name"
                ) from error
            raise UserError(f"cannot look up the stack {stack_name}: {describe(error)}") from error
        except BotoCoreError as error:
            raise UserError(
                f"cannot look up the stack {stack_name}: {describe(error)}, or give --local for the local stack"
            ) from error
        return cls(session, outputs_of(described), parameters_of(described))

    @classmethod
    def local(cls, record: Path = LOCAL_RECORD) -> "Deployed":
        """Return the stack on this machine.

        Raises:
            UserError: no stack is running.
        """
        try:
            content = json.loads(record.read_text())
            return cls.on_this_machine(content["environment"], content["outputs"], content["parameters"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"no local stack is running; start one with: {command('up')}") from error

    @classmethod
    def on_this_machine(
        cls, environment: Mapping[str, str], outputs: Mapping[str, str], parameters: Mapping[str, str]
    ) -> "Deployed":
        """Return a stack on the local AWS that the variables of `environment` point at."""
        session = boto3.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        return cls(session, outputs, parameters, environment["AWS_ENDPOINT_URL"])

    def command(self, *words: str) -> str:
        """Return a command for this stack, quoted for a shell, as hints print it."""
        return command(*words, *self.options)

    def client(self, service: str, **config: Any) -> Any:
        """Return a boto3 client for a service of the stack."""
        # The local AWS has one address, without prefixes such as sync- or states.
        local = Config(inject_host_prefix=self.endpoint_url is None, **config)
        session: Any = self.session  # its type lists the services by name
        return session.client(service, endpoint_url=self.endpoint_url, config=CONFIG.merge(local))


def client(service: str, region: str | None = None) -> Any:
    """Return a boto3 client.

    Raises:
        UserError: no region is set, or the profile does not exist.
    """
    with explained(f"reach {service}"):
        session: Any = boto3
        return session.client(service, region_name=region, config=CONFIG)


def outputs_of(described: "StackTypeDef") -> dict[str, str]:
    """Return a stack's outputs by name, from its CloudFormation description."""
    return {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}


def parameters_of(described: "StackTypeDef") -> dict[str, str]:
    """Return a stack's parameters by name, from its CloudFormation description."""
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in described.get("Parameters", [])}
