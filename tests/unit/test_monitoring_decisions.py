"""The decisions table: the report's counts, and the live state in the terminal."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from monitoring.__main__ import main
from monitoring.decisions import Decision, DecisionsTable, decisions_in_file
from monitoring.sources import Window
from tests.monitoring.records import lines, place, record, write

NAME = "decisions"
ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        names = ("photo", "status", "claimed_at")
        yield boto3.resource("dynamodb").create_table(
            TableName=NAME,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
            KeySchema=[{"AttributeName": "photo", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_status_and_time",
                    "KeySchema": [
                        {"AttributeName": "status", "KeyType": "HASH"},
                        {"AttributeName": "claimed_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
        )


def put(table: Any, photo: str, status: str, age: timedelta, **more: object) -> None:
    claimed = f"{NOW - age:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    table.put_item(Item={"photo": f"s3://inbox/{photo}#etag", "status": status, "claimed_at": claimed, **more})


def watch(*options: str) -> str:
    result = CliRunner().invoke(main, ["watch", "--table", NAME, "--once", *options], terminal_width=200)
    assert result.exit_code == 0, result.output
    return result.output


def row(output: str, start: str) -> str:
    return next(line for line in output.splitlines() if start in line)


def test_the_state_counts_outcomes_and_the_review_rate(table: Any) -> None:
    for number in range(9):
        put(table, f"{number}.jpg", "ROUTED", timedelta(minutes=number))
    put(table, "doubt.jpg", "REVIEW", timedelta(minutes=90))
    put(table, "old.jpg", "ROUTED", timedelta(hours=30))

    output = watch()

    assert row(output, " 9 ").split() == ["9", "1", "0", "0", "0"]
    assert "Review rate: 10\N{NO-BREAK SPACE}% of 10" in output


def test_a_photo_that_a_person_has_routed_still_counts_as_one_that_the_model_did_not(
    table: Any, tmp_path: Path
) -> None:
    for number in range(6):
        put(table, f"{number}.jpg", "ROUTED", timedelta(minutes=number), vehicle="bicycle")
    put(table, "waiting.jpg", "REVIEW", timedelta(minutes=8))
    for vehicle in ("bicycle", "motorcycle", "motorcycle"):
        more = {"bicycle": Decimal("0.4"), "motorcycle": Decimal("0.6")}
        put(
            table,
            f"{len(table.scan()['Items'])}.jpg",
            "ROUTED",
            timedelta(minutes=9),
            vehicle=vehicle,
            reviewed_by="ann",
            probabilities=more,
        )
    write(tmp_path, f"captures/{place()}", lines(record()))

    command = ["report", str(tmp_path / "captures"), "--output", str(tmp_path / "out"), "--table", NAME]
    assert CliRunner().invoke(main, command).exit_code == 0

    found = json.loads((tmp_path / "out/metrics.json").read_text())["decisions"]
    assert (found["review_rate"]["count"], found["review_rate"]["of"]) == (4, 10)
    assert (found["agreed"]["count"], found["agreed"]["of"]) == (2, 3)
    assert "Review rate: 40\N{NO-BREAK SPACE}% of 10" in watch()


def test_the_oldest_photo_in_review_is_named_with_its_age_however_old(table: Any) -> None:
    put(table, "old.jpg", "REVIEW", timedelta(days=3, hours=2, minutes=1))
    put(table, "new.jpg", "REVIEW", timedelta(minutes=1))

    assert "Oldest photo in review: 3 d 2 h, s3://inbox/old.jpg#etag" in watch()


def test_the_last_decisions_come_newest_first(table: Any) -> None:
    for number in range(30):
        put(table, f"{number:02}.jpg", ("ROUTED", "FAILED")[number % 2], timedelta(minutes=number))

    output = watch()

    assert re.findall(r"\d\d\.jpg", output.split("Last")[1]) == [f"{number:02}.jpg" for number in range(10)]


def test_an_empty_table_is_no_trouble(table: Any) -> None:
    output = watch()

    assert "no photo was classified" in output
    assert "Oldest photo in review: none" in output


def test_a_photo_cannot_command_the_terminal(table: Any) -> None:
    put(table, "[bold]trap[/bold]\x1b[2J\x07.j", "REVIEW", timedelta(minutes=1), bay="\x1b]0;owned\x07")

    output = watch()

    assert "\x1b" not in output
    assert "\x07" not in output
    assert "[bold]trap[/bold]\ufffd[2J\ufffd" in output.replace("\n", "")


def test_a_table_that_is_not_there_is_one_line(table: Any) -> None:
    result = CliRunner().invoke(main, ["watch", "--table", "nowhere", "--once"])

    assert result.exit_code == 1
    assert "ResourceNotFoundException" in result.output
    assert isinstance(result.exception, SystemExit)


def test_the_table_gives_the_report_the_same_as_a_file_of_its_items(table: Any, tmp_path: Path) -> None:
    for number in range(120):
        more = {"uploaded_at": f"2026-11-20T04:00:0{number % 10}.000Z", "decided_at": "2026-11-20T04:00:12.000Z"}
        put(table, f"{number}.jpg", ("ROUTED", "REVIEW", "FAILED")[number % 3], timedelta(minutes=number), **more)
    put(table, "odd.jpg", "ROUTED", timedelta(minutes=5), uploaded_at="yesterday")
    write(tmp_path, f"captures/{place()}", lines(record()))
    file = write(tmp_path, "decisions.json", json.dumps(table.scan()["Items"]).encode())
    found = []
    for option, value in (("--table", NAME), ("--decisions", str(file))):
        command = ["report", str(tmp_path / "captures"), "--output", str(tmp_path / "out"), option, value]
        assert CliRunner().invoke(main, command).exit_code == 0
        found.append(json.loads((tmp_path / "out/metrics.json").read_text())["decisions"])

    assert found[0] == found[1]
    assert found[0]["photos"] == 120
    assert found[0]["latency"]["n"] == 120
    assert [each["photo"] for each in found[0]["skipped"]] == ["s3://inbox/odd.jpg#etag"]


def test_the_table_and_the_file_keep_to_the_same_window(table: Any, tmp_path: Path) -> None:
    for minutes in (10, 20, 30):
        put(table, f"{minutes}.jpg", "ROUTED", timedelta(minutes=minutes))
    items = table.scan()["Items"]
    file = write(tmp_path, "decisions.json", json.dumps(items).encode())
    bounds = sorted(datetime.fromisoformat(str(each["claimed_at"])) for each in items)
    window = Window(since=bounds[0], until=bounds[2])

    from_table = {each.photo for each in DecisionsTable(NAME).within(window) if isinstance(each, Decision)}
    from_file = {each.photo for each in decisions_in_file(file, window) if isinstance(each, Decision)}

    assert from_table == from_file == {"s3://inbox/30.jpg#etag", "s3://inbox/20.jpg#etag"}


def test_the_live_state_follows_the_table_until_it_is_interrupted(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(table, "first.jpg", "ROUTED", timedelta(minutes=2))
    looks = []

    def between_looks(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt
        put(table, "second.jpg", "FAILED", timedelta(minutes=1))

    monkeypatch.setattr(time, "sleep", between_looks)

    result = CliRunner().invoke(main, ["watch", "--table", NAME, "--every", "7"])

    assert result.exit_code == 0
    assert looks == [7, 7]
    assert "second.jpg" in result.output


def test_decisions_are_read_by_several_threads_from_the_first_one_on() -> None:
    """Before, the process crashed in about one run of ten: each run here is the first use in a process of its own."""
    program = """
import sys, threading
from monitoring.decisions import decisions_in_file
from monitoring.sources import Window
from pathlib import Path
sys.setswitchinterval(1e-6)
ready = threading.Barrier(12)
def read():
    ready.wait()
    assert len(list(decisions_in_file(Path(sys.argv[1]), Window()))) == 1
threads = [threading.Thread(target=read) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    item = {"photo": "a", "status": "ROUTED", "claimed_at": "2026-11-20T04:21:06.123Z", "probabilities": {"a": 0.5}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([item], file)
        file.flush()
        for _ in range(3):
            done = subprocess.run([sys.executable, "-c", program, file.name], check=False, cwd=ROOT)
            assert done.returncode == 0
