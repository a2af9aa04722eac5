"""`loading-bay check` passes on a working stack, and names the remedy for each broken part."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from functions.decisions.table import DecisionsTable
from loading_bay.cli.main import main
from loading_bay.operations.check import CHECKS, CheckRun
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.errors import UserError

from .bay import Bay
from .endpoint import Endpoint, failure

pytestmark = pytest.mark.long

Checked = Callable[..., Result]


@pytest.fixture
def check(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checked]:
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)
    with bay.swept():
        yield lambda *options: CliRunner(mix_stderr=False).invoke(main, ["check", *options], prog_name="loading-bay")


@pytest.fixture
def proof(bay: Bay) -> Iterator[CheckRun]:
    """A check of which a test runs a part."""
    found = CheckRun(bay.stack.deployed)
    yield found
    found._clean_up()


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


def test_a_working_stack_passes_and_nothing_is_left(bay: Bay, check: Checked) -> None:
    before = left_behind(bay)

    done = check("--json")

    assert done.exit_code == 0, done.output
    assert "less than a cent" in done.stderr
    results = {each["check"]: each for each in json.loads(done.stdout)}
    assert [name for name, each in results.items() if each["status"] == "not checked"] == ["metrics"]
    assert results["healing"]["status"] == "ok"
    assert left_behind(bay) == before
    decided = [each["detail"] for each in bay.heard() if each["detail"].get("reviewed_by", "").startswith("check-")]
    assert [(each["status"], each.get("vehicle")) for each in decided] == [("REJECTED", None)]


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


def test_a_review_page_whose_calls_take_strangers_is_noticed(bay: Bay, proof: CheckRun) -> None:
    api = bay.stack.client("apigatewayv2")
    where = {"ApiId": physical_id(bay, "ReviewApi"), "RouteId": physical_id(bay, "ReviewCallRoute")}
    api.update_route(**where, AuthorizationType="NONE")
    try:
        with pytest.raises(UserError, match="a stranger's call with 403, not 401"):
            proof.review_page()
    finally:
        api.update_route(**where, AuthorizationType="JWT")
    assert "leads to its sign-in" in proof.review_page()


def test_a_sign_in_that_refuses_the_page_is_noticed(bay: Bay, proof: CheckRun) -> None:
    cognito = bay.stack.client("cognito-idp")
    where = {"UserPoolId": bay.stack.outputs["ReviewersPool"], "ClientId": physical_id(bay, "ReviewClient")}
    client = cognito.describe_user_pool_client(**where)["UserPoolClient"]
    kept = {name: value for name, value in client.items() if name.startswith("AllowedOAuth")} | where
    cognito.update_user_pool_client(**kept, CallbackURLs=["https://elsewhere.example/"])
    try:
        with pytest.raises(UserError, match="the sign-in answers"):
            proof.review_page()
    finally:
        cognito.update_user_pool_client(**kept, CallbackURLs=client["CallbackURLs"])


def test_a_decoder_that_cannot_read_is_named(bay: Bay, proof: CheckRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "read a photo" in proof.decoder()

    monkeypatch.setattr("loading_bay.operations.check.PRESIGNED", "damaged.jpg")
    with pytest.raises(UserError, match="does not read a photo: UnreadablePhoto: "):
        proof.decoder()


def test_a_stack_that_nothing_heals_is_noticed_and_the_message_it_leaves_is_named(
    bay: Bay, proof: CheckRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKS, "rules", (lambda _: "", ()))  # that of RunAgain is disabled
    monkeypatch.setattr("loading_bay.operations.check.SWEEP_SECONDS", 1)
    rule = physical_id(bay, "OutcomeRule")
    targets = bay.events.list_targets_by_rule(Rule=rule)["Targets"]
    bay.events.remove_targets(Rule=rule, Ids=[each["Id"] for each in targets])
    monkeypatch.setattr("loading_bay.operations.check.HEARD_SECONDS", 10)
    try:
        found = {each.check: each for each in proof.run()}
    finally:
        bay.events.put_targets(Rule=rule, Targets=targets)
        bay.stack.client("sqs").purge_queue(QueueUrl=bay.stack.outputs["UndeliveredEventsQueue"])

    wrong = {name for name, each in found.items() if each.status == "failed"}
    assert wrong == {"notifications", "healing", "dead-letter queue", "clean-up"}
    assert "RunAgain did not start a set-aside photo" in found["healing"].detail
    assert proof.message in found["clean-up"].detail


def test_undelivered_events_are_reported_with_a_remedy(bay: Bay, check: Checked) -> None:
    sqs, queue = bay.stack.client("sqs"), bay.stack.outputs["UndeliveredEventsQueue"]
    sqs.send_message(QueueUrl=queue, MessageBody="{}")
    try:
        done = check("--json")
    finally:
        sqs.purge_queue(QueueUrl=queue)

    assert list(failed(done)) == ["dead-letter queue"], done.output
    assert "loading-bay replay" in failed(done)["dead-letter queue"]


def physical_id(bay: Bay, logical_id: str) -> str:
    described = bay.stack.client("cloudformation").describe_stack_resource(
        StackName=bay.stack.outputs["StackName"], LogicalResourceId=logical_id
    )
    return str(described["StackResourceDetail"]["PhysicalResourceId"]).rpartition("/")[2]
