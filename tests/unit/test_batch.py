"""A finished batch: its summary with the reasons, the rejected photos, and the exit code."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from loading_bay.cli.main import main
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.template import read_template

SUMMARY = {"batch_id": "march", "photos": 5, "in_review": 0, "already_decided": 0, "seconds": 9}
Finish = Callable[..., None]


@pytest.fixture
def finish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Finish]:
    """Record a batch's end, with these photos rejected and so many failed."""
    with mock_aws():
        session = boto3.Session()
        dynamodb = session.client("dynamodb")
        resources = read_template()["Resources"]
        for name in ("Decisions", "Batches"):
            properties = resources[name]["Properties"]
            wanted = {"AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes"} & set(properties)
            dynamodb.create_table(TableName=name, **{each: properties[each] for each in wanted})
        outputs = {"DecisionsTable": "Decisions", "BatchesTable": "Batches", "InboxBucket": "inbox"}
        outputs["BatchStateMachineArn"] = "arn:aws:states:us-east-1:123456789012:stateMachine:batch"
        deployed = Deployed(session, outputs, {}, options=("--stack-name", "my bay"))
        monkeypatch.setattr("loading_bay.cli.commands.find_stack", lambda *_: deployed)

        def finish(rejected: dict[str, str], failed: int = 0) -> None:
            numbers = {name: value for name, value in SUMMARY.items() if isinstance(value, int)}
            numbers |= {"rejected": len(rejected), "failed": failed}
            item: dict[str, Any] = {name: {"N": str(value)} for name, value in numbers.items()}
            item |= {"batch_id": {"S": "march"}, "routed": {"M": {"bicycle": {"N": "1"}}}}
            dynamodb.put_item(TableName="Batches", Item=item)
            for number, (key, code) in enumerate(rejected.items()):
                texts = {"photo": f"s3://inbox/{key}#none", "s3_key": key, "batch_shard": f"march#{number:x}"}
                texts |= {"status": "REJECTED", "claimed_at": "2026-11-20T04:00:00Z", "reason_code": code}
                texts |= {"error": "PhotoNotFound", "reason": f"s3://inbox/{key} no longer exists"}
                dynamodb.put_item(TableName="Decisions", Item={name: {"S": text} for name, text in texts.items()})

        yield finish


def batch(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(main, ["batch", *arguments])


def test_the_summary_says_why_photos_were_rejected_and_how_to_see_which(finish: Finish) -> None:
    finish({"a.jpg": "NOT_FOUND", "b.jpg": "NOT_FOUND", "c.jpg": "UNREADABLE"})

    done = batch("show", "march")

    assert done.exit_code == 3, done.output
    assert "2 NOT_FOUND" in done.stdout
    assert "1 UNREADABLE" in done.stdout
    assert "loading-bay batch show march --rejected --stack-name 'my bay'" in done.stderr


def test_the_rejected_photos_are_listed_with_their_reasons(finish: Finish) -> None:
    finish({"a b.jpg": "NOT_FOUND", "c.jpg": "NOT_FOUND"})

    listed, as_json = batch("show", "march", "--rejected"), batch("show", "march", "--rejected", "--json")

    assert listed.exit_code == as_json.exit_code == 3
    assert "a b.jpg\n    PhotoNotFound: s3://inbox/a b.jpg no longer exists\n" in listed.stdout
    assert "2 rejected in batch march" in listed.stdout
    assert {each["reason"] for each in json.loads(as_json.stdout)} == {
        "s3://inbox/a b.jpg no longer exists",
        "s3://inbox/c.jpg no longer exists",
    }


@pytest.mark.parametrize(("rejected", "failed", "code"), [({}, 0, 0), ({}, 1, 1), ({"a.jpg": "NOT_FOUND"}, 2, 1)])
def test_the_exit_code_tells_how_the_batch_went(
    finish: Finish, rejected: dict[str, str], failed: int, code: int
) -> None:
    finish(rejected, failed)

    assert batch("show", "march").exit_code == code
