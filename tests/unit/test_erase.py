"""A driver is erased from every store, also after an interruption, and nobody else is."""

import gzip
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from functions.decisions.decision import timestamp
from loading_bay.cli.main import main
from loading_bay.stack.deployed import Deployed

from .captures import lines, place, record
from .test_decisions import NAME, NOW

DRIVER, OTHER = "driver-7", "driver-70"
STORES = {
    "photo versions": 3,
    "label versions": 3,
    "captured requests": 2,
    "batch files": 4,
    "undelivered events": 2,
    "exported photos": 1,
    "decisions": 2,
}


@dataclass
class Bay:
    """A stack with photos of two drivers in every store."""

    deployed: Deployed
    s3: Any
    queue: str
    captures: Path
    exported: Path
    claims: dict[str, list[str]]

    def erase(self, *options: str, captures: str = "s3://captures/bay") -> Result:
        given = ["--captures", captures, "--exported", str(self.exported), "--receipt", str(self.exported / "r.json")]
        return CliRunner().invoke(main, ["erase", DRIVER, "--yes", *given, *options])

    def everything(self) -> list[str]:
        """Return all that the stores hold: names and contents."""
        found = []
        for bucket in ("inbox", "captures"):
            answer = self.s3.list_object_versions(Bucket=bucket)
            for version in answer.get("Versions", []):
                named = {"Key": version["Key"], "VersionId": version["VersionId"]}
                body = self.s3.get_object(Bucket=bucket, **named)["Body"].read()
                body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
                found.append(f"{version['Key']} {body.decode(errors='replace')}")
            found += [marker["Key"] for marker in answer.get("DeleteMarkers", [])]
        for path in self.exported.rglob("*"):
            found.append(f"{path.name} {path.read_text() if path.is_file() else ''}")
        messages = boto3.client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        found += [message["Body"] for message in messages.get("Messages", [])]
        items = boto3.client("dynamodb").scan(TableName=NAME)["Items"]
        return [*found, *map(str, items)]

    def traces(self, driver: str) -> list[str]:
        """Return the traces that are left of a driver: photos by name, and copies by claim."""
        return [
            each
            for each in self.everything()
            if f"uploads/{driver}/" in each or any(claim[:8] in each for claim in self.claims[driver])
        ]


@pytest.fixture
def bay(table: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bay:
    s3 = boto3.client("s3")
    for bucket in ("inbox", "captures"):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="inbox", VersioningConfiguration={"Status": "Enabled"})
    queue = boto3.client("sqs").create_queue(QueueName="undelivered")["QueueUrl"]
    outputs = {"DecisionsTable": NAME, "UndeliveredEventsQueue": queue, "StackName": "bay", "InboxBucket": "inbox"}
    deployed = Deployed(boto3.Session(), outputs, {"UploadPrefix": "uploads/", "LogRetentionDays": "30"})
    monkeypatch.setattr("loading_bay.cli.commands.find_stack", lambda *_: deployed)
    (tmp_path / "reviewed" / "bicycle").mkdir(parents=True)
    claims = {driver: [str(uuid.uuid4()) for _ in range(2)] for driver in (DRIVER, OTHER)}
    bay = Bay(deployed, s3, queue, tmp_path / "captures", tmp_path / "reviewed", claims)
    fill(bay, table)
    return bay


def fill(bay: Bay, table: Any) -> None:
    """Put two photos of each driver into every store: one that was overwritten and deleted, one that was corrected."""

    def put(key: str, body: bytes | str, bucket: str = "inbox") -> None:
        bay.s3.put_object(Bucket=bucket, Key=key, Body=body)

    manifest, results, captured = [], [], []
    for driver, (first, second) in bay.claims.items():
        gone, kept = (f"uploads/{driver}/{name}.jpg" for name in ("gone", "kept"))
        for key in (gone, kept):
            put(key, b"\xff\xd8 a photo")
        bay.s3.delete_object(Bucket="inbox", Key=gone)
        for answer in ("bicycle", "motorcycle"):  # a correction whose older label was never removed
            put(f"labels/{answer}/{second}-{uuid.uuid4()}", b"\xff\xd8 a label")
        put(f"labels/bicycle/{first}-{uuid.uuid4()}", b"\xff\xd8 a label")
        (bay.exported / "bicycle" / f"{second[:8]}-kept.jpg").write_text("a label")
        for key, claim in ((gone, first), (kept, second)):
            manifest.append(f'{{"s3_key": "{key}"}}\n')
            results.append(
                {"Input": json.dumps({"s3_key": key}), "Output": json.dumps({"photo": f"s3://inbox/{key}#e"})}
            )
            item = {"photo": f"s3://inbox/{key}#etag", "s3_key": key, "claim": claim, "status": "ROUTED"}
            table.put_item(Item=item | {"claimed_at": timestamp(NOW - timedelta(minutes=9))})
            request = record()
            request["eventMetadata"]["inferenceId"] = claim
            captured.append(request)
        sqs = boto3.client("sqs")
        sqs.send_message(QueueUrl=bay.queue, MessageBody=json.dumps({"detail": {"object": {"key": gone}}}))
        sqs.send_message(QueueUrl=bay.queue, MessageBody=json.dumps({"set_aside_at": "now", "s3_key": kept}))
    put("manifests/fill.jsonl", "".join(manifest))
    put("manifests/fill.jsonl", "".join(manifest))  # two versions
    put("batches/fill/x/SUCCEEDED_0.json", json.dumps(results))
    put("batches/fill/x/FAILED_0.json", json.dumps(results[:1]))
    put("batches/fill/x/manifest.json", json.dumps({"ResultFiles": {"FAILED": [{"Key": "FAILED_0.json"}]}}))
    now, before = NOW - timedelta(minutes=9), NOW - timedelta(days=30)
    put(f"bay/{place(hour=now, name='a.jsonl')}", lines(*captured[::2]), "captures")
    put(f"bay/{place(hour=now, name='b.jsonl.gz')}", gzip.compress(lines(*captured[1::2])), "captures")
    put(f"bay/{place(hour=before)}", lines(record()), "captures")


