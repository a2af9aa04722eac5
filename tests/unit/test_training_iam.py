"""The policies in docs/deploy.md allow all calls of training and deployment, in every partition."""

import json
import re
from typing import Any

import pytest

from loading_bay.stack.template import ROOT, read_template

from .calls import calls_of

POLICIES = sorted((ROOT / "training" / "iam").glob("*.json"))
PACKAGES = ("cli", "endpoint", "model")
MODULES = sorted(module for name in PACKAGES for module in (ROOT / "loading_bay" / name).rglob("*.py"))
# IAM's prefixes of the services whose resources have another name; the others are the name in lower case.
PREFIXES = {
    "ApiGatewayV2": "apigateway",
    "Cognito": "cognito-idp",
    "EventSchemas": "schemas",
    "Serverless": "lambda",
    "StepFunctions": "states",
}
MOST_CHARACTERS = 10_240  # of a role's inline policies, without white space


def allowed(name: str) -> set[str]:
    statements: list[dict[str, Any]] = json.loads((ROOT / "training" / "iam" / name).read_text())["Statement"]
    actions = [each["Action"] for each in statements]
    return {action for each in actions for action in ([each] if isinstance(each, str) else each)}


def test_the_trainer_may_make_all_sagemaker_calls_of_training() -> None:
    called = calls_of(MODULES, ["sagemaker", "application-autoscaling", "cloudwatch"])

    assert "sagemaker:CreateEndpoint" in called
    assert called - allowed("trainer.json") == set()


def test_the_execution_role_lets_sagemaker_see_the_alarms_that_roll_an_update_back() -> None:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-configuration.html"""
    assert any("AutoRollbackConfiguration" in module.read_text() for module in MODULES)
    assert "cloudwatch:DescribeAlarms" in allowed("role.json")


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_hard_codes_no_partition_account_or_bucket(path: Any) -> None:
    for arn in re.findall(r'"(arn:[^"]*)"', path.read_text()):
        assert re.match(r"arn:PARTITION:[a-z0-9-]+:\*?:(ACCOUNT|\*|aws)?:", arn), arn


def test_the_deployer_may_manage_every_service_of_the_template_within_the_size_of_an_inline_policy() -> None:
    services = {each["Type"].split("::")[1] for each in read_template()["Resources"].values()}
    prefixes = {PREFIXES.get(each, each.lower()) for each in services}

    assert len(prefixes) > 10
    assert prefixes - {action.partition(":")[0] for action in allowed("deployer.json")} == set()
    assert len(re.sub(r"\s", "", (ROOT / "training" / "iam" / "deployer.json").read_text())) < MOST_CHARACTERS


def test_the_deployer_passes_and_changes_only_roles_named_after_the_stack() -> None:
    statements = json.loads((ROOT / "training" / "iam" / "deployer.json").read_text())["Statement"]
    found = [each for each in statements if any(action.startswith("iam:") for action in each["Action"])]

    assert [each["Resource"] for each in found] == [
        ["arn:PARTITION:iam::ACCOUNT:role/STACK-*", "arn:PARTITION:iam::ACCOUNT:policy/STACK-*"]
    ]
