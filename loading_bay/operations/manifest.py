"""What a batch is to classify, checked before anything starts: a prefix of the inbox, or a manifest."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError, is_missing

# As much of a manifest as its header and its first photo may take.
HEAD_BYTES = 65_536
INVENTORY = re.compile(r"(^|/)manifest\.json$")


def checked_prefix(deployed: Deployed, prefix: str | None) -> str:
    """Return the prefix, or the stack's own, if there are photos under it.

    Raises:
        UserError: there are none.
    """
    prefix = deployed.parameters["BatchPrefix"] if prefix is None else prefix
    inbox = deployed.outputs["InboxBucket"]
    if not deployed.client("s3").list_objects_v2(Bucket=inbox, Prefix=prefix, MaxKeys=1).get("Contents"):
        raise UserError(f"there is nothing under s3://{inbox}/{prefix}: upload photos there or give another --prefix")
    return prefix


def checked_manifest(deployed: Deployed, manifest: str, batch: str) -> str:
    """Return the key of a manifest in the inbox; a file of this machine is put there first, under the batch's name.

    Raises:
        UserError: there is no such file or object, or its beginning is not a manifest's.
    """
    path = Path(manifest)
    if not path.is_file():
        _check(manifest, _head(deployed, manifest))
        return manifest
    if INVENTORY.search(path.name):
        raise UserError("the manifest.json of an S3 Inventory names files beside it: give its key in the inbox")
    content = path.read_bytes()
    _check(manifest, content[:HEAD_BYTES])
    return put_manifest(deployed, f"{batch}{path.suffix.lower()}", content)


def put_manifest(deployed: Deployed, name: str, content: bytes) -> str:
    """Put a manifest into the inbox, outside the upload prefix; returns its key."""
    key = f"manifests/{name}"
    deployed.client("s3").put_object(Bucket=deployed.outputs["InboxBucket"], Key=key, Body=content)
    return key


def _head(deployed: Deployed, key: str) -> bytes:
    inbox = deployed.outputs["InboxBucket"]
    try:
        answer = deployed.client("s3").get_object(Bucket=inbox, Key=key, Range=f"bytes=0-{HEAD_BYTES - 1}")
    except ClientError as error:
        if is_missing(error):
            raise UserError(f"there is no file {key} here, and no s3://{inbox}/{key}") from error
        if error.response["Error"]["Code"] == "InvalidRange":
            return b""
        raise
    return bytes(answer["Body"].read())


def _check(name: str, head: bytes) -> None:
    """Look at a manifest's first lines.

    Raises:
        UserError: no photo could be read from it; the message says what to change.
    """
    kind = Path(name).suffix.lower()
    if INVENTORY.search(name):
        return
    if kind not in {".csv", ".jsonl"}:
        raise UserError(
            f"{name} is neither .csv (with a header) nor .jsonl: give one of them, with the s3_key of each photo"
        )
    if head.startswith(b"\xef\xbb\xbf"):
        raise UserError(f"{name} begins with a byte-order mark: save it as plain UTF-8 (in Excel: CSV, not CSV UTF-8)")
    text = head.decode(errors="replace")
    if not text.strip():
        raise UserError(f"{name} is empty: put one photo on each line, by its s3_key")
    first = text.splitlines()[0]
    if kind == ".csv":
        _check_header(name, first)
    elif not _names_a_photo(first):
        raise UserError(f'{name} does not begin with a photo: each line should be like {{"s3_key": "backfill/1.jpg"}}')


def _check_header(name: str, line: str) -> None:
    columns = next(csv.reader([line]))
    if "s3_key" in columns:
        return
    if "s3_key" in next(csv.reader([line], delimiter=";")):
        raise UserError(f"{name} separates its columns by semicolons: save it with commas")
    raise UserError(f"{name} has no column s3_key; its first line should name the columns, not {line[:60]!r}")


def _names_a_photo(line: str) -> bool:
    try:
        photo: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(photo, dict) and isinstance(photo.get("s3_key"), str)
