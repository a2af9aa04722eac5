"""Requirements of AWS services beyond the template's schema: effective policies, comparable metrics."""

import ast
import re
from typing import Any

from loading_bay.stack.template import ROOT, read_template

RESOURCES: dict[str, dict[str, Any]] = read_template()["Resources"]


def statements_for(service: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    def names(statement: dict[str, Any]) -> list[str]:
        principal = statement["Principal"]
        found = principal.get("Service", []) if isinstance(principal, dict) else []
        return found if isinstance(found, list) else [found]

    return [each for each in document["Statement"] if service in names(each)]


def test_eventbridge_may_publish_to_the_topic_without_conditions() -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html"""
    policy = RESOURCES["NotificationsPolicy"]["Properties"]["PolicyDocument"]
    (statement,) = statements_for("events.amazonaws.com", policy)
    assert statement["Action"] == "sns:Publish"
    assert "Condition" not in statement


def test_eventbridge_may_use_the_key_without_an_account_condition() -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html knows no aws:SourceAccount for EventBridge."""
    (statement,) = statements_for("events.amazonaws.com", RESOURCES["Key"]["Properties"]["KeyPolicy"])

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert {"kms:Decrypt", "kms:GenerateDataKey*"} <= set(statement["Action"])
    assert not re.search(r"aws:Source(Account|Arn)", str(statement.get("Condition", "")))


def test_no_alarm_subtracts_counts_of_different_times() -> None:
    """A function's metrics get the time when they are flushed, AWS metrics the start or end of a run."""
    for name, resource in RESOURCES.items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            metrics = resource["Properties"].get("Metrics", [])
            counted = {str(each["MetricStat"]["Metric"]) for each in metrics if "MetricStat" in each}
            for metric in metrics:
                assert len(counted) == 1 or " - " not in str(metric.get("Expression", "")), name


def test_every_logger_writes_the_timestamps_that_lambda_reads() -> None:
    """Without RFC 3339 a line counts as INFO.

    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
    """
    calls = [
        node
        for module in (ROOT / "functions").rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Logger"
    ]
    for call in calls:
        assert any(each.arg == "use_rfc3339" and ast.unparse(each.value) == "True" for each in call.keywords)
    assert calls
