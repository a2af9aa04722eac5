"""`loading-bay check` against answers that a stack may give but a test cannot provoke: run without a stack."""

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from click.testing import CliRunner
from moto import mock_aws

from functions.decisions.decision import Decision
from loading_bay.cli.main import main
from loading_bay.operations import check as checks
from loading_bay.operations.check import CheckRun, NotChecked
from loading_bay.operations.definitions import validate
from loading_bay.operations.parameters import described
from loading_bay.operations.result import CheckResult
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError
from loading_bay.stack.rendering import StateMachine, render_machines
from loading_bay.stack.template import parameter_default, read_template

from .definitions import strings_in

NOW = datetime.now(UTC)
MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:ClassifyPhoto"
SAMCONFIG = """
version = 0.1
[prod.deploy.parameters]
stack_name = "bay"
parameter_overrides = "EndpointName=bay-prod CustomerManagedKey=true NotifyMinutes=5"
"""


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.setattr(checks, "METRIC_SECONDS", 0)
    with mock_aws():
        outputs = {
            "StackName": "bay",
            "StateMachineArn": MACHINE,
            "UploadUri": "s3://inbox/uploads/",
            "DecisionsTable": "Decisions",
            "BatchesTable": "Batches",
            "NotificationsTopic": "arn:aws:sns:us-east-1:123456789012:notifications",
            "FunctionLogs": "functions",
            "EndpointName": "bay",
            "VehicleClasses": "bicycle:1:near,motorcycle:2:far",
        }
        parameters = {name: parameter_default(name) for name in read_template()["Parameters"]}
        yield Deployed(boto3.Session(region_name="us-east-1"), outputs, parameters)


def test_what_is_deployed_is_shown_beside_what_samconfig_says(deployed: Deployed, tmp_path: Path) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(SAMCONFIG)
    parameters = dict(deployed.parameters) | {"EndpointName": "bay-prod", "NotificationEmail": "a@example.com"}
    found = described(
        Deployed(deployed.session, deployed.outputs, parameters), compare=True, samconfig=samconfig
    ).split("; ")[1]

    assert set(found.split(", ")) == {
        "EndpointName=bay-prod",
        "NotificationEmail=a@example.com (samconfig.toml: empty)",
        "CustomerManagedKey=false (samconfig.toml: true)",
        "NotifyMinutes=15 (samconfig.toml: 5)",
    }


def test_region_and_account_are_those_of_the_stack(deployed: Deployed) -> None:
    assert CheckRun(deployed).deployment().startswith("eu-central-1, account 123456789012; ")


@pytest.mark.parametrize("prefix", ["backfill/", "backfill/x/"])
def test_prefixes_that_overlap_are_refused_before_anything_is_uploaded(deployed: Deployed, prefix: str) -> None:
    overlapping = dict(deployed.parameters) | {"UploadPrefix": prefix}
    with pytest.raises(UserError, match="choose two separate prefixes"):
        CheckRun(Deployed(deployed.session, deployed.outputs, overlapping)).deployment()


def test_an_endpoint_that_only_the_functions_reach_is_no_failure(deployed: Deployed) -> None:
    private = dict(deployed.parameters) | {"EndpointUrl": "http://127.0.0.1:9"}
    with pytest.raises(NotChecked, match="cannot be reached from here"):
        CheckRun(Deployed(deployed.session, deployed.outputs, private)).endpoint()


