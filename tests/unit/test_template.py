"""The template's guarantees: constrained parameters, exact permissions, encryption, an alarm for every queue."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from loading_bay.local.checks import unmet
from loading_bay.local.deployment import render_local
from loading_bay.stack.template import ROOT, read_definition, read_template
from loading_bay.statistics import share

TEMPLATE = read_template()
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
FUNCTIONS = ["SerializeFunction", "InferenceFunction", "ThresholdFunction", "ReviewFunction", "DriverFunction"]
# Actions without resource-level permissions; https://docs.aws.amazon.com/service-authorization/latest/reference/
RESOURCELESS = re.compile(
    r"xray:.*|logs:.*LogDeliver.*|logs:.*ResourcePolic.*|logs:DescribeLogGroups|cloudwatch:PutMetricData"
)


def of_type(name: str) -> dict[str, dict[str, Any]]:
    return {key: resource for key, resource in RESOURCES.items() if resource["Type"] == name}


def statements(role: str) -> list[dict[str, Any]]:
    found = []
    for policy in RESOURCES[role]["Properties"].get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            found.append(statement["Fn::If"][1] if "Fn::If" in statement else statement)
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def permitted(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (action, json.dumps(resource, sort_keys=True))
        for statement in found
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def granted(role: str) -> set[tuple[str, str]]:
    return permitted(statements(role))


def test_every_parameter_is_described_and_bounded() -> None:
    for name, parameter in TEMPLATE["Parameters"].items():
        assert len(parameter["Description"]) > 20, name
        assert "Default" in parameter, name
        bounds = {"AllowedValues", "AllowedPattern"} & set(parameter)
        assert bounds or {"MinValue", "MaxValue"} <= set(parameter), name


def test_every_parameter_is_shown_in_a_group_of_the_console() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]

    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(TEMPLATE["Parameters"])


@pytest.mark.parametrize(
    ("classes", "accepted"),
    [
        ("bicycle:1:near,motorcycle:2:far", True),
        ("bicycle:1:near,motorcycle:2:far,cargo-bike:A3:mid_range", True),
        ("bicycle:1:near", False),
        ("bicycle,motorcycle", False),
        ("bicycle:1:near, motorcycle:2:far", False),
        ("bicycle:1:near,motorcycle:2:far,", False),
        ("", False),
    ],
)
def test_classes_need_their_bay_and_orders(classes: str, accepted: bool) -> None:
    pattern = TEMPLATE["Parameters"]["VehicleClasses"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, classes)) is accepted


def test_the_defaults_fit_their_bounds() -> None:
    for name, parameter in TEMPLATE["Parameters"].items():
        default = parameter["Default"]
        if "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], str(default)), name
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        if "MinValue" in parameter:
            assert parameter["MinValue"] <= float(default) <= parameter["MaxValue"], name


def test_the_functions_have_exactly_the_permissions_that_they_use() -> None:
    objects = json.dumps({"Fn::Sub": "${Inbox.Arn}/*"})
    inbox = json.dumps({"Fn::GetAtt": ["Inbox", "Arn"]})
    key = json.dumps({"Fn::GetAtt": ["Key", "Arn"]})
    table = json.dumps({"Fn::GetAtt": ["Decisions", "Arn"]})
    endpoint = "arn:${AWS::Partition}:sagemaker:${AWS::Region}:${AWS::AccountId}:endpoint/${EndpointName}"
    expected = {
        "SerializeFunction": {
            ("s3:GetObject", objects),
            ("s3:GetObjectVersion", objects),
            ("s3:ListBucket", inbox),
            ("kms:Decrypt", key),
        },
        "InferenceFunction": {("sagemaker:InvokeEndpoint", json.dumps({"Fn::Sub": endpoint}))},
        "ThresholdFunction": set(),
        "ReviewFunction": {
            ("dynamodb:BatchGetItem", table),
            ("dynamodb:GetItem", table),
            ("dynamodb:UpdateItem", table),
            ("dynamodb:Query", json.dumps({"Fn::Sub": "${Decisions.Arn}/index/by_queue"})),
            ("dynamodb:Query", json.dumps({"Fn::Sub": "${Decisions.Arn}/index/by_review_day"})),
            ("s3:GetObject", objects),
            ("s3:GetObjectVersion", objects),
            ("s3:ListBucket", inbox),
            ("states:StartExecution", json.dumps({"Ref": "AnnounceReview"})),
            ("kms:Decrypt", key),
            ("kms:GenerateDataKey", key),
        },
        "DriverFunction": {
            ("dynamodb:BatchGetItem", table),
            ("s3:ListBucket", inbox),
            ("s3:PutObject", json.dumps({"Fn::Sub": "${Inbox.Arn}/${UploadPrefix}*"})),
            ("kms:Decrypt", key),
            ("kms:GenerateDataKey", key),
        },
    }
    for function in FUNCTIONS:
        assert granted(f"{function}Role") == expected[function]
        assert RESOURCES[f"{function}Role"]["Properties"]["ManagedPolicyArns"] == [{"Ref": "WriteLogsAndTraces"}]
    assert permitted(RESOURCES["WriteLogsAndTraces"]["Properties"]["PolicyDocument"]["Statement"]) == {
        ("logs:CreateLogStream", json.dumps({"Fn::GetAtt": ["FunctionLogs", "Arn"]})),
        ("logs:PutLogEvents", json.dumps({"Fn::GetAtt": ["FunctionLogs", "Arn"]})),
        ("xray:PutTraceSegments", '"*"'),
        ("xray:PutTelemetryRecords", '"*"'),
    }


def test_no_role_has_a_wildcard_that_could_be_narrower() -> None:
    for role in of_type("AWS::IAM::Role"):
        for action, resource in granted(role):
            assert "*" not in action, (role, action)
            assert resource != '"*"' or RESOURCELESS.fullmatch(action), (role, action)
    for name, policy in of_type("AWS::IAM::ManagedPolicy").items():
        for action, resource in permitted(policy["Properties"]["PolicyDocument"]["Statement"]):
            assert "*" not in action, (name, action)
            assert resource != '"*"' or RESOURCELESS.fullmatch(action), (name, action)


def test_every_function_runs_python_logs_json_and_is_traced() -> None:
    everyone = TEMPLATE["Globals"]["Function"]
    assert (everyone["Runtime"], everyone["Architectures"]) == ("python3.13", [{"Ref": "Architecture"}])
    assert everyone["Tracing"] == "Active"
    assert everyone["LoggingConfig"]["LogFormat"] == "JSON"
    assert everyone["LoggingConfig"]["LogGroup"] == {"Ref": "FunctionLogs"}
    assert RESOURCES["FunctionLogs"]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert sorted(of_type("AWS::Serverless::Function")) == sorted(FUNCTIONS)
    for function in FUNCTIONS:
        assert RESOURCES[function]["Properties"]["Timeout"] <= 30


def test_lambda_passes_metrics_and_reports() -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html: an EMF line lacks a level,
    # so it counts as INFO, like the reports.
    logging = TEMPLATE["Globals"]["Function"]["LoggingConfig"]

    assert logging["ApplicationLogLevel"] == "INFO"
    assert logging["SystemLogLevel"] == "INFO"


def test_topic_and_key_have_no_conditions_for_eventbridge() -> None:
    # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html and
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    policies = (
        RESOURCES["NotificationsPolicy"]["Properties"]["PolicyDocument"],
        RESOURCES["Key"]["Properties"]["KeyPolicy"],
    )
    for policy in policies:
        (events,) = [each for each in policy["Statement"] if each["Principal"] == {"Service": "events.amazonaws.com"}]
        assert "Condition" not in events


def test_an_expired_photo_is_deleted_completely() -> None:
    rules = RESOURCES["Inbox"]["Properties"]["LifecycleConfiguration"]["Rules"]

    assert [rule["Id"] for rule in rules if rule.get("ExpiredObjectDeleteMarker")] == ["ExpireReplacedVersions"]


def test_a_state_machine_s_name_leaves_room_for_a_stack_s() -> None:
    names = [
        each["Properties"].get("StateMachineName") for each in of_type("AWS::StepFunctions::StateMachine").values()
    ]

    assert [name for name in names if name] == [{"Fn::Sub": "${AWS::StackName}-Batch"}]


def test_no_arn_names_a_partition() -> None:
    texts = [(ROOT / "template.yaml").read_text(), *(path.read_text() for path in (ROOT / "statemachine").iterdir())]

    assert not [text for text in texts if re.search(r"arn:aws[:-]", text)]


def test_the_alarm_on_messages_fires_only_if_run_again_cannot_deliver_them() -> None:
    alarm = RESOURCES["UndeliveredEventsAlarm"]["Properties"]
    sweep = RESOURCES["RunAgainRule"]["Properties"]["ScheduleExpression"]
    periods = [each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each]

    assert sweep == "rate(1 minute)"
    assert min(periods) * alarm["EvaluationPeriods"] >= 600


@pytest.mark.parametrize(("errors", "audits"), [(0, 30), (1, 30), (3, 30), (2, 100), (90, 90), (450, 10_000)])
def test_the_alarm_on_audits_fires_on_the_lower_end_of_the_interval(errors: int, audits: int) -> None:
    assert least_error(errors, audits) == pytest.approx(share(errors, audits).low, abs=1e-5)


@pytest.mark.parametrize(("errors", "audits"), [(0, 1), (1, 1), (29, 29)])
def test_the_alarm_on_audits_does_not_fire_on_too_few(errors: int, audits: int) -> None:
    assert least_error(errors, audits) == 0


def test_the_alarm_on_audits_does_not_fire_on_none() -> None:
    """A week without audits has neither a sum nor a count."""
    assert RESOURCES["AuditErrorAlarm"]["Properties"]["TreatMissingData"] == "notBreaching"


def least_error(errors: int, audits: int) -> float:
    """Evaluate the expression of AuditErrorAlarm, which Python reads but for the power and the condition."""
    (expression,) = [
        each["Expression"] for each in RESOURCES["AuditErrorAlarm"]["Properties"]["Metrics"] if "Expression" in each
    ]
    names = {"errors": errors, "audits": audits, "IF": lambda condition, then, other: then if condition else other}
    return float(eval(expression.replace("^", "**"), {}, names))  # noqa: S307 - the template is ours


@pytest.mark.parametrize("name", ["RunAgainAlarm", "ReviewWaitsAlarm"])
def test_an_alarm_on_a_sign_of_life_fires_when_that_stops(name: str) -> None:
    """A machine that times out, or is never started, publishes nothing."""
    assert RESOURCES[name]["Properties"]["TreatMissingData"] == "breaching"


def test_every_workflow_that_can_fail_for_good_has_an_alarm() -> None:
    watched = json.dumps(of_type("AWS::CloudWatch::Alarm"))

    for machine in ("ClassifyPhoto", "ClassifyBatch", "AnnounceReview"):
        assert f'{{"Name": "StateMachineArn", "Value": {{"Ref": "{machine}"}}}}' in watched, machine


def test_a_condition_on_the_source_of_an_event_holds_for_each_of_its_values() -> None:
    """`events:source` is multivalued: StringEquals would never hold.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html
    """
    conditions = [each for each in strings_with_paths(RESOURCES) if each[0].endswith("events:source")]

    assert len(conditions) == 3
    assert all("/ForAllValues:StringEquals/" in path for path, _ in conditions)


@pytest.mark.parametrize(
    ("partition", "region", "sign_in", "console"),
    [
        ("aws", "eu-west-1", "https://D.auth.eu-west-1.amazoncognito.com", "https://console.aws.amazon.com/"),
        (
            "aws-us-gov",
            "us-gov-west-1",
            "https://D.auth-fips.us-gov-west-1.amazoncognito.com",
            "https://console.amazonaws-us-gov.com/",
        ),
        ("aws-cn", "cn-north-1", None, "https://console.amazonaws.cn/"),
    ],
)
def test_each_partition_has_its_own_hosts(partition: str, region: str, sign_in: str | None, console: str) -> None:
    hosts = TEMPLATE["Mappings"]["Partitions"][partition]
    variables = RESOURCES["ReviewFunction"]["Properties"]["Environment"]["Variables"]
    text = variables["SIGN_IN_URL"]["Fn::If"][1]["Fn::Sub"][0]
    filled = text.replace("${ReviewSignIn}", "D").replace("${Host}", hosts["SignIn"]).replace("${AWS::Region}", region)

    assert sign_in is None or filled == sign_in  # China lacks Cognito
    url = TEMPLATE["Outputs"]["DashboardUrl"]["Value"]["Fn::Sub"][0].replace("${Console}", hosts["Console"])
    assert url.startswith(console)


@pytest.mark.parametrize(
    ("parameter", "value", "accepted"),
    [
        ("EndpointName", "loading-bay-2", True),
        ("EndpointName", "Loading-Bay", False),  # SageMaker writes ARNs in lower case, but the policy would not
        ("UploadPrefix", "uploads/", True),
        ("UploadPrefix", "labels-of-ann/", True),
        ("UploadPrefix", "labels/", False),
        ("UploadPrefix", "labels/new/", False),
        ("UploadPrefix", "batches/", False),
        ("UploadPrefix", "manifests/", False),
        ("BatchPrefix", "batches/old/", False),
        ("Mfa", "ON", True),
        ("Mfa", "OFF", False),
    ],
)
def test_a_parameter_refuses_values_that_cannot_work(parameter: str, value: str, accepted: bool) -> None:
    assert bool(unmet(TEMPLATE["Parameters"][parameter], value)) is not accepted


def test_every_caller_of_an_encrypted_workflow_may_use_its_key() -> None:
    for name, role in of_type("AWS::IAM::Role").items():
        text = json.dumps(role)
        if "states:StartExecution" in text or "states:StartSyncExecution" in text:
            assert "kms:GenerateDataKey" in text, name


def strings_with_paths(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from strings_with_paths(each, f"{path}/{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from strings_with_paths(each, f"{path}/{number}")
    else:
        yield path, str(value)


def test_everything_at_rest_can_be_encrypted_with_a_customer_s_key() -> None:
    encrypted = {
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::SNS::Topic",
        "AWS::DynamoDB::Table",
        "AWS::Logs::LogGroup",
        "AWS::StepFunctions::StateMachine",
    }
    for name, resource in RESOURCES.items():
        if resource["Type"] in encrypted:
            assert '["Key", "Arn"]' in json.dumps(resource), name


def test_nothing_is_reached_without_tls() -> None:
    policies = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for resource in RESOURCES.values()
        if resource["Type"] in {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}
    ]
    assert len(policies) == 5
    for policy in policies:
        (deny,) = [statement for statement in policy if statement["Effect"] == "Deny"]
        assert deny["Principal"] == "*"
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_inbox_is_closed_to_the_public_and_keeps_versions() -> None:
    for bucket in of_type("AWS::S3::Bucket").values():
        properties = bucket["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert properties["VersioningConfiguration"]["Status"] == "Enabled"
        rules = json.dumps(properties["LifecycleConfiguration"])
        for rule in ("ExpirationInDays", "NoncurrentDays", "AbortIncompleteMultipartUpload"):
            assert rule in rules


def test_every_queue_has_an_alarm_and_every_alarm_notifies_somebody() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    watched = json.dumps(alarms)
    for queue in of_type("AWS::SQS::Queue"):
        assert f'["{queue}", "QueueName"]' in watched
    for name, alarm in alarms.items():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}], name
        assert alarm["Properties"]["AlarmDescription"], name


def test_every_rule_retries_for_a_day_and_then_keeps_the_event() -> None:
    rules = {name: rule for name, rule in of_type("AWS::Events::Rule").items() if "EventPattern" in rule["Properties"]}
    dead_letters = {
        "DecisionRule": "UntakenDecisions",
        "OutcomeRule": "UndeliveredEvents",
        "PhotoUploadedRule": "UndeliveredEvents",
    }
    assert rules.keys() == dead_letters.keys()
    for name, rule in rules.items():
        for target in rule["Properties"]["Targets"]:
            assert target["RetryPolicy"] == {
                "MaximumEventAgeInSeconds": 86400,
                "MaximumRetryAttempts": 185,
            }, name
            assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": [dead_letters[name], "Arn"]}}, name


def test_the_queue_for_consumers_is_optional_and_takes_decisions_from_its_rule_alone() -> None:
    """EventBridge may put events of this rule there, and an event that nobody takes moves to a dead-letter queue."""
    named = ("DecisionRule", "DecisionEvents", "UntakenDecisions", "DecisionEventsPolicy", "DecisionQueueAlarm")
    assert all(RESOURCES[name]["Condition"] == "HasDecisionQueue" for name in named)
    assert TEMPLATE["Parameters"]["DecisionQueue"]["Default"] == "false"
    pattern = RESOURCES["DecisionRule"]["Properties"]["EventPattern"]
    assert pattern["detail"] == {"stack": [{"Ref": "AWS::StackName"}], "version": ["1"]}
    allow, deny = RESOURCES["DecisionEventsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    queues = [{"Fn::GetAtt": [queue, "Arn"]} for queue in ("DecisionEvents", "UntakenDecisions")]
    assert allow["Resource"] == deny["Resource"] == queues
    assert (allow["Principal"], allow["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["DecisionRule", "Arn"]}}}
    queue, dead = (RESOURCES[name]["Properties"] for name in ("DecisionEvents", "UntakenDecisions"))
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == queues[1]
    assert queue["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"]


def test_photos_and_decisions_outlive_the_stack() -> None:
    for name in ("Inbox", "Decisions", "Batches", "Key"):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


def test_the_dashboard_is_json_once_its_names_are_filled_in() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]

    numbers = re.sub(r"\$\{(ConfidenceThreshold|ReviewRateHigh)\}", "0.9", body)
    widgets = json.loads(re.sub(r"\$\{[^}]+\}", "x", numbers))

    assert len({widget["properties"]["title"] for widget in widgets["widgets"]}) == len(widgets["widgets"])


def test_a_claim_outlives_every_execution() -> None:
    machine = read_definition(ROOT / "statemachine" / "classify_photo.asl.yaml")
    substitutions = RESOURCES["ClassifyPhoto"]["Properties"]["DefinitionSubstitutions"]

    assert substitutions["ClaimSeconds"] >= 2 * machine["TimeoutSeconds"]


def test_the_local_aws_gets_the_same_stack_except_for_runtime_metric_math_alarms_and_schemas() -> None:
    local = render_local(read_template(), {})

    schemas = {*of_type("AWS::EventSchemas::Registry"), *of_type("AWS::EventSchemas::Schema")}
    missing = set(RESOURCES) - set(local["Resources"]) - schemas
    assert missing == {
        "AuditErrorAlarm",
        "ClassificationFailedAlarm",
        "DecisionQueueAlarm",
        "FunctionThrottlesAlarm",
        "ReviewRateAlarm",
        "ReviewWaitsAlarm",
        "UndeliveredEventsAlarm",
    }
    changed = {name for name in local["Resources"] if local["Resources"][name] != RESOURCES[name]}
    assert changed == set(of_type("AWS::StepFunctions::StateMachine"))
    assert local["Globals"]["Function"]["Runtime"] == "provided.al2023"


def test_the_drivers_api_is_for_tokens_alone_and_throttled() -> None:
    routes = {
        each["Properties"]["RouteKey"]: each["Properties"] for each in of_type("AWS::ApiGatewayV2::Route").values()
    }
    for route in ("POST /uploads", "GET /photos", "GET /photos/{name}"):
        assert routes[route]["AuthorizationType"] == "JWT"
        assert routes[route]["AuthorizationScopes"] == ["driver/upload"]
    stage = RESOURCES["ReviewStage"]["Properties"]["DefaultRouteSettings"]
    assert 0 < stage["ThrottlingRateLimit"] <= stage["ThrottlingBurstLimit"] <= 100


def test_the_inbox_takes_photos_from_the_api_s_own_page_and_from_no_other() -> None:
    ((_, cors, _),) = [RESOURCES["Inbox"]["Properties"]["CorsConfiguration"]["Fn::If"]]
    (rule,) = cors["CorsRules"]

    assert rule["AllowedMethods"] == ["POST"]
    assert rule["AllowedOrigins"] == [{"Fn::GetAtt": ["ReviewApi", "ApiEndpoint"]}]


def test_samconfig_has_three_environments_with_separate_stacks() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())

    names = [config[name]["deploy"]["parameters"]["stack_name"] for name in ("default", "staging", "prod")]
    assert len(set(names)) == 3


def test_the_deploy_output_names_the_next_command() -> None:
    outputs = TEMPLATE["Outputs"]

    assert outputs["NextCommand"]["Value"] == {"Fn::Sub": "loading-bay check --stack-name ${AWS::StackName}"}


@pytest.mark.parametrize(
    ("schedule", "accepted"),
    [("", True), ("rate(1 day)", True), ("cron(0 3 * * ? *)", True), ("daily", False), ("rate(1 day) ", False)],
)
def test_reconciliation_takes_a_schedule_of_eventbridge(schedule: str, accepted: bool) -> None:
    pattern = TEMPLATE["Parameters"]["ReconcileSchedule"]["AllowedPattern"]

    assert bool(re.fullmatch(pattern, schedule)) is accepted


def test_reconciliation_is_an_optional_batch_over_the_upload_prefix() -> None:
    for name in ("ReconcileRule", "ReconcileRuleRole"):
        assert RESOURCES[name]["Condition"] == "Reconciles"
    (target,) = RESOURCES["ReconcileRule"]["Properties"]["Targets"]

    assert target["Arn"] == {"Ref": "ClassifyBatch"}
    assert json.loads(target["Input"]["Fn::Sub"]) == {"prefix": "${UploadPrefix}"}
