"""Lets an app upload one photo under its driver's prefix, and nothing else."""

import shlex

from functions.decisions.uploads import SIGNING, InvalidUpload, PresignedUpload, sign_upload
from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError


def presign_upload(
    deployed: Deployed,
    driver: str,
    content_type: str,
    *,
    order: str | None = None,
    max_bytes: int | None = None,
    seconds: int = 300,
) -> PresignedUpload:
    """Sign an upload of one photo, of at most `max_bytes` bytes or as many as the stack reads; see `sign_upload`.

    Raises:
        UserError: a name could lead out of the driver's prefix, or the content type is not accepted.
    """
    inbox = Address.parse(deployed.outputs["UploadUri"])
    s3 = deployed.client("s3", **SIGNING)
    most = max_bytes or int(deployed.parameters["MaxPhotoBytes"])
    try:
        return sign_upload(
            s3, inbox.bucket, inbox.prefix, driver, content_type, order=order, max_bytes=most, seconds=seconds
        )
    except InvalidUpload as error:
        raise UserError(str(error)) from error


def curl(upload: PresignedUpload) -> str:
    """Return the command that uploads PHOTO, and fails unless the photo is stored."""
    form = " ".join(f"-F {shlex.quote(f'{name}={value}')}" for name, value in upload.fields.items())
    # A redirect stores nothing, but curl reports success unless --max-redirs is 0.
    return f"curl --fail-with-body --location --max-redirs 0 {form} -F file=@PHOTO {shlex.quote(upload.url)}"
