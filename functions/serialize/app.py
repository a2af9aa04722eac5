"""SerializePhoto: S3 object in, the small square that the model sees out (base64 PNG)."""

import base64
import os
from dataclasses import dataclass
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config

from functions.photo.decoder import Decoder
from functions.photo.errors import PhotoTooLarge, UnreadablePhoto
from functions.photo.storage import PhotoNotFound, fetch_photo

logger = Logger(use_rfc3339=True)
metrics = Metrics()


@dataclass(frozen=True)
class Settings:
    """Limits of an accepted photo (bytes, pixels) and the side of the model's input (pixels)."""

    image_size: int = int(os.environ["IMAGE_SIZE"])
    max_bytes: int = int(os.environ["MAX_PHOTO_BYTES"])
    max_pixels: int = int(os.environ["MAX_PHOTO_PIXELS"])


settings = Settings()
decoder = Decoder(max_pixels=settings.max_pixels)
decoder.start()  # before the client, so that both get ready at once
# Step Functions does the long retrying, so that a waiting photo costs nothing.
s3 = boto3.client("s3", config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}))


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Add `image_data`, `photo` and `uploaded_at` to the record.

    Takes `s3_bucket`, `s3_key` and optionally `version_id`, `etag`.

    Raises:
        PhotoNotFound, PhotoTooLarge, UnreadablePhoto: the photo is rejected.
        StorageUnavailable, DecoderFailed: worth another try.
    """
    about = {"s3_key": event["s3_key"], "execution_arn": event.get("execution_arn")}
    try:
        stored = fetch_photo(
            s3,
            event["s3_bucket"],
            event["s3_key"],
            version_id=event.get("version_id"),
            etag=event.get("etag"),
            max_bytes=settings.max_bytes,
        )
        reduced = decoder.square(stored.data, settings.image_size)
    except (PhotoNotFound, PhotoTooLarge, UnreadablePhoto) as error:
        metrics.add_metric("PhotosRejected", MetricUnit.Count, 1)
        logger.warning("photo rejected", extra=about | {"error": type(error).__name__, "reason": str(error)})
        raise
    photo = {
        "format": reduced.format,
        "width": reduced.width,
        "height": reduced.height,
        "bytes": len(stored.data),
    }
    metrics.add_metric("PhotoBytes", MetricUnit.Bytes, len(stored.data))
    logger.info("photo serialized", extra=about | {"photo": photo})
    return event | {
        "image_data": base64.b64encode(reduced.encode("PNG", compress_level=3)).decode(),
        "photo": photo,
        "uploaded_at": stored.uploaded_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    }
