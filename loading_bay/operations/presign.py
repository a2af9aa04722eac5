"""Lets an app upload one photo of limited size and type under its driver's prefix, and nothing else.

This is a presigned POST: its policy is signed, and S3 refuses any upload that violates it.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import re
import shlex
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

# The content types that the photo reader accepts, with their suffixes.
CONTENT_TYPES = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/avif": "avif",
}
DRIVER = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class PresignedUpload:
    """The address and form fields for posting one photo, and the photo's key."""

    url: str
    fields: dict[str, str]
    key: str
    expires_at: str


def presign_upload(
    deployed: Deployed, driver: str, content_type: str, *, max_bytes: int | None = None, seconds: int = 300
) -> PresignedUpload:
    """Sign an upload of one photo to a new key under the driver's prefix, valid for `seconds`.

    The photo may have 1 to `max_bytes` bytes, by default the stack's limit.

    Anyone who has the signed upload can repeat it until it expires, and so replace this photo, but not another one.

    Raises:
        UserError: the driver's name could lead out of the driver's prefix, or the content type is not accepted.
    """
    if not DRIVER.fullmatch(driver):
        raise UserError(f"{driver!r} is not a driver's name: use 1 to 64 letters, digits, underscores and hyphens")
    if content_type not in CONTENT_TYPES:
        raise UserError(f"{content_type} is not accepted: choose one of {', '.join(CONTENT_TYPES)}")
    inbox = Address.parse(deployed.outputs["UploadUri"])
    key = f"{inbox.prefix}{driver}/{uuid.uuid4()}.{CONTENT_TYPES[content_type]}"
    # Buckets with a KMS key require version 4. By default, boto3 signs for the global host, which redirects uploads.
    s3 = deployed.client("s3", signature_version="s3v4", s3={"addressing_style": "virtual"})
    most = max_bytes or int(deployed.parameters["MaxPhotoBytes"])
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    signed = s3.generate_presigned_post(
        inbox.bucket,
        key,
        Fields={"Content-Type": content_type},
        Conditions=[{"Content-Type": content_type}, ["content-length-range", 1, most]],
        ExpiresIn=seconds,
    )
    return PresignedUpload(signed["url"], signed["fields"], key, expires_at.isoformat(timespec="seconds"))


def curl(upload: PresignedUpload) -> str:
    """Return the command that uploads PHOTO, and fails unless the photo is stored."""
    form = " ".join(f"-F {shlex.quote(f'{name}={value}')}" for name, value in upload.fields.items())
    # A redirect stores nothing, but curl reports success unless --max-redirs is 0.
    return f"curl --fail-with-body --location --max-redirs 0 {form} -F file=@PHOTO {shlex.quote(upload.url)}"
