"""What people read of a photo's key can neither command their terminal nor forge a line."""

from datetime import timedelta
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from loading_bay.cli.main import main
from loading_bay.stack.deployed import Deployed

from .test_decisions import NAME, put

EVIL = "uploads/a\x1b[2J\n3 waiting for review\u202egpj.exe"
ESCAPED = r"uploads/a\x1b[2J\n3 waiting for review\u202egpj.exe"


@pytest.fixture
def deployed(table: Any, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    queue = boto3.client("sqs").create_queue(QueueName="undelivered")["QueueUrl"]
    found = Deployed(boto3.Session(), {"DecisionsTable": NAME, "UndeliveredEventsQueue": queue, "StackName": "bay"}, {})
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
