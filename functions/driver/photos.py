"""A driver's photos, which are in the driver's folder of the inbox, and their outcomes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec.structs import replace

from functions.decisions.decision import Decision, decision_of, plain_item, timestamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

LATEST = 20


class PhotosUnavailable(Exception):
    """S3 or DynamoDB did not answer; a retry may succeed."""


@dataclass(frozen=True)
class OwnPhoto:
    """A photo: its name in the driver's folder, the time of its upload, and its record once it has one."""

    name: str
    uploaded_at: datetime
    decision: Decision | None

    def outcome(self, reasons: dict[str, str]) -> dict[str, object]:
        """Return the outcome in the form of the API; `reasons` holds a sentence for each code.

        An outcome counts once it is announced: until then a person can undo a decision, and a run can be repeated.
        """
        found: dict[str, object] = {"id": self.name, "at": timestamp(self.uploaded_at), "status": "waiting"}
        decision = self.decision and _announced(self.decision)
        if decision is None or decision.status == "CLAIMED":
            return found
        found |= {"order": decision.order or ""}
        if decision.status == "FAILED":
            return found | {"status": "failed"}
        if decision.in_queue("OPEN"):
            return found | ({"status": "review"} if decision.reviewed_by else {})
        if decision.status == "REVIEW":
            return found | {"status": "review"}
        if decision.status == "ROUTED":
            box = decision.detection and decision.detection.box
            found |= {"status": "routed", "bay": decision.bay, "orders": decision.order_range}
            return found | ({"box": msgspec.to_builtins(box)} if box else {})
        code = decision.reason_code or ""
        return found | {"status": "retake", "reason_code": code, "message": reasons.get(code, reasons["OTHER"])}


def _announced(decision: Decision) -> Decision:
    """Return a decision as its driver knows it: an audit changes nothing until it is announced."""
    if not (decision.routed_as and decision.revision == 1 and decision.in_queue("OPEN")):
        return decision
    vehicle, bay, order_range = decision.routed_as.split(":")
    return replace(decision, status="ROUTED", vehicle=vehicle, bay=bay, order_range=order_range, queue=None)


@dataclass(frozen=True)
class OwnPhotos:
    """The uploads below `prefix` of a bucket, in one folder per driver, and the table of decisions."""

    s3: "S3Client"
    dynamodb: "DynamoDBClient"
    bucket: str
    prefix: str
    table: str

    def one(self, driver: str, name: str) -> OwnPhoto | None:
        """Return the driver's photo of this name, or None.

        Raises:
            PhotosUnavailable: S3 or DynamoDB did not answer.
        """
        key = f"{self.prefix}{driver}/{name}"
        listed = self._listed(Prefix=key, MaxKeys=1)
        return next(iter(self._read(each for each in listed if each["Key"] == key)), None)

    def since(self, driver: str, moment: str) -> list[OwnPhoto]:
        """Return the driver's latest photos, newest first; generated names begin with their time.

        Raises:
            PhotosUnavailable: S3 or DynamoDB did not answer.
        """
        folder = f"{self.prefix}{driver}/"
        listed = self._listed(Prefix=folder, StartAfter=folder + moment)
        return self._read(sorted(listed, key=lambda each: each["LastModified"], reverse=True)[:LATEST])

    def _listed(self, **which: Any) -> "list[ObjectTypeDef]":
        try:
            return self.s3.list_objects_v2(Bucket=self.bucket, **which).get("Contents", [])
        except (ClientError, BotoCoreError) as error:
            raise PhotosUnavailable("the photos cannot be listed now") from error

    def _read(self, objects: Iterable["ObjectTypeDef"]) -> list[OwnPhoto]:
        found = {f"s3://{self.bucket}/{each['Key']}#{each['ETag'].strip(chr(34))}": each for each in objects}
        if not found:
            return []
        keys = [{"photo": {"S": photo}} for photo in found]
        try:
            answer = self.dynamodb.batch_get_item(RequestItems={self.table: {"Keys": keys, "ConsistentRead": True}})
        except (ClientError, BotoCoreError) as error:
            raise PhotosUnavailable("the decisions cannot be read now") from error
        read = [decision_of(plain_item(item)) for item in answer["Responses"].get(self.table, [])]
        decisions = {each.photo: each for each in read if isinstance(each, Decision)}
        return [
            OwnPhoto(each["Key"].rpartition("/")[2], each["LastModified"], decisions.get(photo))
            for photo, each in found.items()
        ]
