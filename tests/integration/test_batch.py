"""Batches: every photo is counted, with any outcome, and the same photo is never decided twice."""

import json
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.responses import Response

from functions.photo.image import upright
from loading_bay.cli.main import main
from loading_bay.operations.batch import Batch, new_name
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, by_colour, failure


@pytest.fixture(scope="module")
def deployed(bay: Bay) -> Deployed:
    return bay.stack.deployed


def run(deployed: Deployed, **given: Any) -> Batch:
    batch = Batch.start(deployed, **given)
    wait_for(lambda: batch.status() != "RUNNING", seconds=120)
    return batch


def put(bay: Bay, prefix: str, photos: dict[str, bytes]) -> None:
    for name, data in photos.items():
        bay.s3.put_object(Bucket=bay.bucket, Key=f"{prefix}{name}", Body=data)


def recorded(bay: Bay, batch: Batch) -> Counter[str]:
    items = bay.dynamodb.scan(TableName=bay.table, ConsistentRead=True)["Items"]
    return Counter(item["status"]["S"] for item in items if item.get("batch_id", {}).get("S") == batch.name)


class Flaky:
    """Fails twice for some pictures before it answers, and always for others; the shade identifies a picture."""

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: bytes) -> Response:
        with self._lock:
            self._seen[body] += 1
            seen = self._seen[body]
        if body in self.fails_always or (body in self.fails_twice and seen <= 2):
            return failure(503, "ServiceUnavailable")
        return by_colour(body)

    fails_twice: frozenset[bytes] = frozenset()
    fails_always: frozenset[bytes] = frozenset()


@pytest.mark.parametrize("photos", [20, pytest.param(100, marks=pytest.mark.long)])
def test_mixed_photos_are_all_counted(either_bay: Bay, endpoint: Endpoint, photos: int) -> None:
    bay, deployed = either_bay, either_bay.stack.deployed
    # Given among each 20 photos 12 good ones, 2 unsure, 2 that are not photos, one damaged, one already decided, one
    # whose call fails twice and then works, and one whose call never works
    few = photos // 20
    good = {
        f"good-{i}.jpg": picture(f"rgb({200 + i % 30},{i % 7},0)" if i % 2 else f"rgb(0,{i % 7},{200 + i % 30})")
        for i in range(12 * few)
    }
    unsure = {f"unsure-{i}.jpg": picture(f"rgb({100 + i},{100 + i},{100 + i})") for i in range(2 * few)}
    no_photos = {f"text-{i}.jpg": f"no photo {i}".encode() for i in range(2 * few)}
    damaged = {f"damaged-{i}.jpg": picture("red", size=(300 + i, 300))[:-400] for i in range(few)}
    decided = {f"decided-{i}.jpg": picture("red", size=(80 + i, 80)) for i in range(few)}
    twice = {f"twice-{i}.png": picture(f"rgb(255,{50 + 5 * i},0)", "PNG") for i in range(few)}
    never = {f"never-{i}.png": picture(f"rgb(255,{100 + 5 * i},0)", "PNG") for i in range(few)}
    prefix = f"backfill/{new_name()}/"
    put(bay, prefix, decided)
    run(deployed, prefix=prefix)
    put(bay, prefix, good | unsure | no_photos | damaged | twice | never)
    answer = Flaky()
    answer.fails_twice = frozenset(_as_sent(data) for data in twice.values())
    answer.fails_always = frozenset(_as_sent(data) for data in never.values())

    with endpoint.answering(answer):
        batch = run(deployed, prefix=prefix)

    # Then the summary has every photo in one place
    summary = batch.summary()
    assert summary["photos"] == photos
    assert summary["routed"] == {"bicycle": 6 * few + few, "motorcycle": 6 * few}
    counts = {name: summary[name] for name in ("in_review", "rejected", "failed", "already_decided")}
    assert counts == {"in_review": 2 * few, "rejected": 3 * few, "failed": few, "already_decided": few}
    # and the table says the same
    assert recorded(bay, batch) == {"ROUTED": 13 * few, "REVIEW": 2 * few, "REJECTED": 3 * few, "FAILED": few}
    # and the batch failed, with the count and the command to retry
    described = bay.ended(str(summary["execution_arn"]))
    assert (described["status"], described["error"]) == ("FAILED", "SomePhotosFailed")
    assert f"loading-bay batch retry {batch.name}" in described["cause"]
    (announced,) = wait_for(lambda: _summaries(bay, batch))
    assert announced["photos"] == photos

    # When the failed photos are run again with a working endpoint, only those are run
    again = batch.retry()
    assert again is not None
    wait_for(lambda: again.status() != "RUNNING", seconds=60)
    assert again.status() == "SUCCEEDED"
    assert again.summary()["routed"] == {"bicycle": few, "motorcycle": 0}
    assert again.summary()["photos"] == few
    assert batch.retry() is None


def _as_sent(data: bytes) -> bytes:
    """Return the picture that the endpoint gets for a photo."""
    return upright(data, longest_side=416, max_pixels=1_000_000).encode_jpeg(145_000)


def _summaries(bay: Bay, batch: Batch) -> list[dict[str, Any]]:
    completed = [event["detail"] for event in bay.heard() if event["detail-type"] == "Batch Completed"]
    return [detail for detail in completed if detail["batch_id"] == batch.name]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("photos.jsonl", ['{{"s3_key": "{0}"}}', '{{"s3_bucket": "{bucket}", "s3_key": "{1}", "driver": "Bob"}}']),
    ],
)
def test_a_manifest_names_the_photos(bay: Bay, deployed: Deployed, name: str, lines: list[str]) -> None:
    prefix = f"archive/{new_name()}/"
    put(bay, prefix, {"a b+c.jpg": picture("red"), "ü.jpg": picture("blue"), "not-named.jpg": picture("red")})
    keys = (f"{prefix}a b+c.jpg", f"{prefix}ü.jpg")
    manifest = "\n".join(lines).format(*keys, bucket=bay.bucket)
    bay.s3.put_object(Bucket=bay.bucket, Key=f"manifests/{name}", Body=manifest.encode())

    summary = run(deployed, manifest=f"manifests/{name}").summary()

    assert (summary["photos"], summary["routed"]) == (2, {"bicycle": 1, "motorcycle": 1})
    assert bay.outcome(keys[0]).vehicle == "bicycle"


