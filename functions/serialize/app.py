"""SerializePhoto: turns an S3 object into the upright picture that the model sees (base64)."""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config

from functions.photo.decoder import Decoder
from functions.photo.errors import PhotoNotFound, PhotoTooLarge, UnreadablePhoto
from functions.photo.image import PreparedPhoto
from functions.photo.storage import open_photo

# With base64 and the rest of the record, a workflow state stays below 200 KiB of the 256 KiB allowed.
MOST_JPEG_BYTES = 145_000
ORDER = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

logger = Logger(use_rfc3339=True)
metrics = Metrics()


@dataclass(frozen=True)
class SerializeSettings:
    """The limits of an accepted photo (bytes, pixels), and the longest side (pixels) and shape of its picture."""

    max_bytes: int = int(os.environ["MAX_PHOTO_BYTES"])
    max_pixels: int = int(os.environ["MAX_PHOTO_PIXELS"])
    image_size: int = int(os.environ.get("IMAGE_SIZE", "416"))
    is_square: bool = {"WHOLE": False, "SQUARE": True}[os.environ.get("IMAGE_SHAPE", "WHOLE")]


settings = SerializeSettings()
decoder = Decoder(max_pixels=settings.max_pixels)
decoder.start()  # before the client, so both start in parallel
# Step Functions retries over minutes, so a waiting photo costs no Lambda time.
s3 = boto3.client("s3", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}))
decoder.wait_until_ready()  # without its decoder the function must not start, rather than fail photo by photo


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Add `image_data`, its `content_type`, `photo`, `uploaded_at` and, if the upload has one, `order`.

    Takes `s3_bucket`, `s3_key` and optionally `version_id`, `etag`.

    Raises:
        PhotoNotFound, PhotoTooLarge, UnreadablePhoto: the photo is rejected. The message is JSON with the `reason` and,
            if the upload has one, the `order`: an error's name and message are all that Step Functions learns.
        StorageUnavailable, DecoderFailed: worth another try.
    """
    about = {"s3_key": event["s3_key"], "execution_arn": event.get("execution_arn")}
    order: dict[str, str] = {}
    try:
        stored = open_photo(
            s3, event["s3_bucket"], event["s3_key"], version_id=event.get("version_id"), etag=event.get("etag")
        )
        order = order_of(stored.metadata)
        data = stored.read(settings.max_bytes)
        reduced = (decoder.square if settings.is_square else decoder.upright)(data, settings.image_size)
    except (PhotoNotFound, PhotoTooLarge, UnreadablePhoto) as error:
        metrics.add_metric("PhotosRejected", MetricUnit.Count, 1)
        logger.warning("photo rejected", extra=about | {"error": type(error).__name__, "reason": str(error)})
        raise type(error)(json.dumps({"reason": str(error)} | order)) from error
    photo = {
        "format": reduced.format,
        "width": reduced.width,
        "height": reduced.height,
        "bytes": stored.size,
    }
    metrics.add_metric("PhotoBytes", MetricUnit.Bytes, stored.size)
    logger.info("photo serialized", extra=about | {"photo": photo})
    image, content_type = encode(reduced)
    record = {name: value for name, value in event.items() if name != "order"}
    return (
        record
        | {
            "image_data": base64.b64encode(image).decode(),
            "content_type": content_type,
            "photo": photo,
            "uploaded_at": stored.uploaded_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        }
        | order
    )


def encode(reduced: PreparedPhoto) -> tuple[bytes, str]:
    """Return the encoded picture for the endpoint, and its content type."""
    if settings.is_square:
        return reduced.encode("PNG", compress_level=3), "image/png"
    return reduced.encode_jpeg(MOST_JPEG_BYTES), "image/jpeg"


def order_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the `order` in a photo's metadata (x-amz-meta-order), if it has a valid one."""
    order = metadata.get("order")
    if order is None:
        return {}
    if not ORDER.fullmatch(order):
        metrics.add_metric("OrdersInvalid", MetricUnit.Count, 1)
        return {}
    return {"order": order}
