"""Lets an app upload one photo, of bounded size and type, under its driver's prefix, and nothing else.

A presigned POST: its policy is signed, and S3 itself refuses whatever departs from it.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import json
import re
import shlex
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import click

from stack.addresses import Address
from stack.deployed import Deployed
from stack.errors import UserError

from .choice import with_stack

# What the photo reader takes, and how a file of each kind is named.
CONTENT_TYPES = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/heic": "heic",
    "image/avif": "avif",
}
DRIVER = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_BYTES = 26_214_400  # the template's default for MaxPhotoBytes


@dataclass(frozen=True)
class PresignedUpload:
    """Where and with which form fields one photo may be posted, and the key that it will have."""

    url: str
    fields: dict[str, str]
    key: str
    expires_at: str


def presign_upload(
    deployed: Deployed, driver: str, content_type: str, *, max_bytes: int = MAX_BYTES, seconds: int = 300
) -> PresignedUpload:
    """Sign an upload of 1 to `max_bytes` bytes to a new key under the driver's prefix, for so many seconds.

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
    # Buckets with a KMS key take no older signature.
    s3 = deployed.client("s3", signature_version="s3v4")
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    signed = s3.generate_presigned_post(
        inbox.bucket,
        key,
        Fields={"Content-Type": content_type},
        Conditions=[{"Content-Type": content_type}, ["content-length-range", 1, max_bytes]],
        ExpiresIn=seconds,
    )
    return PresignedUpload(signed["url"], signed["fields"], key, expires_at.isoformat(timespec="seconds"))


@click.command()
@click.argument("driver")
@click.option("--content-type", type=click.Choice(list(CONTENT_TYPES)), default="image/jpeg", show_default=True)
@click.option("--max-bytes", type=click.IntRange(1, 104_857_600), default=MAX_BYTES, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 3600), default=300, show_default=True, help="How long it is valid.")
@click.option("--json", "as_json", is_flag=True, help="Print URL, fields, key and expiry as JSON, for an app.")
@with_stack
def presign(deployed: Deployed, driver: str, content_type: str, max_bytes: int, seconds: int, as_json: bool) -> None:
    """Sign an upload of one photo by DRIVER; prints the curl command that makes it."""
    upload = presign_upload(deployed, driver, content_type, max_bytes=max_bytes, seconds=seconds)
    if as_json:
        click.echo(json.dumps(asdict(upload), indent=2))
        return
    form = " ".join(f"-F {shlex.quote(f'{name}={value}')}" for name, value in upload.fields.items())
    click.echo(f"# one photo, until {upload.expires_at}, as s3://…/{upload.key}")
    click.echo(f"curl --fail {form} -F file=@PHOTO {shlex.quote(upload.url)}")
