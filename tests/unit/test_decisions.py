"""Decisions, read from the table or from a file."""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from click.testing import CliRunner

from functions.decisions.decision import SHARDS, Decision
from functions.decisions.table import DecisionsTable
from loading_bay.cli.main import main
from loading_bay.stack.decisions import all_decisions, decisions_in_file, decisions_in_table
from loading_bay.stack.template import read_template
from loading_bay.stack.window import Window

from .captures import lines, place, record, write

pytestmark = pytest.mark.usefixtures("undrawn")
NAME = "decisions"
ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)


def put(table: Any, photo: str, status: str, age: timedelta, **more: object) -> None:
    claimed = f"{NOW - age:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    table.put_item(Item={"photo": f"s3://inbox/{photo}#etag", "status": status, "claimed_at": claimed, **more})


def test_a_photo_that_a_person_routed_still_counts_as_reviewed(table: Any, tmp_path: Path) -> None:
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
    agreed = found["agreement"]["agreed"]
    assert (agreed["count"], agreed["of"]) == (2, 3)


def test_a_missing_table_is_one_line(table: Any, tmp_path: Path) -> None:
    write(tmp_path, f"captures/{place()}", lines(record()))

    result = CliRunner().invoke(
        main, ["report", str(tmp_path), "--output", str(tmp_path / "out"), "--table", "nowhere"]
    )

    assert result.exit_code == 1
    assert "ResourceNotFoundException" in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_table_and_a_file_of_its_items_give_the_same_report(table: Any, tmp_path: Path) -> None:
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


def test_an_item_s_numbers_are_read_as_numbers(table: Any) -> None:
    put(table, "claimed.jpg", "CLAIMED", timedelta(minutes=1), due_at=1767229200, confidence=1)

    (found,) = all_decisions(DecisionsTable(boto3.client("dynamodb"), NAME))

    assert (found.due_at, found.confidence) == (1767229200, 1.0)


def test_a_queue_is_read_from_all_its_shards_in_the_order_of_claiming(table: Any) -> None:
    for number in range(250):
        more = {"queue": f"REVIEW#{number % 16:x}", "due_at": 1000 + number}
        put(table, f"{number}.jpg", "REVIEW", timedelta(minutes=number), **more)
    put(table, "open.jpg", "CLAIMED", timedelta(minutes=1), queue="OPEN#3", due_at=5)
    put(table, "done.jpg", "ROUTED", timedelta(minutes=1))
    decisions = DecisionsTable(boto3.client("dynamodb"), NAME)

    assert [each.key for each in decisions.queued("REVIEW")] == [f"{number}.jpg" for number in reversed(range(250))]
    assert [each.key for each in decisions.queued("OPEN", due_before=10)] == ["open.jpg"]
    assert decisions.queued("OPEN", due_before=5) == []


def test_a_long_queue_lists_the_longest_due_photos_of_each_shard(table: Any) -> None:
    for number in range(64):
        more = {"queue": f"REVIEW#{number % 16:x}", "due_at": 1000 + number}
        put(table, f"{number:02}.jpg", "REVIEW", timedelta(minutes=number), **more)
    decisions = DecisionsTable(boto3.client("dynamodb"), NAME)

    assert decisions.names_queued("REVIEW", most=3) == (
        [f"s3://inbox/{number:02}.jpg#etag" for number in range(48)],
        True,
    )
    assert decisions.names_queued("REVIEW", most=4)[1] is False


def test_the_table_and_the_file_keep_to_the_same_window(table: Any, tmp_path: Path) -> None:
    for minutes in (10, 20, 30):
        put(table, f"{minutes}.jpg", "ROUTED", timedelta(minutes=minutes))
    items = table.scan()["Items"]
    file = write(tmp_path, "decisions.json", json.dumps(items).encode())
    bounds = sorted(datetime.fromisoformat(str(each["claimed_at"])) for each in items)
    window = Window(since=bounds[0], until=bounds[2])

    from_table = {
        each.photo
        for each in decisions_in_table(DecisionsTable(boto3.client("dynamodb"), NAME), window)
        if isinstance(each, Decision)
    }
    from_file = {each.photo for each in decisions_in_file(file, window) if isinstance(each, Decision)}

    assert from_table == from_file == {"s3://inbox/30.jpg#etag", "s3://inbox/20.jpg#etag"}


def test_decisions_are_read_by_several_threads_from_the_first_one_on() -> None:
    """Earlier, the process crashed in about one run of ten: each run here is the first use in a new process."""
    program = """
import sys, threading
from loading_bay.stack.decisions import all_decisions, decisions_in_file, decisions_in_table
from loading_bay.stack.window import Window
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


def test_a_photo_is_found_by_its_full_name(table: Any) -> None:
    put(table, "road.jpg", "ROUTED", timedelta(minutes=1), vehicle="bicycle", confidence=Decimal("0.95"))
    decisions = DecisionsTable(boto3.client("dynamodb"), NAME)

    found = decisions.get("s3://inbox/road.jpg#etag")

    assert found is not None
    assert (found.status, found.vehicle, found.confidence) == ("ROUTED", "bicycle", 0.95)
    assert decisions.get("s3://inbox/road.jpg#other") is None


def test_a_person_s_decision_has_the_model_s_score_for_the_chosen_vehicle() -> None:
    scores = {"bicycle": 0.62, "motorcycle": 0.38}
    routed = Decision("s3://inbox/a.jpg#0", "ROUTED", NOW, vehicle="bicycle", confidence=0.62, probabilities=scores)
    against = msgspec.structs.replace(routed, vehicle="motorcycle", reviewed_by="ana")
    neither = msgspec.structs.replace(routed, status="REJECTED", vehicle=None, reviewed_by="ana")

    assert [each.score for each in (routed, against, neither)] == [0.62, 0.38, None]


def test_the_definitions_and_the_code_agree_on_the_shards() -> None:
    assert read_template()["Mappings"]["Queue"]["Shards"]["Digits"] == SHARDS
