"""Starts batches of photos, follows them, and retries their failed photos."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from botocore.exceptions import ClientError

from functions.decisions.decision import SHARDS, STATUSES, Decision, Status, plain_item
from functions.decisions.table import DecisionsTable
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

from .manifest import put_manifest

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import QueryOutputTypeDef
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import DescribeExecutionOutputTypeDef, ExecutionListItemTypeDef

# Step Functions takes it as an execution's name, S3 as part of a key, and a shell as one word.
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
UNFINISHED: tuple[Status, ...] = ("FAILED", "CLAIMED")
# The errors that end the workflow of a photo that was not routed; any other error left no record.
ENDS = ("ClassificationFailed", "LowConfidence", "PhotoRejected")


@dataclass(frozen=True)
class BatchProgress:
    """The progress of a batch: the photos in it, those finished, and the number of records by status."""

    photos: int
    done: int
    by_status: Mapping[str, int]


class Batch:
    """One run of ClassifyBatch, known by its name."""

    def __init__(self, deployed: Deployed, name: str) -> None:
        if not NAME.fullmatch(name):
            raise UserError(f"{name} cannot name a batch: use 1 to 80 letters, digits, hyphens and underscores")
        self.name = name
        self.unnamed: list[object] = []  # its manifest's rows without a photo, filled by `failed_photos`
        self._deployed = deployed
        self._sfn: SFNClient = deployed.client("stepfunctions")
        self._dynamodb = deployed.client("dynamodb")
        machine = deployed.outputs["BatchStateMachineArn"]
        self._arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"

    @classmethod
    def start(
        cls,
        deployed: Deployed,
        *,
        prefix: str | None = None,
        manifest: str | None = None,
        max_concurrency: int | None = None,
        name: str | None = None,
    ) -> "Batch":
        """Start a batch over a prefix of the inbox or a manifest in it.

        Raises:
            UserError: another batch has this name.
        """
        given = {"prefix": prefix, "manifest": manifest, "max_concurrency": max_concurrency}
        batch = cls(deployed, name or new_name())
        try:
            batch._sfn.start_execution(
                stateMachineArn=deployed.outputs["BatchStateMachineArn"],
                name=batch.name,
                input=json.dumps({key: value for key, value in given.items() if value is not None}),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionAlreadyExists":
                raise UserError(f"there is already a batch {batch.name}; choose another name") from error
            raise
        return batch

    def command(self, name: str, *options: str) -> str:
        """Return the command line of another subcommand for this batch."""
        return self._deployed.command("batch", name, self.name, *options)

    def status(self) -> str:
        """Return RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED.

        Raises:
            UserError: no batch has this name.
        """
        return str(self._describe()["status"])

    def progress(self) -> BatchProgress:
        """Count the photos; the totals are exact, the counts by status lag by a moment."""
        runs = self._sfn.list_map_runs(executionArn=self._arn)["mapRuns"]
        if not runs:
            return BatchProgress(0, 0, {})
        items = self._sfn.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"]
        done = items["total"] - items["pending"] - items["running"]
        return BatchProgress(items["total"], done, {status: self._count(status) for status in STATUSES})

    def summary(self) -> dict[str, Any]:
        """Return the summary that the finished batch recorded.

        Raises:
            UserError: the batch ended without a summary; the message gives the cause.
        """
        key = {"batch_id": {"S": self.name}}
        item = self._dynamodb.get_item(
            TableName=self._deployed.outputs["BatchesTable"], Key=key, ConsistentRead=True
        ).get("Item")
        if not item:
            described = self._describe()
            raise UserError(f"batch {self.name} {described['status']}: {described.get('cause', 'no cause given')}")
        return {name: value for name, value in plain_item(item).items() if name != "expires_at"}

    def rejected(self) -> Iterator[Decision]:
        """Yield the photos that were rejected, each with its reason."""
        table = DecisionsTable(self._dynamodb, self._deployed.outputs["DecisionsTable"])
        for page in self._pages("REJECTED"):
            yield from table.named([item["photo"]["S"] for item in page["Items"]])

    def failed_photos(self) -> Iterator[dict[str, str]]:
        """Yield the photos that failed or never ran, in the form of manifest rows."""
        for status in UNFINISHED:
            for page in self._pages(status):
                for item in page["Items"]:
                    names = [name for name in ("s3_bucket", "s3_key", "etag") if name in item]
                    yield {name: item[name]["S"] for name in names}
        for given in self._never_run():
            photo = _photo_of(given)
            if photo:
                yield photo
            else:
                self.unnamed.append(given.get("item"))

    def _never_run(self) -> Iterator[dict[str, Any]]:
        """Yield the inputs whose workflow never ended; only the Map run's results list them."""
        s3, bucket = self._deployed.client("s3"), self._deployed.outputs["InboxBucket"]

        def read(key: str) -> Any:
            return json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"batches/{self.name}/")
        written = [each["Key"] for page in pages for each in page.get("Contents", [])]
        for manifest in [key for key in written if key.endswith("/manifest.json")]:
            files = read(manifest)["ResultFiles"]
            for file in [*files.get("FAILED", []), *files.get("PENDING", [])]:
                for result in read(file["Key"]):
                    if not any(name in f"{result.get('Error')} {result.get('Cause')}" for name in ENDS):
                        yield json.loads(result["Input"])

    def retry(self, name: str | None = None) -> "Batch | None":
        """Start a batch of only the photos that failed in this one; return None if nothing failed.

        Rows without a photo are left in `unnamed`.

        Raises:
            UserError: no batch has this name.
        """
        self._describe()
        photos = list(self.failed_photos())
        if not photos:
            return None
        name = name or new_name()
        manifest = put_manifest(self._deployed, name, photos)
        return Batch.start(self._deployed, manifest=manifest, name=name)

    def _describe(self) -> "DescribeExecutionOutputTypeDef":
        try:
            return self._sfn.describe_execution(executionArn=self._arn)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ExecutionDoesNotExist":
                raise UserError(
                    f"batch {self.name} does not exist; see {self._deployed.command('batch', 'list')}"
                ) from error
            raise

    def _count(self, status: Status) -> int:
        return sum(page["Count"] for page in self._pages(status, Select="COUNT"))

    def _pages(self, status: Status, **options: str) -> Iterator["QueryOutputTypeDef"]:
        with ThreadPoolExecutor(len(SHARDS)) as pool:
            for pages in pool.map(lambda shard: list(self._shard(shard, status, options)), SHARDS):
                yield from pages

    def _shard(self, shard: str, status: Status, options: Mapping[str, str]) -> Any:
        return self._dynamodb.get_paginator("query").paginate(
            TableName=self._deployed.outputs["DecisionsTable"],
            IndexName="by_batch",
            KeyConditionExpression="batch_shard = :shard AND #status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":shard": {"S": f"{self.name}#{shard}"}, ":status": {"S": status}},
            **options,
        )