def test_a_decoder_that_does_not_start_is_named(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    check = CheckRun(deployed)
    check.s3.create_bucket(Bucket="inbox")
    said = {"errorType": "DecoderFailed", "errorMessage": "the decoding process ended with status 127"}
    body = json.dumps(said).encode()
    client = boto3.client("lambda", "us-east-1")
    stub = Stubber(client)
    stub.add_response(
        "invoke",
        {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": StreamingBody(io.BytesIO(body), len(body))},
    )
    monkeypatch.setattr(Deployed, "client", lambda self, service: client)
    monkeypatch.setattr(CheckRun, "_physical", lambda self, name: "bay-SerializeFunction-1")
    with stub, pytest.raises(UserError, match="DecoderFailed: the decoding process ended with status 127"):
        check.decoder()


@pytest.mark.parametrize("topic", ["notifications", "alarms"])
@pytest.mark.parametrize("state", ["PendingConfirmation", "Deleted"])
def test_a_subscription_that_nobody_confirmed_is_noticed(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, topic: str, state: str
) -> None:
    check = CheckRun(deployed)
    client = boto3.client("sns", "us-east-1")
    stub = Stubber(client)
    arns = [f"arn:aws:sns:us-east-1:123456789012:{name}" for name in ("notifications", "alarms")]
    for arn in arns:
        subscribed = state if arn.endswith(topic) else f"{arn}:0123"
        found = {"SubscriptionArn": subscribed, "TopicArn": arn, "Protocol": "email", "Endpoint": "ana@example.com"}
        stub.add_response("list_subscriptions_by_topic", {"Subscriptions": [found]}, {"TopicArn": arn})
    monkeypatch.setattr(Deployed, "client", lambda self, service: client)
    monkeypatch.setattr(CheckRun, "_resources", lambda self, kind: arns)
    with stub, pytest.raises(UserError, match=f"ana@example.com has .*subscri.* to {topic}"):
        check.subscriptions()


def heard(key: str, claim: str, revision: int | None = None) -> dict[str, Any]:
    return {"s3_key": key, "claim": claim} | ({"revision": revision} if revision else {})


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([heard("a", "1"), heard("b", "2")], "2 received"),
        ([heard("a", "1"), heard("b", "2"), heard("a", "1")], "2 received, 1 delivered again"),
    ],
)
def test_a_second_delivery_is_no_failure(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], said: str
) -> None:
    check = CheckRun(deployed, photos={key: Decision(key, "ROUTED", NOW) for key in "ab"})
    monkeypatch.setattr(check.listener, "events", lambda: events)

    assert check.announcements() == said


