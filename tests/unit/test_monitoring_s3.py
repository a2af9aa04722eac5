"""Captures in S3 are listed and fetched in parallel, and kept; files that vanish meanwhile are reported."""

import io
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.response import StreamingBody
from click.testing import CliRunner
from moto import mock_aws
from rich.progress import Progress

from loading_bay.cli.main import main
from loading_bay.report.predictions import Predictions, read_predictions
from loading_bay.report.sources import capture_files
from loading_bay.stack.errors import UserError
from loading_bay.stack.window import Window

from .captures import HOUR, lines, place, record

BUCKET = "captures"


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the requests by the name of the operation."""
    counted: Counter[str] = Counter()
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def counting(client: Any, operation: str, arguments: Any) -> Any:
        counted[operation] += 1
        return real(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", counting)
    return counted


def read(cache: Path, prefix: str = "", window: Window | None = None) -> Predictions:
    with Progress(disable=True) as progress:
        found = capture_files(f"s3://{BUCKET}/{prefix}", window or Window(), cache, progress)
        return read_predictions(found, ("bicycle", "motorcycle"), window or Window())


def put(s3: Any, key: str, *records: object) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=lines(*(records or (record(),))))


@pytest.mark.parametrize("prefix", ["", "capture", "capture/", "capture/loading-bay/AllTraffic/2026"])
def test_captures_are_found_below_any_prefix(s3: Any, tmp_path: Path, prefix: str) -> None:
    put(s3, f"capture/{place()}", record(), record())

    found = read(tmp_path, prefix)

    assert len(found.table) == 2
    assert (found.files[0].endpoint, found.files[0].variant, found.files[0].hour) == ("loading-bay", "AllTraffic", HOUR)
    assert found.files[0].name == f"s3://{BUCKET}/capture/{place()}"


def test_a_prefix_is_a_folder_and_not_the_start_of_a_name(s3: Any, tmp_path: Path) -> None:
    put(s3, f"capture/{place()}")
    put(s3, f"capture-of-another-team/{place()}")

    assert len(read(tmp_path, "capture").table) == 1


def test_one_object_can_be_the_source(s3: Any, tmp_path: Path) -> None:
    put(s3, place())

    assert len(read(tmp_path, place()).table) == 1


def test_more_files_than_fit_into_a_listing_are_all_read_once(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    for number in range(25):
        put(s3, place(name=f"{number:04}.jsonl"))

    found = read(tmp_path)

    assert len(found.table) == found.ids == found.records == 25
    assert [each.name for each in found.files] == sorted(each.name for each in found.files)


def test_the_first_copy_of_a_record_by_name_is_used_in_any_order_of_folders(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, place(variant="a"), record((0.99, 0.01), event_id="same"))
    put(s3, place(variant="b"), record((0.01, 0.99), event_id="same"))
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def slow_for_a(client: Any, operation: str, arguments: Any) -> Any:
        if operation == "ListObjectsV2" and "/a/" in arguments["Prefix"]:
            time.sleep(0.1)
        return real(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", slow_for_a)

    assert read(tmp_path).table["scores"][:, 0].tolist() == [0.99]


def test_a_second_run_fetches_only_new_captures(s3: Any, tmp_path: Path, calls: Counter[str]) -> None:
    for number in range(20):
        put(s3, place(name=f"{number}.jsonl"))
    read(tmp_path)
    assert calls["GetObject"] == 20

    put(s3, place(name="new.jsonl"))
    put(s3, place(name="7.jsonl"), record(), record())
    found = read(tmp_path)

    assert calls["GetObject"] == 22
    assert len(found.table) == 22


def test_a_damaged_file_in_the_cache_is_fetched_again(s3: Any, tmp_path: Path) -> None:
    put(s3, place(), record(), record())
    read(tmp_path)
    (kept,) = (each for each in tmp_path.rglob("*") if each.is_file())
    kept.write_bytes(kept.read_bytes()[:100])

    assert len(read(tmp_path).table) == 2


def test_a_key_cannot_lead_out_of_the_cache(s3: Any, tmp_path: Path) -> None:
    put(s3, "../../../outside.jsonl")

    read(tmp_path / "deep/cache")

    assert all((tmp_path / "deep/cache") in each.parents for each in tmp_path.rglob("*") if each.is_file())


def test_only_the_owner_can_read_photos_in_the_cache(s3: Any, tmp_path: Path) -> None:
    put(s3, place())

    read(tmp_path / "cache")

    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_an_object_that_is_deleted_meanwhile_is_named(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(s3, place(name="a.jsonl"))
    put(s3, place(name="b.jsonl"))
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def deleting(client: Any, operation: str, arguments: Any) -> Any:
        if operation == "GetObject" and arguments["Key"].endswith("a.jsonl"):
            real(client, "DeleteObject", arguments)
        return real(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", deleting)

    found = read(tmp_path)

    assert found.skipped_files() == {"gone": 1}
    assert found.skipped[0].file == f"s3://{BUCKET}/{place(name='a.jsonl')}"
    assert len(found.table) == 1


def test_other_objects_are_named_and_not_fetched(s3: Any, tmp_path: Path, calls: Counter[str]) -> None:
    put(s3, place())
    s3.put_object(Bucket=BUCKET, Key="loading-bay/", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="loading-bay/notes.txt", Body=b"x")

    found = read(tmp_path)

    assert [(each.file, each.reason) for each in found.skipped] == [
        (f"s3://{BUCKET}/loading-bay/notes.txt", "not_a_capture_file")
    ]
    assert calls["GetObject"] == 1


def test_a_window_leaves_other_days_unlisted_and_other_hours_unfetched(
    s3: Any, tmp_path: Path, calls: Counter[str]
) -> None:
    for days in range(30):
        for hours in (0, 12):
            hour = HOUR + timedelta(days=days, hours=hours)
            put(s3, place(hour=hour), record(time=f"{hour:%Y-%m-%dT%H:%M:%SZ}"))
    window = Window(HOUR + timedelta(days=5), HOUR + timedelta(days=5, hours=6))

    found = read(tmp_path, window=window)

    assert len(found.table) == 1
    assert calls["GetObject"] == 1
    assert calls["ListObjectsV2"] <= 8  # root, endpoint, variant, year, two months, one or two days


@pytest.mark.parametrize(("failures", "predictions", "skipped"), [(2, 2, {}), (3, 1, {"unreadable": 1})])
def test_a_truncated_answer_is_requested_again_and_finally_named(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, predictions: int, skipped: dict[str, int]
) -> None:
    put(s3, place(name="a.jsonl"))
    put(s3, place(name="b.jsonl"))
    left = iter(range(failures))
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def breaking(client: Any, operation: str, arguments: Any) -> Any:
        answer = real(client, operation, arguments)
        if operation == "GetObject" and arguments["Key"].endswith("a.jsonl") and next(left, None) is not None:
            answer["Body"] = StreamingBody(io.BytesIO(answer["Body"].read()[:50]), content_length=1_000)
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", breaking)

    found = read(tmp_path)

    assert len(found.table) == predictions
    assert found.skipped_files() == skipped
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == predictions


def test_a_missing_bucket_is_one_line(s3: Any, tmp_path: Path) -> None:
    command = ["report", "s3://nowhere-at-all/", "--cache", str(tmp_path), "--output", str(tmp_path / "out")]

    result = CliRunner().invoke(main, command)

    assert result.exit_code == 1
    assert "NoSuchBucket" in result.output
    assert isinstance(result.exception, SystemExit)


def test_an_empty_prefix_says_so(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not contain any objects"):
        read(tmp_path, "nothing/here")
