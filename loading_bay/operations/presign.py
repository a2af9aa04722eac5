"""Lets an app upload one photo, of bounded size and type, under its driver's prefix, and nothing else.

A presigned POST: its policy is signed, and S3 itself refuses whatever departs from it.
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

# What the photo reader takes, and how a file of each kind is named.
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
    """Where and with which form fields one photo may be posted, and the key that it will have."""

    url: str
    fields: dict[str, str]
    key: str
    expires_at: str


def presign_upload(
    deployed: Deployed, driver: str, content_type: str, *, max_bytes: int | None = None, seconds: int = 300
) -> PresignedUpload:
    """Sign an upload of one photo to a new key under the driver's prefix, valid for so many seconds.

    It takes 1 to `max_bytes` bytes, by default as many as the stack reads.

    Whoever has it can repeat it until it expires, and so replace this photo, but no other.

    Raises:
        UserError: the driver's name could lead out of the driver's prefix, or the content type is no photo's.
    """
    if not DRIVER.fullmatch(driver):
        raise UserError(f"{driver!r} is not a driver's name: use 1 to 64 letters, digits, underscores and hyphens")
    if content_type not in CONTENT_TYPES:
        raise UserError(f"{content_type} is not accepted: choose one of {', '.join(CONTENT_TYPES)}")
    inbox = Address.parse(deployed.outputs["UploadUri"])
    key = f"{inbox.prefix}{driver}/{uuid.uuid4()}.{CONTENT_TYPES[content_type]}"
    # Buckets with a KMS key take no older signature; the global host, which boto3 signs otherwise, redirects uploads.
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
    """Return the command that uploads PHOTO, and that fails unless it was stored."""
    form = " ".join(f"-F {shlex.quote(f'{name}={value}')}" for name, value in upload.fields.items())
    # A redirect stores nothing, and is no failure to curl unless it may follow none.
    return f"curl --fail-with-body --location --max-redirs 0 {form} -F file=@PHOTO {shlex.quote(upload.url)}"