def test_a_second_outcome_is_a_failure(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    check = CheckRun(deployed, photos={"a": Decision("a", "ROUTED", NOW)})
    monkeypatch.setattr(check.listener, "events", lambda: [heard("a", "1"), heard("a", "2")])

    with pytest.raises(UserError, match="2 outcomes of 1 photos"):
        check.announcements()


def log(deployed: Deployed, *keys: str) -> None:
    logs = deployed.client("logs")
    logs.create_log_group(logGroupName="functions")
    logs.create_log_stream(logGroupName="functions", logStreamName="1")
    at = int((datetime.now(UTC) + timedelta(seconds=1)).timestamp() * 1000)
    lines = [{"timestamp": at, "message": json.dumps({"message": "photo rejected", "s3_key": key})} for key in keys]
    logs.put_log_events(logGroupName="functions", logStreamName="1", logEvents=lines)


def count(deployed: Deployed, rejected: int) -> None:
    dimensions = [{"Name": "service", "Value": "loading-bay"}]
    datum = {
        "MetricName": "PhotosRejected",
        "Dimensions": dimensions,
        "Value": rejected,
        "Timestamp": datetime.now(UTC),
    }
    deployed.client("cloudwatch").put_metric_data(Namespace="LoadingBay/bay", MetricData=[datum])


def test_the_metric_counts_this_check_beside_whatever_else_was_rejected(deployed: Deployed) -> None:
    check = CheckRun(deployed)
    log(deployed, "uploads/other.jpg", f"{check.folder}damaged.jpg")
    count(deployed, 2)

    assert check.metrics() == "PhotosRejected counts all 2 that the logs name"


def test_a_metric_that_only_counts_somebody_elses_photo_is_a_failure(deployed: Deployed) -> None:
    check = CheckRun(deployed)
    log(deployed, "uploads/other.jpg", f"{check.folder}damaged.jpg")
    count(deployed, 1)

    with pytest.raises(UserError, match="the logs name 2 rejected photos, but the metric PhotosRejected counts fewer"):
        check.metrics()


def test_a_log_that_only_names_somebody_elses_photo_is_a_failure(deployed: Deployed) -> None:
    check = CheckRun(deployed)
    log(deployed, "uploads/other.jpg")
    count(deployed, 1)

    with pytest.raises(UserError, match=f"no log names {check.folder}damaged.jpg"):
        check.metrics()


def test_what_cannot_be_removed_is_named_and_the_rest_is_removed(deployed: Deployed) -> None:
    check = CheckRun(deployed)
    check.s3.create_bucket(Bucket="inbox")
    check.s3.put_bucket_versioning(Bucket="inbox", VersioningConfiguration={"Status": "Enabled"})
    for key in (f"{check.folder}a.jpg", f"{check.name}/b.jpg"):
        check.s3.put_object(Bucket="inbox", Key=key, Body=b"photo")
    check.message = "0123"

    check._clean_up()  # there is neither table

    assert [each.partition(" (")[0] for each in check.left] == [
        "message 0123 in the dead-letter queue, about a photo that is deleted",
        f"s3://inbox/{check.folder}",
        f"s3://inbox/{check.name}/",
        f"batch {check.name} in Batches",
    ]
    assert "Versions" not in check.s3.list_object_versions(Bucket="inbox")


def validated(*answers: dict[str, Any] | str) -> list[CheckResult]:
    """Return the results of `check --definitions` for these AWS answers, in template order; a text is an error code."""
    client = boto3.client("stepfunctions", "us-east-1")
    stub = Stubber(client)
    for answer in answers:
        if isinstance(answer, str):
            stub.add_client_error("validate_state_machine_definition", answer, "no")
        else:
            stub.add_response("validate_state_machine_definition", answer)
    with stub:
        return list(validate(client))


FINE: dict[str, Any] = {"result": "OK", "diagnostics": [], "truncated": False}


@pytest.mark.usefixtures("deployed")
def test_aws_is_asked_about_every_definition_and_its_verdict_is_shown() -> None:
    diagnostic = {
        "severity": "ERROR",
        "code": "SCHEMA_VALIDATION_FAILED",
        "message": "The variable is already assigned in an outer scope",
        "location": "/States/SweepShards",
    }
    warning = diagnostic | {"severity": "WARNING", "code": "NO_DOLLAR", "message": "a constant"}
    found = validated(
        FINE,
        {"result": "FAIL", "diagnostics": [diagnostic], "truncated": False},
        FINE | {"diagnostics": [warning]},
        "AccessDeniedException",
    )

    assert [each.check for each in found] == ["ClassifyPhoto", "RunAgain", "ClassifyBatch", "AnnounceReview"]
    assert [each.status for each in found] == ["ok", "failed", "ok", "failed"]
    assert "SCHEMA_VALIDATION_FAILED at /States/SweepShards: The variable is already assigned" in found[1].detail
    assert "WARNING NO_DOLLAR" in found[2].detail
    assert "AccessDeniedException" in found[3].detail


@pytest.mark.parametrize("machine", list(render_machines()), ids=lambda machine: machine.name)
def test_a_definition_is_handed_over_whole(machine: StateMachine) -> None:
    text = json.dumps(machine.definition)

    assert machine.type in {"STANDARD", "EXPRESS"}
    assert not re.findall(r"\$\{\w+\}|Fn::|\bNone\b", text)  # nothing is left to be substituted
    assert not [each for each in strings_in(machine.definition) if each.startswith("{%") and "\n" in each]


def test_definitions_are_validated_without_a_stack(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client("stepfunctions", "us-east-1")
    stub = Stubber(client)
    for answer in (FINE, FINE, FINE, {"result": "FAIL", "diagnostics": [], "truncated": False}):
        stub.add_response("validate_state_machine_definition", answer)
    monkeypatch.setattr("loading_bay.cli.operate.client", lambda name, region: client)
    with stub:
        done = CliRunner().invoke(main, ["check", "--definitions", "--stack-name", "nothing"])

    assert done.exit_code == 1
    assert "✓ ClassifyPhoto" in done.output
    assert "✗ AnnounceReview" in done.output
