"""Fetches from S3 exactly the photo that an event named."""

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
    """The bytes of a photo, the time of its upload, and its S3 metadata."""

    data: bytes
    uploaded_at: datetime
    metadata: Mapping[str, str]


def fetch_photo(
    s3: Any, bucket: str, key: str, *, version_id: str | None, etag: str | None, max_bytes: int
) -> StoredPhoto:
    """Read one object; an object that is too large is refused before its body is transferred.

    `key` is the raw key of the S3 event as EventBridge delivers it, never URL-decoded. Without a version, `etag`
    ensures that the object has not been overwritten.

    Raises:
        PhotoNotFound: the object is missing, or has been overwritten.
        PhotoTooLarge: it has more than `max_bytes`.
        StorageUnavailable: S3 did not answer, even after botocore's retries.
    """
    which: dict[str, str] = {}
    if version_id:
        which["VersionId"] = version_id
    elif etag:
        which["IfMatch"] = etag
    try:
        answer = s3.get_object(Bucket=bucket, Key=key, **which)
        with answer["Body"] as body:
            if answer["ContentLength"] > max_bytes:
                raise PhotoTooLarge(
                    f"the photo has {answer['ContentLength']:,} bytes, more than {max_bytes:,} are accepted"
                )
            return StoredPhoto(body.read(), answer["LastModified"], answer["Metadata"])
    except ClientError as error:
        raise _named(error, bucket, key) from error
    except BotoCoreError as error:
        raise StorageUnavailable(f"S3 did not answer: {error}") from error


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
