"""A batch's prefix or manifest is checked before anything starts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from loading_bay.operations.batch import Batch
from loading_bay.operations.manifest import checked_keys, checked_manifest, checked_prefix
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError


@pytest.fixture
def deployed() -> Iterator[Deployed]:
    with mock_aws():
        session = boto3.Session()
        session.client("s3").create_bucket(Bucket="inbox")
        outputs = {"InboxBucket": "inbox", "BatchStateMachineArn": "arn:aws:states:::stateMachine:batch"}
        yield Deployed(session, outputs, {"BatchPrefix": "backfill/"})


ONE = [{"s3_key": "backfill/1.jpg"}]
GOOD: dict[str, tuple[bytes, list[dict[str, str]]]] = {
    "photos.csv": (b"driver,s3_key\r\nAnn,backfill/1.jpg\r\n", ONE),
    "PHOTOS.CSV": (b'"s3_key","driver"\n"backfill/1, 2.jpg",Ann\n', [{"s3_key": "backfill/1, 2.jpg"}]),
    "padded.csv": (b" driver , s3_key , etag \nAnn , backfill/1.jpg , \n", ONE),
    "excel.csv": (b"\xef\xbb\xbfs3_key\nbackfill/1.jpg\n", ONE),
    "mac.csv": (b"s3_key\rbackfill/1.jpg\r", ONE),
    "uris.csv": (b"s3_key\ns3://inbox/backfill/1.jpg\n", [{"s3_key": "backfill/1.jpg", "s3_bucket": "inbox"}]),
    "photos.jsonl": (b'{"s3_key": "backfill/1.jpg"}\n', ONE),
    "mac.jsonl": (b'{"s3_key": "backfill/1.jpg"}\r', ONE),
    "excel.jsonl": (b'\xef\xbb\xbf{"s3_key": "backfill/1.jpg"}\n', ONE),
}
BAD = {
    "semicolons.csv": (b"driver;s3_key\nAnn;backfill/1.jpg\n", "separates its columns by semicolons"),
    "tabs.csv": (b"driver\ts3_key\nAnn\tbackfill/1.jpg\n", "separates its columns by semicolons or tabs"),
    "headless.csv": (b"backfill/1.jpg\nbackfill/2.jpg\n", "is missing the column s3_key"),
    "other.csv": (b"key\nbackfill/1.jpg\n", "is missing the column s3_key"),
    "header.csv": (b"s3_key\n", "has a header but no photos"),
    "gap.csv": (b"s3_key,driver\nbackfill/1.jpg,Ann\n,Bob\n", "line 3: s3_key must be a key"),
    "latin.csv": ("s3_key\nbackfill/ü.jpg\n".encode("latin-1"), "line 2, is not UTF-8"),
    "powershell.csv": ("s3_key\nbackfill/1.jpg\n".encode("utf-16"), "is UTF-16"),
    "bare.csv": ("s3_key\nbackfill/1.jpg\n".encode("utf-16-le"), "is UTF-16"),
    "bucket.csv": (b"s3_key\ns3://inbox/\n", "line 2: s3://inbox/ names a bucket"),
    "other-bucket.csv": (b"s3_key\ns3://archive/1.jpg\n", "1.jpg is in the bucket archive"),
    "other-bucket.jsonl": (b'{"s3_bucket": "archive", "s3_key": "1.jpg"}\n', "1.jpg is in the bucket archive"),
    "empty.csv": (b"\n", "is empty"),
    "empty.jsonl": (b"", "is empty"),
    "list.jsonl": (b'[{"s3_key": "backfill/1.jpg"}]\n', "line 1: write each photo like"),
    "text.jsonl": (b"backfill/1.jpg\n", "line 1, is not JSON"),
    "number.jsonl": (b'{"s3_key": "backfill/1.jpg"}\n{"s3_key": 7}\n', "line 2: s3_key must be a key"),
    "photos.xlsx": (b"PK\x03\x04", "neither .csv"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("place", ["here", "inbox"])
def test_a_manifest_with_photos_is_accepted(deployed: Deployed, tmp_path: Path, name: str, place: str) -> None:
    content, photos = GOOD[name]
    given = put(deployed, tmp_path, name, content, place)

    key = checked_manifest(deployed, given, "march")

    assert key == "manifests/march.jsonl"
    taken = deployed.client("s3").get_object(Bucket="inbox", Key=key)["Body"].read().decode()
    assert [json.loads(line) for line in taken.splitlines()] == photos


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", ["here", "inbox"])
def test_a_manifest_without_photos_is_one_clear_line(deployed: Deployed, tmp_path: Path, name: str, place: str) -> None:
    content, said = BAD[name]
    given = put(deployed, tmp_path, name, content, place)

    with pytest.raises(UserError, match=said):
        checked_manifest(deployed, given, "march")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "s3_key must be a key"),
        ("é" * 513, "s3_key must be a key"),
        ("s3://inbox", "names a bucket"),
        ("s3://archive/1.jpg", "is in the bucket archive"),
    ],
)
def test_a_key_that_names_no_photo_of_the_inbox_is_one_clear_line(deployed: Deployed, key: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        checked_keys(deployed, ["backfill/1.jpg", key])


def test_a_missing_manifest_starts_nothing(deployed: Deployed) -> None:
    with pytest.raises(UserError, match=r"neither a file nofile\.csv nor s3://inbox/nofile\.csv exists"):
        checked_manifest(deployed, "nofile.csv", "march")


def test_an_inventory_must_be_in_the_inbox(deployed: Deployed, tmp_path: Path) -> None:
    assert checked_manifest(deployed, put(deployed, tmp_path, "manifest.json", b"{}", "inbox"), "march")
    with pytest.raises(UserError, match="give its key in the inbox"):
        checked_manifest(deployed, put(deployed, tmp_path, "manifest.json", b"{}", "here"), "march")


def test_an_empty_prefix_is_reported_and_not_run(deployed: Deployed) -> None:
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
