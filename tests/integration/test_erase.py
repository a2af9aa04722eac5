"""An erasure that is killed and meets failing calls is finished by repeating it: no store holds the driver any more."""

import gzip
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from click.testing import CliRunner

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import Desk
from functions.decisions.table import DecisionsTable
from loading_bay.cli.main import main
from tests.unit.captures import lines, place, record

from .bay import Bay, picture, wait_for

pytestmark = pytest.mark.long

DRIVER, OTHER = "erased-driver", "kept-driver"
CAPTURES = "captures-to-erase"
# The command, which kills itself after its first write: a signal from outside could come after the last one.
KILLED = """
import os, signal
from botocore.client import BaseClient
from loading_bay.cli.main import main

call = BaseClient._make_api_call

def killed(self, operation, request):
    answer = call(self, operation, request)
    if operation.startswith(("Put", "Delete")):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

BaseClient._make_api_call = killed
main()
"""


@pytest.fixture
def claims(bay: Bay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[str]]:
    """Fill every store with photos of two drivers; return the claims by driver."""
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)
    keys = {driver: fill(bay, driver) for driver in (DRIVER, OTHER)}
    manifest = tmp_path / "photos.csv"
    manifest.write_text("\n".join(["s3_key", *keys[DRIVER], *keys[OTHER], ""]))
    done = CliRunner().invoke(main, ["batch", "start", "--manifest", str(manifest), "--name", "erase", "--wait"])
    assert done.exit_code == 0, done.output
    found = {driver: [str(bay.outcome(key).claim) for key in keys[driver]] for driver in keys}
    where = {"LocationConstraint": bay.s3.meta.region_name}
    bay.s3.create_bucket(Bucket=CAPTURES, CreateBucketConfiguration=where)
    captured = [record() for _ in range(4)]
    for request, claim in zip(captured, [*found[DRIVER], *found[OTHER]], strict=True):
        request["eventMetadata"]["inferenceId"] = claim
    now = bay.outcome(keys[DRIVER][0]).claimed_at
    for number, body in enumerate((lines(*captured[::2]), gzip.compress(lines(*captured[1::2])))):
        bay.s3.put_object(Bucket=CAPTURES, Key=f"bay/{place(hour=now, name=f'{number}.jsonl')}", Body=body)
    return found


def fill(bay: Bay, driver: str) -> list[str]:
    """Upload a photo twice that is routed, and one that a person decides and corrects."""
    sure = bay.upload(picture("red"), f"{driver}/sure.jpg")
    unsure = bay.upload(picture("grey"), f"{driver}/unsure.jpg")
    bay.outcome(sure)
    bay.upload(picture("red"), f"{driver}/sure.jpg")  # a second version of the same photo
    wait_for(partial(bay.waits, unsure))
    deployed = bay.stack.deployed
    classes = parse_classes(deployed.outputs["VehicleClasses"])
    table = DecisionsTable(bay.dynamodb, bay.table)
    desk = Desk(table, bay.sfn, deployed.outputs["AnnounceReviewArn"], classes)
    (waiting,) = bay.decisions(unsure)
    first = str(uuid.uuid4())
    desk.decide(waiting.photo, "bicycle", review_id=first, reviewer="ana")
    wait_for(lambda: bay.outcome(unsure).label_etag)
    desk.correct(waiting.photo, "motorcycle", review_id=str(uuid.uuid4()), reviewer="ana", corrects=first)
    wait_for(lambda: bay.outcome(unsure).label_etag and not bay.outcome(unsure).in_queue("OPEN"))
    sqs, queue = bay.stack.client("sqs"), deployed.outputs["UndeliveredEventsQueue"]
    for key in (sure, unsure):
        event = {"source": "aws.s3", "detail": {"bucket": {"name": bay.bucket}, "object": {"key": key}}}
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    return [sure, unsure]


def everything(bay: Bay) -> Iterator[str]:
    """Yield all that the stores of the local AWS hold: names and contents."""
    for bucket in bay.s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        for page in bay.s3.get_paginator("list_object_versions").paginate(Bucket=name):
            for version in page.get("Versions", []):
                given = {"Bucket": name, "Key": version["Key"], "VersionId": version["VersionId"]}
                body = bay.s3.get_object(**given)["Body"].read()
                body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
                yield f"{version['Key']} {body.decode(errors='replace')}"
            yield from (marker["Key"] for marker in page.get("DeleteMarkers", []))
    for table in bay.dynamodb.list_tables()["TableNames"]:
        for page in bay.dynamodb.get_paginator("scan").paginate(TableName=table):
            yield from map(str, page["Items"])
    queue = bay.stack.outputs["UndeliveredEventsQueue"]
    sqs = bay.stack.client("sqs")
    held = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
    yield from (message["Body"] for message in held)


def traces(bay: Bay, driver: str, claims: list[str]) -> list[str]:
    return [each[:200] for each in everything(bay) if any(name in each for name in (driver, *claims))]


def test_an_erasure_that_is_killed_and_fails_half_way_is_finished_by_repeating_it(
    bay: Bay, claims: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["erase", DRIVER, "--yes", "--captures", f"s3://{CAPTURES}/bay", "--receipt", str(tmp_path / "r.json")]
    before = len(traces(bay, OTHER, claims[OTHER]))
    assert len(traces(bay, DRIVER, claims[DRIVER])) > 10

    # It is killed as soon as it has erased something,
    environment = os.environ | bay.stack.environment()
    process = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(traces(bay, DRIVER, claims[DRIVER])) > 10

    # then the third write of each run fails, before its effect or after it,
    call, writes, failed = vars(BaseClient)["_make_api_call"], 0, 0

    def failing(self: Any, operation: str, request: Any) -> Any:
        nonlocal writes
        writes += operation.startswith(("Put", "Delete"))
        error = ClientError({"Error": {"Code": "InternalError", "Message": "injected"}}, operation)
        if writes == 3 and failed % 2:
            raise error
        answer = call(self, operation, request)
        if writes == 3:
            raise error
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", failing)
        while CliRunner().invoke(main, arguments).exit_code != 0:
            failed += 1
            assert failed < 50
            writes = 0

    # and in the end, no store holds the driver any more, and each still holds the other driver.
    assert failed > 2
    assert traces(bay, DRIVER, claims[DRIVER]) == []
    assert DRIVER not in (tmp_path / "r.json").read_text()
    assert len(traces(bay, OTHER, claims[OTHER])) == before