def _photo_of(given: Mapping[str, object]) -> dict[str, str] | None:
    """Return the photo in a child workflow's input as a manifest row, or None if the input does not name a photo.

    A listing has `Key`, an inventory also `Bucket` and a URL-encoded key, a manifest `s3_key`.
    """
    item = given.get("item")
    if not isinstance(item, dict):
        return None
    key = item.get("s3_key") or item.get("Key")
    if not isinstance(key, str):
        return None
    named = {
        "s3_bucket": item.get("s3_bucket") or item.get("Bucket"),
        "s3_key": unquote_plus(key) if "Bucket" in item else key,
        "etag": next((str(item[name]).strip('"') for name in ("etag", "ETag", "Etag") if item.get(name)), ""),
        "version_id": item.get("version_id") or item.get("VersionId"),
    }
    return {name: value for name, value in named.items() if value}


def recent_batches(deployed: Deployed) -> Iterator[tuple["ExecutionListItemTypeDef", dict[str, Any] | None]]:
    """Yield the last hundred batches, newest first: each execution, and its summary once it has one."""
    machine, table = deployed.outputs["BatchStateMachineArn"], deployed.outputs["BatchesTable"]
    executions = deployed.client("stepfunctions").list_executions(stateMachineArn=machine, maxResults=100)["executions"]
    dynamodb = deployed.client("dynamodb")
    for execution in executions:
        item = dynamodb.get_item(TableName=table, Key={"batch_id": {"S": execution["name"]}}).get("Item")
        yield execution, plain_item(item) if item else None


def new_name() -> str:
    """Return a name that sorts by time and that no other batch has."""
    return f"batch-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000:06d}"
