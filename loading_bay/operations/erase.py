"""Erases a driver: every photo below the driver's folder in the inbox, and everything that was kept because of it.

The decisions go last: they lead to everything in the other stores, so an erasure that broke off can be repeated.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from boto3.dynamodb.conditions import Attr, ConditionBase
from botocore.exceptions import ClientError

from functions.decisions.decision import Decision, SkippedDecision, decision_of, plain_item, separated, timestamp
from functions.decisions.reviews import LABELS
from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

from .replay import undelivered
from .review import file_name

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table
    from mypy_boto3_s3 import S3Client

GZIP = b"\x1f\x8b"
DAY = re.compile(r"/(\d{4}/\d\d/\d\d)/\d\d/[^/]+$")  # in the layout of SageMaker data capture
REVIEW_ID_LENGTH = 36
Names = Callable[[object], bool]
Deletion = Callable[[], object]


@dataclass(frozen=True)
class Receipt:
    """The number of things erased from each store, and the places that an erasure cannot reach. It names nobody."""

    stack: str
    erased_at: str
    erased: Mapping[str, int]
    out_of_reach: tuple[str, ...]


class _Version(NamedTuple):
    key: str
    id: str
    is_latest: bool
    is_marker: bool


class Erasure:
    """The erasure of one driver: of the first folder below the upload prefix."""

    def __init__(self, deployed: Deployed, driver: str, *, captures: str | None, exported: Iterable[Path]) -> None:
        """Find the driver's decisions.

        Args:
            deployed: the stack.
            driver: the name of the driver's folder.
            captures: folder or `s3://bucket/prefix` of the endpoint's captures, if there are any.
            exported: folders that `loading-bay review export` wrote.

        Raises:
            UserError: the name is not a folder's, or some of the photos are being classified or announced.
        """
        if not driver or "/" in driver:
            raise UserError(f"{driver!r} is not a driver: give the name of a folder below the upload prefix")
        self._deployed, self._captures, self._exported = deployed, captures, tuple(exported)
        self._inbox, self._s3 = deployed.outputs["InboxBucket"], deployed.client("s3")
        self._prefix = f"{deployed.parameters['UploadPrefix']}{driver}/"
        self._decisions, self._skipped = separated(self._records())
        self._claims = {each.claim for each in self._decisions if each.claim}
        if busy := sum(each.in_queue("OPEN") and each.status != "FAILED" for each in self._decisions):
            raise UserError(f"{busy} photos of this driver are being classified or announced: try again in ten minutes")

    def run(self, *, dry_run: bool) -> Receipt:
        """Erase everything, or only count it; returns the receipt.

        Raises:
            UserError: a photo was claimed or decided in the meantime.
        """
        stores = {
            "photo versions": self._photos(),
            "label versions": self._labels(),
            "captured requests": self._captured(),
            "batch files": self._batch_files(),
            "undelivered events": self._messages(),
            "exported photos": self._exports(),
            "decisions": self._records_to_delete(),
        }
        erased = {}
        for store, deletions in stores.items():
            erased[store] = 0
            for delete in deletions:
                erased[store] += 1
                if not dry_run:
                    delete()
        return Receipt(self._deployed.outputs["StackName"], timestamp(datetime.now(UTC)), erased, self._out_of_reach())

    def _records(self) -> Iterator[Decision | SkippedDecision]:
        pages = self._deployed.client("dynamodb").get_paginator("scan")
        for page in pages.paginate(
            TableName=self._deployed.outputs["DecisionsTable"],
            FilterExpression="begins_with(photo, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": f"s3://{self._inbox}/{self._prefix}"}},
            ConsistentRead=True,
        ):
            for item in page["Items"]:
                yield decision_of(plain_item(item))

    def _photos(self) -> Iterator[Deletion]:
        for version in _versions(self._s3, self._inbox, self._prefix):
            yield partial(self._s3.delete_object, Bucket=self._inbox, Key=version.key, VersionId=version.id)

    def _labels(self) -> Iterator[Deletion]:
        """Yield every copy that was kept of a claim, also copies that a correction replaced."""
        for version in _versions(self._s3, self._inbox, LABELS):
            name = version.key.rpartition("/")[2]
            if name[: -REVIEW_ID_LENGTH - 1] in self._claims:
                yield partial(self._s3.delete_object, Bucket=self._inbox, Key=version.key, VersionId=version.id)

    def _captured(self) -> Iterator[Deletion]:
        """Yield the captures that hold requests of these claims; a file's other records stay."""
        if self._captures is None or not self._claims:
            return
        if not self._captures.startswith("s3://"):
            for path in sorted(each for each in Path(self._captures).rglob("*") if each.is_file()):
                content = path.read_bytes() if self._may_hold(path.as_posix()) else b""
                if (left := _without(content, self._is_captured)) != content:
                    yield partial(_replace_file, path, left)
            return
        place = Address.parse(self._captures).folder
        yield from self._rewritten(place.bucket, place.prefix, self._is_captured, self._may_hold)

    def _batch_files(self) -> Iterator[Deletion]:
        for folder in ("batches/", "manifests/"):
            yield from self._rewritten(self._inbox, folder, self._is_named, lambda _: True)

    def _messages(self) -> Iterator[Deletion]:
        sqs, queue = self._deployed.client("sqs"), self._deployed.outputs["UndeliveredEventsQueue"]
        for message in undelivered(self._deployed):
            if self._is_named(message["Body"]):
                yield partial(sqs.delete_message, QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def _exports(self) -> Iterator[Deletion]:
        names = {file_name(each) for each in self._decisions}
        for folder in self._exported:
            for path in sorted(folder.rglob("*")):
                if path.name in names:
                    yield path.unlink

    def _records_to_delete(self) -> Iterator[Deletion]:
        resource = self._deployed.session.resource("dynamodb", endpoint_url=self._deployed.endpoint_url)
        table = resource.Table(self._deployed.outputs["DecisionsTable"])
        for damaged in self._skipped:
            yield partial(table.delete_item, Key={"photo": damaged.photo})
        for decision in self._decisions:
            yield partial(_delete_unchanged, table, decision)

    def _rewritten(self, bucket: str, prefix: str, names: Names, may_hold: Callable[[str], bool]) -> Iterator[Deletion]:
        """Yield the replacement of each version of an object that has entries to drop."""
        for version in _versions(self._s3, bucket, prefix):
            if not version.is_marker and may_hold(version.key):
                body = self._s3.get_object(Bucket=bucket, Key=version.key, VersionId=version.id)["Body"].read()
                if (left := _without(body, names)) != body:
                    yield partial(_replace_version, self._s3, bucket, version, left)

    def _is_captured(self, record: object) -> bool:
        metadata = record.get("eventMetadata") if isinstance(record, dict) else None
        return isinstance(metadata, dict) and metadata.get("inferenceId") in self._claims

    def _is_named(self, value: object) -> bool:
        """Whether a value names one of the driver's photos; a text may itself be JSON."""
        if isinstance(value, dict):
            return any(map(self._is_named, value.values()))
        if isinstance(value, list):
            return any(map(self._is_named, value))
        if not isinstance(value, str):
            return False
        return self._prefix in value or ((inner := _parsed(value)) != value and self._is_named(inner))

    def _may_hold(self, name: str) -> bool:
        """Whether captures in this file may be of the days on which the photos were classified."""
        around = (each.claimed_at + timedelta(days=days) for each in self._decisions for days in (-1, 0, 1))
        day = DAY.search(name)
        return day is None or day[1] in {f"{each:%Y/%m/%d}" for each in around}

    def _out_of_reach(self) -> tuple[str, ...]:
        days = self._deployed.parameters["LogRetentionDays"]
        captures = () if self._captures else ("captures, which were left out",)
        return (
            *captures,
            "histories of executions, which AWS keeps for 90 days",
            f"logs, for {days} days; they name photos and hold no pictures",
            "backups of the decisions table, for 35 days",
            "undelivered events that the queue held back just then",
            "captures of earlier tries of a photo that failed, which no record names",
            "events and mails that were sent, and reports, exports and caches on other machines",
            f"the driver's sign-in; {self._deployed.command('drivers', 'remove', 'NAME')} revokes it",
        )


def _versions(s3: "S3Client", bucket: str, prefix: str) -> Iterator[_Version]:
    """Yield every version of every object under a prefix, and every delete marker."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for version in page.get("Versions", []):
            yield _Version(version["Key"], version["VersionId"], version["IsLatest"], is_marker=False)
        for marker in page.get("DeleteMarkers", []):
            yield _Version(marker["Key"], marker["VersionId"], marker["IsLatest"], is_marker=True)


def _replace_version(s3: "S3Client", bucket: str, version: _Version, left: bytes) -> None:
    """Write the rest of a current version as a new one; then delete the old version, unless it was overwritten."""
    if version.is_latest and left and "VersionId" not in s3.put_object(Bucket=bucket, Key=version.key, Body=left):
        return
    s3.delete_object(Bucket=bucket, Key=version.key, VersionId=version.id)


def _replace_file(path: Path, left: bytes) -> None:
    """Replace a file by its rest, atomically; delete it if nothing is left."""
    if not left:
        path.unlink()
        return
    beside = path.with_suffix(".erasing")
    beside.write_bytes(left)
    beside.replace(path)


def _delete_unchanged(table: "Table", decision: Decision) -> None:
    """Delete a decision, unless the photo was claimed or decided since the decision was read.

    Raises:
        UserError: it was.
    """
    when: ConditionBase = ~Attr("queue").begins_with("OPEN#") | Attr("status").eq("FAILED")
    for name, value in (("claim", decision.claim), ("review_id", decision.review_id)):
        when &= Attr(name).not_exists() if value is None else Attr(name).eq(value)
    try:
        table.delete_item(Key={"photo": decision.photo}, ConditionExpression=when)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        raise UserError("a photo was claimed or decided in the meantime: run the same command again") from error


def _without(content: bytes, drop: Names) -> bytes:
    """Return a JSON list, or JSON Lines, without the entries to drop; it may be compressed."""
    if content.startswith(GZIP):
        plain = gzip.decompress(content)
        left = _without(plain, drop)
        return content if left == plain else gzip.compress(left) if left else b""
    whole = _parsed(content)
    if isinstance(whole, list):
        kept = [entry for entry in whole if not drop(entry)]
        return content if len(kept) == len(whole) else json.dumps(kept, ensure_ascii=False).encode()
    return b"".join(line for line in content.splitlines(keepends=True) if not drop(_parsed(line)))


def _parsed(text: str | bytes) -> object:
    """Return the value of a JSON text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text if isinstance(text, str) else text.decode(errors="replace")
