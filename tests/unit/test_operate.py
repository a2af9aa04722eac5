"""Commands for any stack: a key can neither command the terminal nor forge a line, and a refusal names a remedy."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from functions.decisions.decision import timestamp
from loading_bay.cli.main import main
from loading_bay.stack.deployed import Deployed

from .test_decisions import NAME, NOW, put

OPINIONS = (("1", "motorcycle"), ("2", "bicycle"), ("3", "bicycle"))

EVIL = "uploads/a\x1b[2J\n3 waiting for review\u202egpj.exe"
ESCAPED = r"uploads/a\x1b[2J\n3 waiting for review\u202egpj.exe"


@pytest.fixture
def deployed(table: Any, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    queue = boto3.client("sqs").create_queue(QueueName="undelivered")["QueueUrl"]
    machine = "arn:aws:states:us-east-1:123456789012:stateMachine:batch"
    outputs = {"DecisionsTable": NAME, "UndeliveredEventsQueue": queue, "StackName": "bay", "StackId": ""}
    outputs |= {"VehicleClasses": "bicycle:1:near", "AnnounceReviewArn": "", "BatchStateMachineArn": machine}
    found = Deployed(boto3.Session(), outputs, {}, options=("--stack-name", "bay"))
    monkeypatch.setattr("loading_bay.cli.commands.find_stack", lambda *_: found)
    return found


@pytest.mark.parametrize("command", [["review", "list"], ["replay", "--dry-run"], ["watch", "--once"]])
@pytest.mark.usefixtures("deployed")
def test_a_key_is_shown_escaped(table: Any, command: list[str]) -> None:
    put(table, EVIL, "REVIEW", timedelta(minutes=2), queue="REVIEW#0", due_at=1, error="LowConfidence", reason="unsure")
    put(table, f"{EVIL}2", "FAILED", timedelta(minutes=2), queue="FAILED#0", due_at=1, error="x\x07", reason="\x1b]0;a")

    done = CliRunner().invoke(main, command)

    assert done.exit_code == 0, done.output
    assert ESCAPED in done.output
    assert not {"\x1b", "\x07", "\u202e"} & set(done.output)


@pytest.mark.usefixtures("deployed")
def test_one_driver_can_be_watched(table: Any) -> None:
    for driver in ("driver-7", "driver-70"):
        put(table, f"s3://inbox/uploads/{driver}/1.jpg#{'0' * 32}", "ROUTED", timedelta(minutes=2), driver=driver)

    done = CliRunner().invoke(main, ["watch", "--once", "--driver", "driver-7"])

    assert "uploads/driver-7/1.jpg" in done.output
    assert "uploads/driver-70/" not in done.output


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (["review", "decide", "nothing.jpg", "bicycle"], "see loading-bay review list --stack-name bay"),
        (["batch", "follow", "nothing"], "see loading-bay batch list --stack-name bay"),
    ],
)
@pytest.mark.usefixtures("deployed")
def test_a_refusal_names_the_command_that_helps(table: Any, command: list[str], hint: str) -> None:
    done = CliRunner().invoke(main, command)

    assert done.exit_code == 1
    assert hint in done.output


@pytest.mark.usefixtures("deployed")
def test_an_export_reports_decisions_that_can_still_be_undone_as_too_early(table: Any, tmp_path: Path) -> None:
    reviewed: dict[str, Any] = {"vehicle": "bicycle", "reviewed_by": "ana", "announced_at": "2026-11-25T10:00:00.000Z"}
    # A decision, and the correction of one whose earlier label is there
    put(table, "fresh.jpg", "ROUTED", timedelta(minutes=1), **reviewed, queue="OPEN#0", due_at=1)
    put(table, "again.jpg", "ROUTED", timedelta(minutes=1), **reviewed, queue="OPEN#0", due_at=1, label="labels/x")
    put(table, "gone.jpg", "ROUTED", timedelta(minutes=1), **reviewed)

    done = CliRunner().invoke(main, ["review", "export", str(tmp_path / "labels")])

    assert done.exit_code == 0, done.output
    assert "left out: fresh.jpg: not announced yet" in done.output
    assert "left out: again.jpg: not announced yet" in done.output
    assert "left out: gone.jpg: the photo was deleted" in done.output
    assert not (tmp_path / "labels").exists()


@pytest.mark.usefixtures("deployed")
def test_an_export_says_how_each_photo_was_chosen(table: Any, tmp_path: Path) -> None:
    reviewed: dict[str, Any] = {"vehicle": "bicycle", "reviewed_by": "ana", "label": "labels/x", "label_etag": "e"}
    put(table, "unsure.jpg", "ROUTED", timedelta(minutes=1), **reviewed, claim="1")
    put(table, "sure.jpg", "ROUTED", timedelta(minutes=1), **reviewed, claim="2", audit_share=Decimal("0.02"))
    given = [{"id": each, "by": each, "answer": answer, "at": timestamp(NOW)} for each, answer in OPINIONS]
    put(table, "third.jpg", "ROUTED", timedelta(minutes=1), **reviewed, claim="3", review_id="3", opinions=given)
    (tmp_path / "bicycle").mkdir()
    for name in ("1-unsure.jpg", "2-sure.jpg", "3-third.jpg"):
        (tmp_path / "bicycle" / name).write_bytes(b"exported earlier")

    done = CliRunner().invoke(main, ["review", "export", str(tmp_path), "--json"])

    found = {each["photo"]: (each["chosen"], each["audit_share"]) for each in json.loads(done.output)}
    assert found == {"unsure.jpg": ("review", None), "sure.jpg": ("audit", 0.02), "third.jpg": ("second", None)}
