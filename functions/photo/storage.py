"""Reads from S3 exactly the photo that an event named."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .errors import PhotoNotFound, PhotoTooLarge, StorageUnavailable

GONE = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "MethodNotAllowed", "404"}
REPLACED = {"PreconditionFailed", "412"}
ARCHIVED = {"InvalidObjectState"}


@dataclass(frozen=True)
class StoredPhoto:
    """A photo in S3: its size in bytes, the time of its upload, and its metadata."""

    size: int
    uploaded_at: datetime
    metadata: Mapping[str, str]
    body: Any

    def read(self, max_bytes: int) -> bytes:
        """Return the photo's bytes, once; a photo that is too large is refused before its transfer.

        Raises:
            PhotoTooLarge: it has more than `max_bytes`.
            StorageUnavailable: the transfer broke off.
        """
        with self.body:
            if self.size > max_bytes:
                raise PhotoTooLarge(f"the photo has {self.size:,} bytes, more than {max_bytes:,} are accepted")
            try:
                data: bytes = self.body.read()
            except BotoCoreError as error:
                raise _silent(error) from error
            return data


def open_photo(s3: Any, bucket: str, key: str, *, version_id: str | None, etag: str | None) -> StoredPhoto:
    """Find one object, whose body is not yet transferred.

    `key` is the raw key of the S3 event as EventBridge delivers it, never URL-decoded. Without a version, `etag`
    ensures that the object has not been overwritten.

    Raises:
        PhotoNotFound: the object is missing, or has been overwritten.
        StorageUnavailable: S3 did not answer, even after botocore's retries.
    """
    which: dict[str, str] = {}
    if version_id:
        which["VersionId"] = version_id
    elif etag:
        which["IfMatch"] = etag
    try:
        answer = s3.get_object(Bucket=bucket, Key=key, **which)
    except ClientError as error:
        raise _named(error, bucket, key) from error
    except BotoCoreError as error:
        raise _silent(error) from error
    return StoredPhoto(answer["ContentLength"], answer["LastModified"], answer["Metadata"], answer["Body"])


def _silent(error: BotoCoreError) -> StorageUnavailable:
    return StorageUnavailable(f"S3 did not answer: {error}")


def _named(error: ClientError, bucket: str, key: str) -> Exception:
    code = error.response["Error"]["Code"]
    if code in GONE:
        return PhotoNotFound(f"s3://{bucket}/{key} no longer exists")
    if code in REPLACED:
        return PhotoNotFound(f"s3://{bucket}/{key} was overwritten before it could be read")
    if code in ARCHIVED:
        return PhotoNotFound(f"s3://{bucket}/{key} is archived; restore it and upload it again")
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or code == "SlowDown":
        return StorageUnavailable(f"S3 answered {code}")
    return error
