"""The template after translation by SAM, for every environment and several regions."""

import json
import re
import tomllib
from typing import Any

import boto3
import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs
from samtranslator.metrics.metrics import DummyMetricsPublisher, Metrics
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from loading_bay.stack.template import ROOT, read_template

# One of each partition, and the two most used.
REGIONS = ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"]
ENVIRONMENTS = tomllib.loads((ROOT / "samconfig.toml").read_text())
NAMES = [name for name in ENVIRONMENTS if name != "version"]
# The limits on names by resource type; CloudFormation generates all other names.
LONGEST_STACK_NAME = 74  # docs/limits.md
LONGEST = {
    ("AWS::StepFunctions::StateMachine", "StateMachineName"): 80,
    ("AWS::Lambda::Function", "FunctionName"): 64,
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::CloudWatch::Alarm", "AlarmName"): 255,
    ("AWS::Events::Rule", "Name"): 64,
    ("AWS::IAM::Role", "RoleName"): 64,
    ("AWS::SQS::Queue", "QueueName"): 80,
    ("AWS::SNS::Topic", "TopicName"): 256,
    ("AWS::DynamoDB::Table", "TableName"): 255,
    ("AWS::S3::Bucket", "BucketName"): 63,
    ("AWS::Cognito::UserPool", "UserPoolName"): 128,
    ("AWS::Cognito::UserPoolClient", "ClientName"): 128,
    ("AWS::Cognito::UserPoolDomain", "Domain"): 63,
    ("AWS::ApiGatewayV2::Api", "Name"): 128,
}

every_environment = pytest.mark.parametrize("environment", NAMES)
# They have the same resources, and the linter takes seconds.
linted = pytest.mark.parametrize(
    "environment", [pytest.param(name, marks=[] if name == "default" else pytest.mark.long) for name in NAMES]
)


def overrides(environment: str) -> dict[str, str]:
    given = ENVIRONMENTS[environment]["deploy"]["parameters"].get("parameter_overrides", "")
    return dict(each.split("=", 1) for each in given.split())


def packaged() -> dict[str, Any]:
    """The template as `sam package` writes it: code and definitions are in S3."""
    template = read_template()
    uploaded = {"Bucket": "uploaded-by-sam", "Key": "0123456789abcdef"}
    template["Globals"]["Function"].pop("CodeUri")
    for resource in template["Resources"].values():
        for name in {"DefinitionS3Location", "CodeUri"} & set(resource.get("Properties", {})):
            resource["Properties"][name] = uploaded
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = uploaded
    return template


def translated(environment: str, region: str = "us-east-1") -> dict[str, Any]:
    translator = Translator(
        None,
        Parser(),
        boto_session=boto3.Session(region_name=region),
        metrics=Metrics("translator", DummyMetricsPublisher()),
    )
    template: dict[str, Any] = translator.translate(packaged(), parameter_values=overrides(environment))
    # The linter takes the environment's parameters as values.
    for name, value in overrides(environment).items():
        parameter = template["Parameters"][name]
        parameter["Default"] = json.loads(value) if parameter["Type"] == "Number" else value
    return template


def one_of(value: Any) -> set[str]:
    """The possible values of a property that depends on a condition."""
    return set(value["Fn::If"][1:]) if isinstance(value, dict) else {value}


def holds(condition: Any, template: dict[str, Any], partition: str) -> bool:
    """Whether a condition of the template holds for the parameters' values, in this partition."""
    if isinstance(condition, str):
        return holds(template["Conditions"][condition], template, partition)
    ((function, given),) = condition.items()
    if function == "Condition":
        return holds(given, template, partition)
    if function == "Fn::And":
        return all(holds(each, template, partition) for each in given)
    if function == "Fn::Not":
        return not holds(given[0], template, partition)
    values = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    values["AWS::Partition"] = partition
    one, other = (values[each["Ref"]] if isinstance(each, dict) else each for each in given)
    return bool(one == other)


def is_left_out(match: Any, template: dict[str, Any]) -> bool:
    """Whether the linter misses a resource type because it ignores that a condition leaves the resource out."""
    condition = template["Resources"][match.path[1]].get("Condition")
    partition = "aws-cn" if "'cn-" in match.message else "aws"
    return match.rule.id == "E3006" and condition is not None and not holds(condition, template, partition)


@linted
def test_the_translated_template_is_valid_in_every_partition(environment: str) -> None:
    template = translated(environment)

    found = lint(json.dumps(template), config=ManualArgs(regions=REGIONS))

    assert [f"{each.rule.id} {each.message}" for each in found if not is_left_out(each, template)] == []


@pytest.mark.parametrize("region", REGIONS)
def test_partitions_differ_only_in_names(region: str) -> None:
    assert translated("default", region)["Resources"].keys() == translated("default")["Resources"].keys()


@every_environment
def test_an_environment_gives_parameters_within_their_bounds(environment: str) -> None:
    parameters = read_template()["Parameters"]
    for name, value in overrides(environment).items():
        bounds = parameters[name]
        if "AllowedValues" in bounds:
            assert value in map(str, bounds["AllowedValues"]), name
        if "AllowedPattern" in bounds:
            assert re.fullmatch(bounds["AllowedPattern"], value), name
        if "MinValue" in bounds:
            assert bounds["MinValue"] <= float(value) <= bounds["MaxValue"], name


@every_environment
def test_the_functions_metrics_are_never_filtered_away(environment: str) -> None:
    """Lambda treats a metric's line as INFO, at any log level of the function.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
    """
    template = translated(environment)
    functions = [each for each in template["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]

    for function in functions:
        logging = function["Properties"]["LoggingConfig"]
        assert one_of(logging["ApplicationLogLevel"]) <= {"TRACE", "DEBUG", "INFO"}
        assert one_of(logging["SystemLogLevel"]) <= {"DEBUG", "INFO"}  # the REPORT line of each invocation is INFO
    assert functions


def test_no_name_is_too_long_for_any_stack() -> None:
    stack_name = "n" * LONGEST_STACK_NAME
    for name, resource in translated("default")["Resources"].items():
        for (kind, field), longest in LONGEST.items():
            value = resource.get("Properties", {}).get(field) if resource["Type"] == kind else None
            if isinstance(value, dict) and {"Fn::Sub", "Ref"} & set(value):
                text = value.get("Fn::Sub") or f"${{{value['Ref']}}}"
                if isinstance(text, list):  # it is filled not with a stack name but with an id of 36 characters
                    text = text[0].replace("${Id}", "i" * 36)
                filled = re.sub(r"\$\{AWS::StackName\}", stack_name, text)
                assert len(filled) <= longest, f"{name} may get a name of {len(filled)} characters"


def test_nothing_is_bound_to_one_partition() -> None:
    assert "arn:aws:" not in (ROOT / "template.yaml").read_text()
    for path in [*(ROOT / "statemachine").iterdir(), *(ROOT / "training" / "iam").iterdir()]:
        assert "arn:aws:" not in path.read_text(), path.name
