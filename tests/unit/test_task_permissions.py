"""Every role grants exactly the permissions that the tasks of its state machine or the calls of its function need.

The required permissions are derived from each task's `Resource` and `Arguments`, and from each function's boto3 calls.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from loading_bay.stack.template import read_template

from .calls import calls_of, services_of
from .definitions import Task, as_text, definition_of, machines, states_of, tasks
from .packages import modules_of, packages_of

RESOURCES: dict[str, dict[str, Any]] = read_template()["Resources"]
# An action on a resource, both as text: ("dynamodb:PutItem", "Decisions.Arn").
Permission = tuple[str, str]

# The actions of a call. https://docs.aws.amazon.com/service-authorization/latest/reference/ and, for the patterns of
# Step Functions, https://docs.aws.amazon.com/step-functions/latest/dg/service-integration-iam-templates.html
# Reading a version takes a separate action; without s3:ListBucket, a missing object looks like a forbidden one.
READ = {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"}
ACTIONS = {
    "cloudwatch:PutMetricData": {"cloudwatch:PutMetricData"},
    "dynamodb:BatchGetItem": {"dynamodb:BatchGetItem"},
    "dynamodb:GetItem": {"dynamodb:GetItem"},
    "dynamodb:PutItem": {"dynamodb:PutItem"},
    "dynamodb:Query": {"dynamodb:Query"},
    "dynamodb:Scan": {"dynamodb:Scan"},
    "dynamodb:UpdateItem": {"dynamodb:UpdateItem"},
    "events:PutEvents": {"events:PutEvents"},
    "lambda:Invoke": {"lambda:InvokeFunction"},
    "s3:CopyObject": READ | {"s3:PutObject"},
    "s3:DeleteObject": {"s3:DeleteObject"},
    "s3:GetObject": READ,
    "s3:HeadObject": READ,
    "s3:ListObjectsV2": {"s3:ListBucket"},
    "s3:PutObject": {"s3:PutObject"},
    "sagemaker-runtime:InvokeEndpoint": {"sagemaker:InvokeEndpoint"},
    "sns:Publish": {"sns:Publish"},
    "sqs:DeleteMessage": {"sqs:DeleteMessage"},
    "sqs:ReceiveMessage": {"sqs:ReceiveMessage"},
    "sqs:SendMessage": {"sqs:SendMessage"},
    "stepfunctions:DescribeMapRun": {"states:DescribeMapRun"},
    "stepfunctions:ListMapRuns": {"states:ListMapRuns"},
    "stepfunctions:StartExecution": {"states:StartExecution"},
    "stepfunctions:StartSyncExecution": {"states:StartSyncExecution"},
}
# To wait for an execution, Step Functions follows it with a managed rule.
WAIT = {
    "states:DescribeExecution",
    "states:StopExecution",
    "events:PutTargets",
    "events:PutRule",
    "events:DescribeRule",
}
# A distributed Map starts and follows executions of the same machine, reads its items and writes its results.
DISTRIBUTED = {"states:StartExecution", "states:DescribeExecution", "states:StopExecution"}
WRITE_RESULTS = {"s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"}
# For the customer-managed key, for logs and for traces; other tests check their exact lists.
EVERYBODY = re.compile(r"kms:.*|xray:.*|logs:.*")


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def granted(role: str) -> set[Permission]:
    found = set()
    for policy in RESOURCES[role]["Properties"].get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            found |= {
                (action, as_text(resource))
                for allowed in statement.get("Fn::If", [None, statement])[1:]
                if "Action" in allowed
                for action in as_list(allowed["Action"])
                for resource in as_list(allowed["Resource"])
                if not EVERYBODY.fullmatch(action)
            }
    return found


def actions(permissions: Iterable[Permission]) -> set[str]:
    return {action for action, _ in permissions}


def needed_by_task(task: Task) -> set[str]:
    needed: set[str] = set()
    for integration in task.integrations:
        needed |= ACTIONS[f"{integration.client}:{integration.operation}"]
        needed |= WAIT if integration.pattern.startswith("sync") else set()
    return needed


def needed_by_maps(machine: str) -> set[str]:
    needed: set[str] = set()
    for _, state in states_of(definition_of(machine)):
        if state["Type"] == "Map" and state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED":
            needed |= DISTRIBUTED
            needed |= WRITE_RESULTS if "ResultWriter" in state else set()
            reader = state.get("ItemReader", {}).get("Resource", "")
            needed |= {"s3:ListBucket"} if reader.endswith("s3:listObjectsV2") else set()
            needed |= {"s3:GetObject"} if reader.endswith("s3:getObject") else set()
    return needed


def named_by(task: Task) -> Iterator[str]:
    """The stack resources in the task's arguments, as its role's policy writes them."""
    substitutions = machines()[task.machine]["DefinitionSubstitutions"]
    arguments = json.dumps(task.state["Arguments"])
    index = re.search(r"IndexName\W+(\w+)", arguments)
    for name in re.findall(r"\$\{(\w+)\}", arguments):
        if "Fn::If" in json.dumps(substitutions[name]):
            continue  # a text that depends on a parameter
        logical_id = as_text(substitutions[name]).removesuffix(".Arn")
        kind = RESOURCES.get(logical_id, {}).get("Type")
        if kind == "AWS::DynamoDB::Table":
            yield f"{logical_id}.Arn/index/{index[1]}" if index else f"{logical_id}.Arn"
        elif kind == "AWS::Serverless::Function":
            yield f"{logical_id}.Arn"
        elif kind == "AWS::StepFunctions::StateMachine":
            yield logical_id
        elif kind == "AWS::SQS::Queue":
            yield f"{logical_id}.Arn"


def role_of(logical_id: str) -> str:
    properties = RESOURCES[logical_id]["Properties"]
    return as_text(properties.get("Role") or properties["RoleArn"]).removesuffix(".Arn")


@pytest.mark.parametrize("machine", machines())
def test_a_state_machine_has_exactly_the_permissions_of_its_tasks(machine: str) -> None:
    needed = needed_by_maps(machine).union(*(needed_by_task(task) for task in tasks() if task.machine == machine))

    assert actions(granted(role_of(machine))) == needed


@pytest.mark.parametrize("task", tasks(), ids=str)
def test_a_role_may_use_exactly_the_resources_of_its_tasks(task: Task) -> None:
    allowed = granted(role_of(task.machine))
    for target in named_by(task):
        assert needed_by_task(task) & actions(each for each in allowed if each[1] == target), target


FUNCTIONS = [name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::Serverless::Function"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_deployed_with_exactly_its_imports(function: str) -> None:
    assert {module.parent.name for module in modules_of(function)} == set(packages_of(function))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_exactly_the_permissions_of_its_calls(function: str) -> None:
    modules = modules_of(function)
    needed = set().union(*(ACTIONS[call] for call in calls_of(modules, services_of(modules))))

    assert actions(granted(role_of(function))) == needed


STARTING = {
    (name, as_text(target["RoleArn"]).removesuffix(".Arn"), as_text(target["Arn"]))
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Events::Rule"
    for target in resource["Properties"]["Targets"]
    if "RoleArn" in target
}


@pytest.mark.parametrize(("rule", "role", "target"), sorted(STARTING))
def test_a_rule_may_start_exactly_its_targets(rule: str, role: str, target: str) -> None:
    assert granted(role) == {("states:StartExecution", target)}, rule
