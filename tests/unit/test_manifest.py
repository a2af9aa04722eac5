"""A batch's prefix or manifest is looked at before anything starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from loading_bay.operations.batch import Batch
from loading_bay.operations.manifest import checked_manifest, checked_prefix
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError


@pytest.fixture
def deployed() -> Iterator[Deployed]:
    with mock_aws():
        session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1")
        session.client("s3").create_bucket(Bucket="inbox")
        outputs = {"InboxBucket": "inbox", "BatchStateMachineArn": "arn:aws:states:::stateMachine:batch"}
        yield Deployed(session, outputs, {"BatchPrefix": "backfill/"})


GOOD = {
    "photos.csv": b"driver,s3_key\r\nAnn,backfill/1.jpg\r\n",
    "PHOTOS.CSV": b'"s3_key","driver"\n"backfill/1, 2.jpg",Ann\n',
    "photos.jsonl": b'{"s3_key": "backfill/1.jpg"}\n',
}
BAD = {
    "excel.csv": (b"\xef\xbb\xbfs3_key\nbackfill/1.jpg\n", "begins with a byte-order mark"),
    "excel.jsonl": (b'\xef\xbb\xbf{"s3_key": "backfill/1.jpg"}\n', "begins with a byte-order mark"),
    "semicolons.csv": (b"driver;s3_key\nAnn;backfill/1.jpg\n", "separates its columns by semicolons"),
    "headless.csv": (b"backfill/1.jpg\nbackfill/2.jpg\n", "has no column s3_key"),
    "other.csv": (b"key\nbackfill/1.jpg\n", "has no column s3_key"),
    "empty.csv": (b"\n", "is empty"),
    "empty.jsonl": (b"", "is empty"),
    "list.jsonl": (b'[{"s3_key": "backfill/1.jpg"}]\n', "does not begin with a photo"),
    "text.jsonl": (b"backfill/1.jpg\n", "does not begin with a photo"),
    "number.jsonl": (b'{"s3_key": 7}\n', "does not begin with a photo"),
    "photos.xlsx": (b"PK\x03\x04", "neither .csv"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("place", ["here", "inbox"])
def test_a_manifest_with_photos_is_taken(deployed: Deployed, tmp_path: Path, name: str, place: str) -> None:
    given = put(deployed, tmp_path, name, GOOD[name], place)

    key = checked_manifest(deployed, given, "march")

    assert key == (given if place == "inbox" else f"manifests/march{Path(name).suffix.lower()}")
    assert deployed.client("s3").get_object(Bucket="inbox", Key=key)["Body"].read() == GOOD[name]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["here", "inbox"])
def test_a_manifest_that_names_no_photo_is_one_clear_line(
    deployed: Deployed, tmp_path: Path, name: str, place: str
) -> None:
    content, said = BAD[name]
    given = put(deployed, tmp_path, name, content, place)

    with pytest.raises(UserError, match=said):
        checked_manifest(deployed, given, "march")


def test_a_manifest_that_is_nowhere_starts_nothing(deployed: Deployed) -> None:
    with pytest.raises(UserError, match=r"there is no file nofile\.csv here, and no s3://inbox/nofile\.csv"):
        checked_manifest(deployed, "nofile.csv", "march")


def test_an_inventory_lies_in_the_inbox(deployed: Deployed, tmp_path: Path) -> None:
    assert checked_manifest(deployed, put(deployed, tmp_path, "manifest.json", b"{}", "inbox"), "march")
    with pytest.raises(UserError, match="give its key in the inbox"):
        checked_manifest(deployed, put(deployed, tmp_path, "manifest.json", b"{}", "here"), "march")


def test_an_empty_prefix_is_said_and_not_run(deployed: Deployed) -> None:
    deployed.client("s3").put_object(Bucket="inbox", Key="backfill/1.jpg", Body=b"a photo")

    assert checked_prefix(deployed, None) == "backfill/"
    with pytest.raises(UserError, match="there is nothing under s3://inbox/elsewhere/"):
        checked_prefix(deployed, "elsewhere/")


@pytest.mark.parametrize("name", ["a b", "a/b", "a:b", "é", "", "x" * 81, "a*", "$(rm)", "a\n", "a#b"])
def test_a_name_that_step_functions_forbids_is_refused(deployed: Deployed, name: str) -> None:
    with pytest.raises(UserError, match="cannot name a batch"):
        Batch(deployed, name)


def put(deployed: Deployed, folder: Path, name: str, content: bytes, place: str) -> str:
    if place == "here":
        (folder / name).write_bytes(content)
        return str(folder / name)
    client: Any = deployed.client("s3")
    client.put_object(Bucket="inbox", Key=f"lists/{name}", Body=content)
    return f"lists/{name}"
