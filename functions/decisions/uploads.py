"""Signs the upload of one photo, of bounded size and type, below its driver's folder, and nothing else.

This is a presigned POST: its policy is signed, and S3 refuses any upload that violates it.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The content types that the photo reader accepts, with their suffixes.
CONTENT_TYPES = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/avif": "avif",
}
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a driver or an order
# Buckets with a KMS key take no older signature; the global host, which boto3 signs otherwise, redirects uploads.
SIGNING: dict[str, Any] = {"signature_version": "s3v4", "s3": {"addressing_style": "virtual"}}


class InvalidUpload(Exception):
    """This upload is not signed: the driver, the order or the content type is not valid."""


@dataclass(frozen=True)
class PresignedUpload:
    """The address and the form fields for posting one photo, and its future key."""

    url: str
    fields: dict[str, str]
    key: str
    expires_at: str


def sign_upload(
    s3: "S3Client",
    bucket: str,
    prefix: str,
    driver: str,
    content_type: str,
    *,
    order: str | None,
    max_bytes: int,
    seconds: int,
) -> PresignedUpload:
    """Sign an upload of 1 to `max_bytes` bytes to a new key under `prefix` and `driver`, valid for so many seconds.

    The client's configuration holds `SIGNING`.

    Anyone who has the signed upload can repeat it until it expires, and so replace this photo, but not another one.
    Keys sort by time.

    Raises:
        InvalidUpload: a name could lead out of the driver's folder, or the content type is not accepted.
    """
    if not NAME.fullmatch(driver):
        raise InvalidUpload(f"{driver!r} is not a driver's name: use 1 to 64 letters, digits, underscores and hyphens")
    if order is not None and not NAME.fullmatch(order):
        raise InvalidUpload(f"{order!r} is not an order: use 1 to 64 letters, digits, underscores and hyphens")
    if content_type not in CONTENT_TYPES:
        raise InvalidUpload(f"{content_type} is not accepted: choose one of {', '.join(CONTENT_TYPES)}")
    now = datetime.now(UTC)
    key = f"{prefix}{driver}/{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4()}.{CONTENT_TYPES[content_type]}"
    fields = {"Content-Type": content_type} | ({"x-amz-meta-order": order} if order else {})
    signed = s3.generate_presigned_post(
        bucket,
        key,
        Fields=fields,
        Conditions=[*({name: value} for name, value in fields.items()), ["content-length-range", 1, max_bytes]],
        ExpiresIn=seconds,
    )
    expires_at = (now + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    return PresignedUpload(signed["url"], signed["fields"], key, expires_at)
