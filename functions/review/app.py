"""Review: serves the page on which a person decides, and the calls that it makes."""

import html
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import BadRequestError, ForbiddenError, NotFoundError
from botocore.config import Config

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import Conflict, Desk, InvalidAnswer, Record, UnknownPhoto, answer_of
from functions.decisions.waiting import decisions_since, hold, release
from functions.photo.decoder import Decoder
from functions.photo.errors import (
    DecoderFailed,
    PhotoNotFound,
    PhotoTooLarge,
    StorageUnavailable,
    UnreadablePhoto,
)
from functions.photo.storage import fetch_photo

GROUP = "reviewers"
SCOPE = "review/decide"
MOST_HELD = 8
MOST_SKIPPED = 80
RECENT = 12
LONGEST_SIDE = 1280  # pixels of a picture; more than most screens give it
QUALITY = 82
PAGE = Path(__file__).parent / "page"
ASSETS = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}

# What is wrong with a request, or with the photo that it is about, and what the page is told.
REFUSALS: dict[type[Exception], int] = {
    InvalidAnswer: 400,
    UnknownPhoto: 404,
    PhotoNotFound: 404,
    Conflict: 409,
    PhotoTooLarge: 422,
    UnreadablePhoto: 422,
    DecoderFailed: 503,
    StorageUnavailable: 503,
}

logger = Logger(use_rfc3339=True)
quick = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}, max_pool_connections=10)


@dataclass(frozen=True)
class Settings:
    """Who may call, where they sign in, what they are told, and the limits of an accepted photo (bytes, pixels)."""

    client_id: str = os.environ["CLIENT_ID"]
    sign_in_url: str = os.environ["SIGN_IN_URL"]
    guidelines: str = os.environ["GUIDELINES"]
    upload_prefix: str = os.environ["UPLOAD_PREFIX"]
    undo_seconds: int = int(os.environ["UNDO_SECONDS"])
    max_bytes: int = int(os.environ["MAX_PHOTO_BYTES"])
    max_pixels: int = int(os.environ["MAX_PHOTO_PIXELS"])


settings = Settings()
decoder = Decoder(max_pixels=settings.max_pixels)
decoder.start()  # before the clients, so that all get ready at once
s3 = boto3.client("s3", config=quick)
desk = Desk(
    dynamodb=boto3.client("dynamodb", config=quick),
    stepfunctions=boto3.client("stepfunctions", config=quick),
    table=os.environ["DECISIONS_TABLE"],
    workflow=os.environ["ANNOUNCE_REVIEW_ARN"],
    classes=parse_classes(os.environ["VEHICLE_CLASSES"]),
)
app = APIGatewayHttpResolver()

# The page runs its own script and style, shows pictures that the script fetched, and talks to this API and to the
# sign-in: nothing else, in no frame, and no text ever becomes markup.
HEADERS = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src blob:",
            f"connect-src 'self' {settings.sign_in_url}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request of the HTTP API."""
    answer: dict[str, Any] = app.resolve(event, context)
    return answer | {"headers": {**answer.get("headers", {}), **HEADERS}}


# ---------------------------------------------------------------------------------------------------------- page ---


@app.get("/")
def page() -> Response[str]:
    """Return the page; what its script has to know before anybody signed in is in its head."""
    public = {"signIn": settings.sign_in_url, "clientId": settings.client_id, "scope": SCOPE}
    text = (PAGE / "index.html").read_text("utf-8").replace("{settings}", html.escape(json.dumps(public)))
    return Response(200, "text/html; charset=utf-8", text)


@app.get("/<name>")
def asset(name: str) -> Response[str]:
    """Return the page's script or style."""
    if name not in ASSETS:
        raise NotFoundError("there is no such page")
    return Response(200, ASSETS[name], (PAGE / name).read_text("utf-8"))


# ----------------------------------------------------------------------------------------------------------- API ---


def reviewers_only(app: APIGatewayHttpResolver, next_middleware: Callable[..., Any]) -> Any:
    """Let nobody but a reviewer's access token through, whatever API Gateway has checked; say why a call is refused."""
    claims = _claims(app)
    groups = str(claims.get("cognito:groups", "")).strip("[]").replace(",", " ").split()
    granted = (
        claims.get("token_use") == "access"
        and claims.get("client_id") == settings.client_id
        and SCOPE in str(claims.get("scope", "")).split()
    )
    if not granted or not claims.get("username"):
        raise ForbiddenError("sign in to the review page")
    if GROUP not in groups:
        raise ForbiddenError(f"{claims['username']} is not in the group {GROUP}")
    try:
        return next_middleware(app)
    except tuple(REFUSALS) as error:
        decision = _decided(error.record) if isinstance(error, Conflict) and "review_id" in error.record else None
        body = json.dumps({"message": str(error), "decision": decision})
        return Response(REFUSALS[type(error)], "application/json", body)


