"""Every error in a definition is one that the task's integration can raise.

An error in the spelling of another integration never matches, without a warning: `dynamodb:putItem` raises
`DynamoDB.…`, `aws-sdk:dynamodb:query` raises `DynamoDb.…`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .definitions import Integration, Task, definition_of, machines, states_of, tasks
from .packages import modules_of
from .service_models import modelled_errors

ERROR_HANDLING = "https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"
LAMBDA = "https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html"
LAMBDA_ERRORS = (
    "AWSLambdaException",
    "ClientExecutionTimeoutException",
    "SdkClientException",
    "ServiceException",
    "TooManyRequestsException",
    "Unknown",
)
LAMBDA_RUNTIME = "https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html"
SDK = "https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html"
# The AWS SDK for Java has a base class for a service's errors; Step Functions reports it for an error without a model.
SDK_1 = "https://docs.aws.amazon.com/AWSJavaSDK/latest/javadoc/com/amazonaws/services/{}.html"
SDK_2 = "https://sdk.amazonaws.com/java/api/latest/software/amazon/awssdk/services/{}.html"
# AWS answers that the authors of LocalStack recorded.
RECORDED = "github.com/localstack/localstack: tests/aws/services/stepfunctions/v2/{}.snapshot.json"


@dataclass(frozen=True)
class Kind:
    """The errors of an integration that the service's model does not list, with their sources, by prefix.

    Every retrier names the transient errors: the call was throttled, failed on the side of AWS, or never arrived.
    """

    prefix: str
    passing: dict[str, str]

    def __iter__(self) -> Iterator[str]:
        return (f"{self.prefix}.{name}" for name in self.passing)


CLIENT = RECORDED.format("error_handling/test_task_service_sqs")
KINDS = {
    "lambda": Kind("Lambda", dict.fromkeys(LAMBDA_ERRORS, LAMBDA)),
    "dynamodb": Kind(
        "DynamoDB",
        {
            "AmazonDynamoDBException": RECORDED.format("error_handling/test_task_service_dynamodb"),
            "SdkClientException": CLIENT,
        },
    ),
    "aws-sdk:dynamodb": Kind(
        "DynamoDb", {"DynamoDbException": RECORDED.format("error_handling/test_aws_sdk"), "SdkClientException": SDK}
    ),
    "aws-sdk:s3": Kind("S3", {"S3Exception": SDK_2.format("s3/model/S3Exception"), "SdkClientException": SDK}),
    "events": Kind(
        "EventBridge",
        {
            "AmazonEventBridgeException": SDK_1.format("eventbridge/model/AmazonEventBridgeException"),
            "FailedEntry": RECORDED.format("services/test_events_task_service"),
            "SdkClientException": CLIENT,
        },
    ),
    "states": Kind(
        "StepFunctions",
        {
            "AWSStepFunctionsException": SDK_1.format("stepfunctions/model/AWSStepFunctionsException"),
            "SdkClientException": CLIENT,
        },
    ),
    "aws-sdk:sfn": Kind("Sfn", {"SfnException": SDK_2.format("sfn/model/SfnException"), "SdkClientException": SDK}),
    "aws-sdk:cloudwatch": Kind(
        "CloudWatch",
        {
            "CloudWatchException": SDK_2.format("cloudwatch/model/CloudWatchException"),
            "SdkClientException": SDK,
        },
    ),
    "sqs": Kind("SQS", {"AmazonSQSException": CLIENT, "SdkClientException": CLIENT}),
    "aws-sdk:sqs": Kind("Sqs", {"SqsException": SDK_2.format("sqs/model/SqsException"), "SdkClientException": SDK}),
    "sns": Kind(
        "SNS",
        {"AmazonSNSException": SDK_1.format("sns/model/AmazonSNSException"), "SdkClientException": CLIENT},
    ),
}
# The end of a function, for any input: these errors add to those of its integration.
ENDS = {
    "Runtime.ExitError": LAMBDA_RUNTIME,
    "Runtime.OutOfMemory": LAMBDA_RUNTIME,
    "Runtime.Unknown": LAMBDA_RUNTIME,
    "Sandbox.Timedout": LAMBDA_RUNTIME,
}
ANY_STATE = {
    "States.ALL": ERROR_HANDLING,
    "States.QueryEvaluationError": ERROR_HANDLING,
    "States.TaskFailed": ERROR_HANDLING,
    "States.Timeout": ERROR_HANDLING,
}
MAP = ANY_STATE | {"States.ExceedToleratedFailureThreshold": ERROR_HANDLING, "States.ItemReaderFailed": ERROR_HANDLING}


# People call the review page; a workflow calls the others.
CALLED = (
    "SerializeFunction",
    "InferenceFunction",
    "ThresholdFunction",
)


def raised_by_functions() -> set[str]:
    """The errors that a workflow's functions raise, by class name, including subclasses of these errors."""
    names: set[str] = set()
    for module in (module for name in CALLED for module in modules_of(name)):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and (base.id == "Exception" or base.id in names) for base in node.bases
            ):
                names.add(node.name)
    return names


def can_raise(integration: Integration) -> set[str]:
    kind = KINDS[integration.kind]
    modelled = {f"{kind.prefix}.{name}" for name in modelled_errors(integration)}
    return set(ANY_STATE) | set(kind) | modelled | (ends() if integration.kind == "lambda" else set())


def ends() -> set[str]:
    return set(ENDS) | raised_by_functions()


def handled(state: dict[str, Any]) -> set[str]:
    handlers = [*state.get("Retry", []), *state.get("Catch", [])]
    return {error for handler in handlers for error in handler["ErrorEquals"]}


@pytest.mark.parametrize("task", tasks(), ids=str)
def test_a_task_handles_only_errors_that_its_integration_can_raise(task: Task) -> None:
    possible = set().union(*map(can_raise, task.integrations))

    assert handled(task.state) - possible == set()


@pytest.mark.parametrize("machine", machines())
def test_a_map_catches_only_errors_that_a_map_can_raise(machine: str) -> None:
    for name, state in states_of(definition_of(machine)):
        if state["Type"] == "Map":
            assert handled(state) - set(MAP) == set(), name


def test_every_error_that_a_function_raises_is_named_or_worth_another_try() -> None:
    named = {error for task in tasks() for error in handled(task.state)}

    assert raised_by_functions() - named == {"DecoderFailed", "StorageUnavailable"}


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        ("aws-sdk:dynamodb:query", "DynamoDB.ThrottlingException"),
        ("dynamodb:putItem", "DynamoDb.DynamoDbException"),
        ("events:putEvents", "EventBridge.ThrottlingException"),
        ("aws-sdk:sfn:listMapRuns", "Sfn.ThrottlingException"),
        ("states:startExecution.sync:2", "StepFunctions.ThrottlingException"),
        ("aws-sdk:s3:headObject", "S3.NoSuchKey"),
        ("lambda:invoke", "Lambda.ThrottlingException"),
    ],
)
def test_a_name_of_the_wrong_kind_is_noticed(resource: str, error: str) -> None:
    assert error not in can_raise(Integration.parse(f"arn:aws:states:::{resource}"))
