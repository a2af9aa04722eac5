"""The photos of a batch, checked before anything starts: a prefix of the inbox, or a manifest."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError, is_missing

COLUMNS = ("s3_key", "s3_bucket", "etag", "version_id")
LONGEST_KEY = 1024  # bytes
PhotoInput = dict[str, Any]
INVENTORY = re.compile(r"(^|/)manifest\.json$")


def checked_prefix(deployed: Deployed, prefix: str | None) -> str:
    """Return the prefix, by default the stack's, if it has photos.

    Raises:
        UserError: the prefix is empty.
    """
    prefix = deployed.parameters["BatchPrefix"] if prefix is None else prefix
    inbox = deployed.outputs["InboxBucket"]
    if not deployed.client("s3").list_objects_v2(Bucket=inbox, Prefix=prefix, MaxKeys=1).get("Contents"):
        raise UserError(f"there is nothing under s3://{inbox}/{prefix}: upload photos there or give another --prefix")
    return prefix


def checked_manifest(deployed: Deployed, manifest: str, batch: str) -> str:
    """Return the key of a manifest in the inbox that ClassifyBatch can read.

    A CSV or JSON Lines file, local or in the inbox, is first converted to JSON Lines and uploaded under the
    batch's name.

    Raises:
        UserError: the file or object is missing, or does not name photos; the message gives the remedy.
    """
    path = Path(manifest)
    here = path.is_file()
    if INVENTORY.search(path.name):
        if here:
            raise UserError("the manifest.json of an S3 Inventory refers to other files: give its key in the inbox")
        _read(deployed, manifest, 1)
        return manifest
    kind = path.suffix.lower()
    if kind not in READERS:
        raise UserError(
            f"{manifest} is neither .csv (with a header) nor .jsonl: give one of them, with the s3_key of each photo"
        )
    content = path.read_bytes() if here else _read(deployed, manifest)
    return put_manifest(deployed, batch, in_inbox(deployed, READERS[kind](manifest, _decoded(manifest, content))))


def checked_keys(deployed: Deployed, keys: Iterable[str]) -> list[PhotoInput]:
    """Return the photos with these keys, or names such as `s3://BUCKET/KEY`.

    Raises:
        UserError: one is not the name of a photo in the inbox.
    """
    return in_inbox(deployed, [_checked("KEYS", number, {"s3_key": key}) for number, key in enumerate(keys, 1)])


def in_inbox(deployed: Deployed, photos: list[PhotoInput]) -> list[PhotoInput]:
    """Return the photos.

    Raises:
        UserError: one is in another bucket.
    """
    inbox = deployed.outputs["InboxBucket"]
    for photo in photos:
        bucket = photo.get("s3_bucket") or inbox
        if bucket != inbox:
            raise UserError(f"{photo['s3_key']} is in the bucket {bucket}; a batch takes photos of the inbox {inbox}")
    return photos


def put_manifest(deployed: Deployed, batch: str, photos: Iterable[PhotoInput]) -> str:
    """Upload a manifest of these photos to the inbox, outside the upload prefix, and return its key."""
    key = f"manifests/{batch}.jsonl"
    lines = "".join(f"{json.dumps(photo, ensure_ascii=False)}\n" for photo in photos)
    deployed.client("s3").put_object(Bucket=deployed.outputs["InboxBucket"], Key=key, Body=lines.encode())
    return key


def _read(deployed: Deployed, key: str, most: int | None = None) -> bytes:
    """Return an object in the inbox, or its first `most` bytes."""
    inbox = deployed.outputs["InboxBucket"]
    part = {"Range": f"bytes=0-{most - 1}"} if most else {}
    try:
        return bytes(deployed.client("s3").get_object(Bucket=inbox, Key=key, **part)["Body"].read())
    except ClientError as error:
        if is_missing(error):
            raise UserError(f"neither a file {key} nor s3://{inbox}/{key} exists") from error
        if error.response["Error"]["Code"] == "InvalidRange":
            raise UserError(f"{key} is empty") from error
        raise


def _decoded(name: str, content: bytes) -> str:
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\0" in content:
        raise UserError(f"{name} is UTF-16, like files from PowerShell and Unicode text from Excel: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{name}, line {line}, is not UTF-8: save the file as UTF-8") from error
    if not text.strip():
        raise UserError(f"{name} is empty: put the s3_key of one photo on each line")
    return text


def _from_csv(name: str, text: str) -> list[PhotoInput]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    photos = []
    try:
        columns = [column.strip() for column in rows.fieldnames or []]
        if "s3_key" not in columns:
            raise UserError(_without_key(name, text.splitlines()[0]))
        rows.fieldnames = columns
        for row in rows:
            named = {column: (row[column] or "").strip() for column in COLUMNS if column in columns}
            photos.append(_checked(name, rows.line_num, {column: value for column, value in named.items() if value}))
    except csv.Error as error:
        raise UserError(f"{name}, line {rows.line_num}: {error}") from error
    if not photos:
        raise UserError(f"{name} has a header but no photos below it")
    return photos


def _without_key(name: str, header: str) -> str:
    if "s3_key" in re.split(r"[;\t]", header):
        return f"{name} separates its columns by semicolons or tabs: save it with commas"
    return f"{name} is missing the column s3_key; its first line should name the columns, not {header[:60]!r}"


def _from_json_lines(name: str, text: str) -> list[PhotoInput]:
    photos = []
    for number, line in enumerate(re.split(r"\r\n?|\n", text), 1):
        if not line.strip():
            continue
        try:
            photo = json.loads(line)
        except ValueError as error:
            raise UserError(f"{name}, line {number}, is not JSON: {line[:60]!r}") from error
        if not isinstance(photo, dict):
            raise UserError(f'{name}, line {number}: write each photo like {{"s3_key": "backfill/1.jpg"}}')
        photos.append(_checked(name, number, photo))
    return photos


def _checked(name: str, number: int, photo: PhotoInput) -> PhotoInput:
    """Return one photo of a manifest.

    Raises:
        UserError: the entry does not name a photo; the message gives its line number.
    """
    key = photo.get("s3_key")
    if not isinstance(key, str) or not 0 < len(key.encode()) <= LONGEST_KEY:
        raise UserError(f"{name}, line {number}: s3_key must be a key of 1 to {LONGEST_KEY} bytes, not {key!r}"[:200])
    if not key.startswith("s3://"):
        return photo
    place = Address.parse(key)
    if not place.prefix:
        raise UserError(f"{name}, line {number}: {key} names a bucket, not a photo")
    return photo | {"s3_bucket": place.bucket, "s3_key": place.prefix}


READERS: dict[str, Callable[[str, str], list[PhotoInput]]] = {".csv": _from_csv, ".jsonl": _from_json_lines}
