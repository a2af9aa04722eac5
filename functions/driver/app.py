"""Serves the drivers' page, and the API through which the page or a driver's app uploads photos and reads outcomes."""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import BadRequestError, ForbiddenError, NotFoundError
from botocore.config import Config

from functions.decisions.uploads import NAME, SIGNING, InvalidUpload, sign_upload
from functions.web.site import SignIn, body_of, guarded, serve

from .photos import OwnPhotos, PhotosUnavailable

SECONDS = 300  # the validity of a signed upload
SINCE = re.compile(r"\d{8}T\d{6}Z")
PAGE = Path(__file__).parent / "page"
REASONS: dict[str, str] = json.loads((PAGE / "en.json").read_text("utf-8"))["reasons"]


class Upload(msgspec.Struct, frozen=True):
    """A driver's request to upload a photo of this type, optionally for an order."""

    content_type: str
    order: str | None = None


logger = Logger(use_rfc3339=True)
quick = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}, **SIGNING)
s3 = boto3.client("s3", config=quick)
inbox, prefix = os.environ["INBOX_BUCKET"], os.environ["UPLOAD_PREFIX"]
max_bytes = int(os.environ["MAX_PHOTO_BYTES"])
own = OwnPhotos(s3, boto3.client("dynamodb", config=quick), inbox, prefix, os.environ["DECISIONS_TABLE"])
sign_in = SignIn(os.environ["SIGN_IN_URL"], os.environ["CLIENT_ID"], scope="driver/upload", group="drivers")
target = urlsplit(s3.generate_presigned_post(inbox, "any")["url"])
app = APIGatewayHttpResolver()
serve(app, PAGE, "/driver", sign_in)
drivers_only = guarded(sign_in, {InvalidUpload: 400, PhotosUnavailable: 503})


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request of the HTTP API."""
    answer = app.resolve(event, context)
    return answer | {"headers": {**answer.get("headers", {}), **sign_in.headers(f"{target.scheme}://{target.netloc}")}}


@app.post("/uploads", middlewares=drivers_only)
def upload() -> dict[str, object]:
    """Sign the upload of one photo by the calling driver; its key is generated here."""
    asked = body_of(app, Upload)
    signed = sign_upload(
        s3, inbox, prefix, _driver(), asked.content_type, order=asked.order, max_bytes=max_bytes, seconds=SECONDS
    )
    return {
        "id": signed.key.rpartition("/")[2],
        "url": signed.url,
        "fields": signed.fields,
        "expires_at": signed.expires_at,
    }


@app.get("/photos", middlewares=drivers_only)
def history() -> dict[str, object]:
    """Return the calling driver's latest photos, newest first, since a time such as 20261128T000000Z."""
    since = str((app.current_event.query_string_parameters or {}).get("since", ""))
    if not SINCE.fullmatch(since):
        raise BadRequestError("give since as 20261128T000000Z")
    return {"photos": [each.outcome(REASONS) for each in own.since(_driver(), since)]}


@app.get("/photos/<name>", middlewares=drivers_only)
def photo(name: str) -> dict[str, object]:
    """Return the outcome of one of the calling driver's photos."""
    found = own.one(_driver(), name)
    if found is None:
        raise NotFoundError("this photo does not exist")
    return found.outcome(REASONS)


def _driver() -> str:
    driver = sign_in.user(app)
    if not NAME.fullmatch(driver):
        raise ForbiddenError("a driver's name has 1 to 64 letters, digits, underscores and hyphens")
    return driver
