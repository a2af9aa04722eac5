"""`loading-bay check` passes on a working stack, and names the remedy for each broken part."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from functions.decisions.table import DecisionsTable
from loading_bay.cli.main import main
from loading_bay.stack.decisions import all_decisions

from .bay import Bay
from .endpoint import Endpoint, failure

Checked = Callable[..., Result]


@pytest.fixture
def check(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checked]:
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)
    with bay.swept():
        yield lambda *options: CliRunner(mix_stderr=False).invoke(main, ["check", *options], prog_name="loading-bay")


def left_behind(bay: Bay) -> dict[str, Any]:
    """Resources that a check created and did not remove."""
    sqs, events = bay.stack.client("sqs"), bay.events
    topic = bay.stack.outputs["NotificationsTopic"]
    objects = bay.s3.list_object_versions(Bucket=bay.bucket)
    table = DecisionsTable(bay.dynamodb, bay.table)
    return {
        "queues": [url for url in sqs.list_queues().get("QueueUrls", []) if "check-" in url],
        "rules": [rule["Name"] for rule in events.list_rules()["Rules"] if "check-" in rule["Name"]],
        "subscriptions": [
            each["Endpoint"]
            for each in bay.stack.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
            if "check-" in each["Endpoint"]
        ],
        "objects": [
            each["Key"]
            for kind in ("Versions", "DeleteMarkers")
            for each in objects.get(kind, [])
            if "check-" in each["Key"]
        ],
        "decisions": [each.photo for each in all_decisions(table) if "check-" in each.photo],
    }


def failed(result: Result) -> dict[str, str]:
    return {each["check"]: each["detail"] for each in json.loads(result.stdout) if each["status"] == "failed"}


def test_a_working_stack_passes_in_under_a_minute_and_nothing_is_left(bay: Bay, check: Checked) -> None:
    before = left_behind(bay)

    done = check("--json")

    assert done.exit_code == 0, done.output
    assert "less than a cent" in done.stderr
    results = {each["check"]: each for each in json.loads(done.stdout)}
    assert [name for name, each in results.items() if each["status"] == "not checked"] == ["metrics"]
    assert sum(each["seconds"] for each in results.values()) < 60
    assert left_behind(bay) == before


def test_an_endpoint_that_does_not_answer_is_noticed_before_a_photo_is_sent(
    bay: Bay, check: Checked, endpoint: Endpoint
) -> None:
    with endpoint.answering(lambda body: failure(400, "ValidationError")):
        done = check("--json")

    assert done.exit_code == 1
    assert list(failed(done)) == ["endpoint"]
    assert "loading-bay does not answer: ValidationError" in failed(done)["endpoint"]
    assert bay.announced("check-") == []


def test_a_disabled_rule_is_noticed(bay: Bay, check: Checked) -> None:
    rule = physical_id(bay, "PhotoUploadedRule")
    bay.events.disable_rule(Name=rule)
    try:
        done = check("--json")
    finally:
        bay.events.enable_rule(Name=rule)

    assert done.exit_code == 1
    assert list(failed(done)) == ["rules"]
    assert f"aws events enable-rule --name {rule}" in failed(done)["rules"]


def test_a_topic_that_eventbridge_may_not_publish_to_is_noticed(bay: Bay, check: Checked) -> None:
    sns, topic = bay.stack.client("sns"), bay.stack.outputs["NotificationsTopic"]
    policy = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    narrowed = json.loads(policy)
    for statement in narrowed["Statement"]:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(narrowed))
    try:
        done = check()
    finally:
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)

    assert done.exit_code == 1
    assert "✗ topic policy" in done.stdout
    assert "lets events.amazonaws.com publish" in done.stdout
    assert "notifications" in done.stdout
    assert "fix first: topic policy" in done.stdout


def test_undelivered_events_are_reported_with_a_remedy(bay: Bay, check: Checked) -> None:
    sqs, queue = bay.stack.client("sqs"), bay.stack.outputs["UndeliveredEventsQueue"]
    sqs.send_message(QueueUrl=queue, MessageBody="{}")
    try:
        done = check("--json")
    finally:
        sqs.purge_queue(QueueUrl=queue)

    assert list(failed(done)) == ["dead-letter queue"]
    assert "loading-bay replay" in failed(done)["dead-letter queue"]


def physical_id(bay: Bay, logical_id: str) -> str:
    described = bay.stack.client("cloudformation").describe_stack_resource(
        StackName=bay.stack.outputs["StackName"], LogicalResourceId=logical_id
    )
    return str(described["StackResourceDetail"]["PhysicalResourceId"]).rpartition("/")[2]
