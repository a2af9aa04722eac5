"""Text from outside (a key, a reason, a log line) neither commands a terminal nor forges a line, in any command."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from functions.decisions.decision import Decision
from loading_bay.cli.main import main
from loading_bay.operations.explain import Account, Step
from loading_bay.operations.replay import Unfinished
from loading_bay.operations.review import Label
from loading_bay.operations.reviewers import Reviewer
from loading_bay.stack.errors import UserError

# An escape sequence in both forms, a bell, the other direction, every line end, and two invisible codes.
TEXT = "[bold]a\x1b[2J\x9b31m\x07\u202egpj\nforged\rforged\u2028forged\x85forged\u200b\U000e0001.jpg"
DECISION = Decision(
    f"s3://inbox/uploads/{TEXT}#{'0' * 32}", "REVIEW", datetime.now(UTC), driver=TEXT, order=TEXT, error=TEXT,
    reason=TEXT, vehicle=TEXT, bay=TEXT, order_range=TEXT, execution_arn=TEXT,
)  # fmt: skip


def always(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def refuse(*_: object, **__: object) -> None:
    raise UserError(f"there is no photo {TEXT}")


# The arguments of a command → the functions that it calls, with their results.
COMMANDS: dict[str, dict[str, Callable[..., Any]]] = {
    "review list": {"review.waiting_photos": always([DECISION])},
    "review decide PHOTO neither": {"review.decide": always(DECISION)},
    "review export FOLDER": {"review.export_reviewed": always([Label(TEXT, None, TEXT)])},
    "reviewers list": {"review.list_all_reviewers": always([Reviewer(TEXT, TEXT, TEXT)])},
    "replay --dry-run": {"operate.find_unfinished": always([Unfinished(TEXT, TEXT)])},
    "explain PHOTO": {"operate.explain_photo": always(Account(DECISION, [Step(TEXT, 0.1)], TEXT))},
    "watch --once": {"operate.decisions_in_table": always([DECISION])},
    "batch list": {
        "batch.recent_batches": always([({"name": TEXT, "status": TEXT, "startDate": datetime.now(UTC)}, None)])
    },
    "batch follow NAME": {"batch.Batch": refuse},
    "logs": {"local.Stack.load": always(None), "local._log": always([TEXT])},
}
WITHOUT_JSON = {"logs"}


@pytest.fixture(autouse=True)
def stack(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"DecisionsTable": "Decisions", "StackName": "bay", "InboxBucket": "inbox"}
    deployed = SimpleNamespace(outputs=outputs, client=always(None))
    monkeypatch.setattr("loading_bay.cli.commands.find_stack", always(deployed))


@pytest.mark.parametrize(
    ("command", "json_too"),
    [*((each, False) for each in COMMANDS), *((each, True) for each in COMMANDS if each not in WITHOUT_JSON)],
)
def test_text_from_outside_is_one_printable_line(monkeypatch: pytest.MonkeyPatch, command: str, json_too: bool) -> None:
    for name, function in COMMANDS[command].items():
        monkeypatch.setattr(f"loading_bay.cli.{name}", function)

    done = CliRunner(mix_stderr=False).invoke(main, [*command.split(), *(["--json"] if json_too else [])])

    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    written = done.stdout + done.stderr
    assert "gpj" in written
    assert [each for each in written if not each.isprintable() and each not in "\n\N{NO-BREAK SPACE}"] == []
    assert [line for line in written.splitlines() if line.startswith("forged")] == []
    if json_too and done.exit_code == 0:
        json.loads(done.stdout)
