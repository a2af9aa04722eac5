"""Every task calls an operation that exists, with parameters that the service model knows."""

import pytest

from .definitions import Integration, Task, tasks
from .service_models import problems

EVERY_TASK = tasks()


@pytest.mark.parametrize("task", EVERY_TASK, ids=str)
def test_a_task_gives_its_operation_valid_arguments(task: Task) -> None:
    for integration in task.integrations:
        assert problems(integration, task.state["Arguments"]) == ""


@pytest.mark.parametrize(
    ("resource", "arguments", "refused"),
    [
        ("dynamodb:putItem", {"TableName": "t"}, 'Missing required parameter in input: "Item"'),
        (
            "dynamodb:putItem",
            {"TableName": "t", "Item": {}, "Condition": "c"},
            'Unknown parameter in input: "Condition (in',
        ),
        (
            "dynamodb:updateItem",
            {"TableName": "t", "Key": {"photo": {"S": 1}}},
            "Invalid type for parameter Key.photo.S",
        ),
        ("aws-sdk:sfn:listMapRuns", {"executionArn": "a"}, "Unknown parameter"),
        ("aws-sdk:sfn:startSyncExecution", {"StateMachineArn": "a", "Input": {}}, "Invalid type for parameter input"),
        ("aws-sdk:cloudwatch:putMetricData", {"Namespace": "n", "MetricData": [{"Unit": "s"}]}, "MetricName"),
    ],
)
def test_a_wrong_argument_is_noticed(resource: str, arguments: object, refused: str) -> None:
    assert refused in problems(Integration.parse(f"arn:aws:states:::{resource}"), arguments)