def test_nothing_is_left_of_the_driver_and_nothing_is_lost_of_others(bay: Bay) -> None:
    before = bay.traces(OTHER)

    done = bay.erase()

    assert done.exit_code == 0, done.output
    assert bay.traces(DRIVER) == []
    assert len(bay.traces(OTHER)) == len(before) - 1  # two versions of one manifest have become one
    remaining = json.loads(bay.s3.get_object(Bucket="inbox", Key="batches/fill/x/SUCCEEDED_0.json")["Body"].read())
    assert len(remaining) == 2


def test_the_receipt_counts_what_was_erased_and_names_nobody(bay: Bay) -> None:
    bay.erase()

    text = (bay.exported / "r.json").read_text()
    assert json.loads(text)["erased"] == STORES
    assert DRIVER not in text
    assert not any(claim in text for claim in bay.claims[DRIVER])


def test_a_dry_run_counts_the_same_and_erases_nothing(bay: Bay) -> None:
    before = bay.everything()

    done = bay.erase("--dry-run", "--json")

    assert json.loads(done.output)["erased"] == STORES
    assert bay.everything() == before


def test_an_erasure_that_breaks_off_after_every_call_is_finished_by_repeating_it(
    bay: Bay, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, made = vars(BaseClient)["_make_api_call"], 0

    def only_one(self: Any, operation: str, request: Any) -> Any:
        nonlocal made
        if operation.startswith(("Put", "Delete")):
            if made == 1:
                raise ClientError({"Error": {"Code": "SlowDown", "Message": "later"}}, operation)
            made += 1
        return call(self, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", only_one)
    times = 0
    while bay.erase().exit_code != 0:
        assert (times := times + 1) < 100
        made = 0

    assert times > 10
    assert bay.traces(DRIVER) == []
    assert bay.traces(OTHER)


@pytest.mark.parametrize("store", ["folder", "bucket"])
def test_captures_are_erased_wherever_they_are(bay: Bay, tmp_path: Path, store: str) -> None:
    folder = tmp_path / "captures"
    file = folder / place(hour=NOW)
    file.parent.mkdir(parents=True)
    requests = [record(), record()]
    requests[0]["eventMetadata"]["inferenceId"] = bay.claims[DRIVER][0]
    file.write_bytes(lines(*requests))

    done = bay.erase(captures=str(folder) if store == "folder" else "s3://captures/bay")

    assert done.exit_code == 0, done.output
    if store == "folder":
        assert file.read_bytes() == lines(requests[1])


@pytest.mark.parametrize(
    "state", [{"status": "CLAIMED"}, {"status": "ROUTED"}, {"status": "ROUTED", "reviewed_by": "a"}]
)
def test_a_driver_whose_photo_is_being_classified_or_announced_is_not_erased(
    bay: Bay, table: Any, state: dict[str, str]
) -> None:
    photo, claimed = f"s3://inbox/uploads/{DRIVER}/now.jpg#etag", timestamp(NOW)
    table.put_item(Item={"photo": photo, "claimed_at": claimed, "queue": "OPEN#0", "due_at": 1, "claim": "0", **state})
    before = bay.everything()

    done = bay.erase()

    assert done.exit_code == 1
    assert "1 photos of this driver are being classified or announced: try again" in done.output
    assert bay.everything() == before


def test_a_failing_photo_does_not_block_an_erasure(bay: Bay, table: Any) -> None:
    photo, claimed = f"s3://inbox/uploads/{DRIVER}/now.jpg#etag", timestamp(NOW)
    item = {"photo": photo, "claimed_at": claimed, "queue": "OPEN#0", "due_at": 1, "claim": "0", "status": "FAILED"}
    table.put_item(Item=item)

    assert bay.erase().exit_code == 0
    assert bay.traces(DRIVER) == []


@pytest.mark.parametrize("name", ["", "a/b", "/"])
def test_a_name_that_is_not_a_folder_is_refused(bay: Bay, name: str) -> None:
    done = CliRunner().invoke(main, ["erase", name, "--yes", "--no-captures"])

    assert done.exit_code == 1
    assert "is not a driver" in done.output