@pytest.mark.parametrize("form", ["keys", "csv"])
def test_keys_and_csv_files_are_given_to_the_command(
    bay: Bay, deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("loading_bay.cli.commands.find_stack", lambda *_: deployed)
    put(bay, f"{form}/", {"a b+c.jpg": picture("red", size=(70, 70)), "two.jpg": picture("blue", size=(70, 70))})
    keys = [f"{form}/a b+c.jpg", f"s3://{bay.bucket}/{form}/two.jpg"]
    (tmp_path / "photos.csv").write_text("driver, s3_key\n" + "".join(f"Ann, {key}\n" for key in keys))

    given = keys if form == "keys" else ["--manifest", str(tmp_path / "photos.csv")]
    done = CliRunner(mix_stderr=False).invoke(main, ["batch", "start", *given, "--wait", "--json"])

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["routed"] == {"bicycle": 1, "motorcycle": 1}


def test_an_upload_and_a_batch_of_the_same_photo_decide_it_once(bay: Bay, deployed: Deployed) -> None:
    keys = [bay.upload(picture("red", size=(90 + i, 90)), f"both/{i}.jpg") for i in range(5)]

    summary = run(deployed, prefix="uploads/both/").summary()

    assert summary["photos"] == 5
    assert summary["routed"]["bicycle"] + summary["already_decided"] == 5
    for key in keys:
        assert bay.outcome(key).status == "ROUTED"
        assert len(wait_for(partial(bay.announced, key))) == 1


def test_an_empty_prefix_is_an_empty_batch(deployed: Deployed) -> None:
    batch = run(deployed, prefix="there/is/nothing/here/")

    assert batch.status() == "SUCCEEDED"
    assert batch.summary()["photos"] == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"manifest": "manifests/none.jsonl"}, "BatchUnreadable"),
        ({"manifest": "manifests/photos.csv"}, "InvalidInput"),
        ({"manifest": "manifests/photos.xlsx"}, "InvalidInput"),
        ({"prefix": 7}, "InvalidInput"),
        ({"max_concurrency": "8"}, "InvalidInput"),
        ({"max_concurrency": 0}, "InvalidInput"),
        ("backfill/", "InvalidInput"),
    ],
    ids=["missing manifest", "CSV", "unknown manifest", "number", "concurrency as text", "no concurrency", "text"],
)
def test_an_invalid_batch_is_refused_with_a_reason(bay: Bay, given: object, error: str) -> None:
    machine = bay.stack.outputs["BatchStateMachineArn"]

    ended = bay.ended(bay.sfn.start_execution(stateMachineArn=machine, input=json.dumps(given))["executionArn"])

    assert (ended["status"], ended["error"]) == ("FAILED", error)


def test_a_batch_name_can_be_used_once(deployed: Deployed) -> None:
    name = new_name()
    run(deployed, prefix="there/is/nothing/here/", name=name)

    with pytest.raises(UserError, match="choose another name"):
        Batch.start(deployed, prefix="elsewhere/", name=name)


def test_photos_that_a_map_run_could_not_start_are_retried_without_a_record(bay: Bay, deployed: Deployed) -> None:
    # Given a Map run's results as AWS writes them, which the local AWS does not
    batch = run(deployed, prefix="there/is/nothing/here/")
    put(bay, "retried/", {"a b+c.jpg": picture("red", size=(91, 92)), "unsure.jpg": picture("grey", size=(91, 92))})
    shared = {"batch_id": batch.name}
    never = {"Error": "StepFunctions.ExecutionLimitExceededException", "Cause": "The maximum has been exceeded"}
    unsure = {"Error": "States.TaskFailed", "Cause": json.dumps({"Error": "LowConfidence", "Status": "FAILED"})}
    results = [
        {"Input": json.dumps(shared | {"item": {"Key": "retried/a b+c.jpg", "Etag": '"0"', "Size": 9}}), **never},
        {"Input": json.dumps({"item": {"Bucket": bay.bucket, "Key": "retried%2Fz.jpg"}}), **never},
        {"Input": json.dumps(shared | {"item": {"driver": "Ann"}}), **never},
        {"Input": json.dumps(shared | {"item": {"Key": "retried/unsure.jpg"}}), **unsure},
    ]
    folder = f"batches/{batch.name}/0f8fad5b"
    put(bay, folder, {"/FAILED_0.json": json.dumps(results).encode()})
    manifest = {"ResultFiles": {"FAILED": [{"Key": f"{folder}/FAILED_0.json"}], "PENDING": [], "SUCCEEDED": []}}
    put(bay, folder, {"/manifest.json": json.dumps(manifest).encode()})

    assert list(batch.failed_photos()) == [
        {"s3_key": "retried/a b+c.jpg", "etag": "0"},
        {"s3_bucket": bay.bucket, "s3_key": "retried/z.jpg"},
    ]
    assert batch.unnamed == [{"driver": "Ann"}]
    again = batch.retry()

    assert again
    wait_for(lambda: again.status() != "RUNNING", seconds=60)
    assert again.summary()["routed"]["bicycle"] == 1
