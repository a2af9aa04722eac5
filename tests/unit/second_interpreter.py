"""Runs the definitions on a second interpreter: Step Functions of moto, with its DynamoDB, S3 and EventBridge.

It descends from LocalStack, whose authors compare it with recorded answers of AWS. An expression that only one of two
interpreters accepts is a finding. This module adds the parts of AWS that moto lacks:

- moto evaluates JSONata in a Java library that it does not ship; here the Python library does;
- it lacks `$uuid()`;
- it runs a function in Docker; here a function of the test answers;
- it really waits between retries.

The definitions avoid `$` and `$$` (the current item and the input), which AWS accepts and moto refuses.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import boto3
import jsonata
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.common.string import string_expression
from moto.stepfunctions.parser.asl.component.intrinsic import jsonata as functions_of_aws
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.jsonata import validations

from loading_bay.stack.template import read_template

from .definitions import Integration, definition_of, machines

REGION = "us-east-1"
Function = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """The end of an execution, and the calls of its tasks with their arguments."""

    status: str
    error: str | None
    cause: str | None
    output: Any
    calls: list[tuple[Integration, dict[str, Any]]]
    states: list[str]


@dataclass
class Interpreter:
    """Runs state machines; `functions` replace the Lambda functions, by the name of their substitution."""

    functions: dict[str, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.s3 = boto3.client("s3", REGION)
        self.dynamodb = boto3.client("dynamodb", REGION)
        self._sfn = boto3.client("stepfunctions", REGION)
        self.values = {
            name: f"{name}Value" for machine in machines().values() for name in machine["DefinitionSubstitutions"]
        }

    def create_table(self, logical_id: str) -> str:
        properties = read_template()["Resources"][logical_id]["Properties"]
        kept = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
        self.dynamodb.create_table(
            TableName=logical_id, **{name: properties[name] for name in kept if name in properties}
        )
        return logical_id

    def items(self, table: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.dynamodb.scan(TableName=table)["Items"]
        return items

    def run(self, machine: str, execution_input: object) -> Run:
        text = json.dumps(definition_of(machine))
        for name, value in self.values.items():
            text = text.replace(f"${{{name}}}", json.dumps(value)[1:-1])
        arn = self._sfn.create_state_machine(
            name=f"{machine}-{uuid.uuid4()}", definition=text, roleArn="arn:aws:iam::123456789012:role/any"
        )["stateMachineArn"]
        others = set(threading.enumerate())
        with self._patches():
            started = self._sfn.start_execution(
                stateMachineArn=arn, name=str(uuid.uuid4()), input=json.dumps(execution_input)
            )["executionArn"]
            for thread in set(threading.enumerate()) - others:
                thread.join(20)
        ended = self._sfn.describe_execution(executionArn=started)
        events = self._sfn.get_execution_history(executionArn=started, maxResults=1000)["events"]
        scheduled: Any = [each["taskScheduledEventDetails"] for each in events if each["type"] == "TaskScheduled"]
        return Run(
            ended["status"],
            ended.get("error"),
            ended.get("cause"),
            json.loads(ended["output"]) if "output" in ended else None,
            [(_integration(each), json.loads(each["parameters"])) for each in scheduled],
            [each["stateEnteredEventDetails"]["name"] for each in events if "stateEnteredEventDetails" in each],
        )

    @contextmanager
    def _patches(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in (string_expression, validations):
                stack.enter_context(mock.patch.object(module, "eval_jsonata_expression", _evaluate))
            stack.enter_context(mock.patch.dict(functions_of_aws._DECLARATION_BY_VARIABLE_REFERENCE, {"$uuid": ""}))
            stack.enter_context(mock.patch.object(lambda_eval_utils, "execute_lambda_function_integration", self._call))
            stack.enter_context(mock.patch("time.sleep"))
            yield

    def _call(self, env: Any, parameters: Mapping[str, Any], **_: Any) -> None:
        payload = parameters["Payload"]
        name = next(name for name, value in self.values.items() if value == parameters["FunctionName"])
        try:
            answer = self.functions[name](json.loads(payload) if isinstance(payload, str | bytes) else payload)
        except Exception as error:
            raised = {"errorType": type(error).__name__, "errorMessage": str(error)}
            raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", json.dumps(raised)) from error
        env.stack.append({"Payload": answer, "StatusCode": 200})


def _evaluate(expression: str) -> Any:
    compiled = jsonata.Jsonata(expression)
    compiled.register_lambda("uuid", lambda: str(uuid.uuid4()))
    return compiled.evaluate(None)


def _integration(scheduled: Mapping[str, str]) -> Integration:
    kind = scheduled["resourceType"]
    return Integration(kind.startswith("aws-sdk:"), kind.removeprefix("aws-sdk:"), scheduled["resource"].split(".")[0])


@contextmanager
def interpreter() -> Iterator[Interpreter]:
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield Interpreter()