@app.post("/api/queue", middlewares=[reviewers_only])
def queue() -> dict[str, Any]:
    """Hand out photos that wait, and say what else is going on."""
    asked = _body()
    have, skipped = _photos(asked, "have", MOST_HELD), _photos(asked, "skipped", MOST_SKIPPED)
    want = asked.get("want", 0)
    if not isinstance(want, int) or not 0 <= want <= MOST_HELD:
        raise BadRequestError(f"want must be a number from 0 to {MOST_HELD}")
    release(desk, _reviewer(), _photos(asked, "release", MOST_HELD))
    held = hold(desk, _reviewer(), have=have, skipped=skipped, want=want)
    day = decisions_since(desk, _reviewer(), _moment(asked.get("since")))
    return {
        "photos": [_described(record) for record in held.photos],
        "waiting": held.waiting,
        "more": held.more,
        "colleagues": held.colleagues,
        "decided": len(day.decisions),
        "seconds": day.seconds,
        "recent": [_decided(record) for record in day.decisions[:RECENT]],
        "reviewer": _reviewer(),
        "classes": list(desk.classes),
        "guidelines": settings.guidelines,
        "undoSeconds": settings.undo_seconds,
    }


@app.post("/api/picture", middlewares=[reviewers_only])
def picture() -> Response[bytes]:
    """Return a photo that is, or was, in review, upright, as a JPEG; the table says where it lies, not the browser."""
    record = desk.read(_text(_body(), "photo"))
    version, etag = record.get("version_id"), record.get("etag")
    bucket, key = record["s3_bucket"], record["s3_key"]
    stored = fetch_photo(s3, bucket, key, version_id=version, etag=etag, max_bytes=settings.max_bytes)
    return Response(200, "image/jpeg", decoder.upright(stored.data, LONGEST_SIDE).encode("JPEG", quality=QUALITY))


@app.post("/api/decide", middlewares=[reviewers_only])
def decide() -> dict[str, Any]:
    """Record a decision, or the correction of one."""
    asked = _body()
    photo, answer, review_id = (_text(asked, name) for name in ("photo", "answer", "review_id"))
    if "corrects" in asked:
        record = desk.correct(
            photo, answer, review_id=review_id, reviewer=_reviewer(), corrects=_text(asked, "corrects")
        )
    else:
        record = desk.decide(photo, answer, review_id=review_id, reviewer=_reviewer())
    logger.info("decided", extra={"photo": photo, "answer": answer, "reviewer": _reviewer(), "review_id": review_id})
    return _decided(record)


@app.post("/api/undo", middlewares=[reviewers_only])
def undo() -> dict[str, Any]:
    """Take a decision back; the photo waits again, held by the same person."""
    asked = _body()
    photo, review_id = _text(asked, "photo"), _text(asked, "review_id")
    record = desk.undo(photo, review_id=review_id, reviewer=_reviewer())
    logger.info("undone", extra={"photo": photo, "reviewer": _reviewer(), "review_id": review_id})
    return _described(record)


def _claims(app: APIGatewayHttpResolver) -> dict[str, Any]:
    context = app.current_event.raw_event.get("requestContext", {})
    claims: dict[str, Any] = context.get("authorizer", {}).get("jwt", {}).get("claims", {})
    return claims


def _reviewer() -> str:
    return str(_claims(app)["username"])


def _body() -> dict[str, Any]:
    try:
        body = json.loads(app.current_event.decoded_body or "{}")
    except ValueError as error:
        raise BadRequestError("the body must be JSON") from error
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "replace")) <= 2048:
        raise BadRequestError(f"{name} must be text")
    return value


def _photos(asked: dict[str, Any], name: str, most: int) -> list[str]:
    photos = asked.get(name, [])
    if not isinstance(photos, list) or len(photos) > most:
        raise BadRequestError(f"{name} must be a list of {most} photos at most")
    return list(dict.fromkeys(_text({name: photo}, name) for photo in photos))


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise BadRequestError("since must be a time such as 2026-11-25T00:00:00+01:00") from error
    if moment.tzinfo is None:
        raise BadRequestError("since must name its time zone")
    return moment


def _described(record: Record) -> dict[str, Any]:
    """Return what a person has to know of a waiting photo."""
    inside = record["s3_key"].removeprefix(settings.upload_prefix)
    scores = record.get("probabilities", {})
    return {
        "photo": record["photo"],
        "key": record["s3_key"],
        "driver": inside.rpartition("/")[0],
        "since": record.get("uploaded_at", record["claimed_at"]),
        "scores": {name: scores[name] for name in desk.classes if name in scores},
    }


def _decided(record: Record) -> dict[str, Any]:
    """Return what a person has to know of a decision."""
    return {
        "photo": record["photo"],
        "key": record.get("s3_key", ""),
        "answer": answer_of(record),
        "by": record["reviewed_by"],
        "at": record["reviewed_at"],
        "id": record["review_id"],
        "revision": record["revision"],
    }
