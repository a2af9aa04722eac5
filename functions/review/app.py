"""Serves the page on which people decide photos, and the calls that it makes."""

import base64
import html
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import BadRequestError, ForbiddenError, NotFoundError
from botocore.config import Config

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision, timestamp
from functions.decisions.reviews import Desk, InvalidAnswer
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto
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

from . import calls
from .driver import DriversPhotos

GROUP = "reviewers"
SCOPE = "review/decide"
RECENT = 12
LONGEST_SIDE = 1280  # pixels of a picture; more than most screens give it
THUMBNAIL_SIDE = 320
QUALITY = 82
PAGE = Path(__file__).parent / "page"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
ASSETS = {path.name: TYPES[path.suffix] for path in PAGE.iterdir() if path.suffix in TYPES}

# The status that the page gets when a request, or the photo that it is about, is refused.
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
Form = TypeVar("Form", bound=calls.Call)

logger = Logger(use_rfc3339=True)
quick = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 2}, max_pool_connections=10)


@dataclass(frozen=True)
class Settings:
    """The page's own sign-in client, its texts, and the limits of an accepted photo (bytes, pixels)."""

    client_id: str = os.environ["CLIENT_ID"]
    sign_in_url: str = os.environ["SIGN_IN_URL"]
    guidelines: str = os.environ["GUIDELINES"]
    upload_prefix: str = os.environ["UPLOAD_PREFIX"]
    undo_seconds: int = int(os.environ["UNDO_SECONDS"])
    max_bytes: int = int(os.environ["MAX_PHOTO_BYTES"])
    max_pixels: int = int(os.environ["MAX_PHOTO_PIXELS"])


settings = Settings()
decoder = Decoder(max_pixels=settings.max_pixels)
decoder.start()  # before the clients, so all get ready at once
s3 = boto3.client("s3", config=quick)
desk = Desk(
    table=DecisionsTable(boto3.client("dynamodb", config=quick), os.environ["DECISIONS_TABLE"]),
    stepfunctions=boto3.client("stepfunctions", config=quick),
    workflow=os.environ["ANNOUNCE_REVIEW_ARN"],
    classes=parse_classes(os.environ["VEHICLE_CLASSES"]),
)
drivers = DriversPhotos(s3, desk.table, settings.upload_prefix)
app = APIGatewayHttpResolver()

# The page runs its own scripts and style, shows pictures that a script fetched, and talks to this API and to the
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
    """Return the page; its head holds the settings that its scripts need before anybody has signed in."""
    public = {"signIn": settings.sign_in_url, "clientId": settings.client_id, "scope": SCOPE}
    text = (PAGE / "index.html").read_text("utf-8").replace("{settings}", html.escape(json.dumps(public)))
    return Response(200, "text/html; charset=utf-8", text)


@app.get("/<name>")
def asset(name: str) -> Response[str]:
    """Return one of the page's scripts, or its style."""
    if name not in ASSETS:
        raise NotFoundError("there is no such page")
    return Response(200, ASSETS[name], (PAGE / name).read_text("utf-8"))


# ----------------------------------------------------------------------------------------------------------- API ---


def reviewers_only(app: APIGatewayHttpResolver, next_middleware: Callable[..., Any]) -> Any:
    """Let only a reviewer's access token through, even if API Gateway checked nothing; say why a call is refused."""
    claims = _claims(app)
    granted = (
        claims.get("token_use") == "access"
        and claims.get("client_id") == settings.client_id
        and SCOPE in str(claims.get("scope", "")).split()
    )
    if not granted or not claims.get("username"):
        raise ForbiddenError("sign in to the review page")
    if GROUP not in _groups(str(claims.get("cognito:groups", ""))):
        raise ForbiddenError(f"{claims['username']} is not in the group {GROUP}")
    try:
        return next_middleware(app)
    except tuple(REFUSALS) as error:
        decision = _decided(error.decision) if isinstance(error, Conflict) and error.decision.review_id else None
        body = json.dumps({"message": str(error), "decision": decision})
        return Response(REFUSALS[type(error)], "application/json", body)


@app.post("/api/queue", middlewares=[reviewers_only])
def queue() -> dict[str, Any]:
    """Hand out photos that need review, with how many wait, who else is at work, and the day's decisions."""
    asked = _body(calls.Queue)
    release(desk.table, _reviewer(), asked.release)
    held = hold(desk.table, _reviewer(), have=asked.have, skipped=asked.skipped, want=asked.want)
    day = decisions_since(desk.table, _reviewer(), asked.since)
    return {
        "photos": [_described(decision) for decision in held.photos],
        "waiting": held.waiting,
        "more": held.more,
        "colleagues": held.colleagues,
        "decided": len(day.decisions),
        "seconds": day.seconds,
        "recent": [_decided(decision) for decision in day.decisions[:RECENT]],
        "answers": list(desk.answers),
        "guidelines": settings.guidelines,
        "undoSeconds": settings.undo_seconds,
    }


@app.post("/api/picture", middlewares=[reviewers_only])
def picture() -> Response[bytes]:
    """Return a photo, upright, as a JPEG: one that is, or was, in review, or a thumbnail of one that stands beside it.

    The table says where a photo lies, not the browser.
    """
    asked = _body(calls.Picture)
    if asked.beside is None:
        decision, side = desk.read(asked.photo), LONGEST_SIDE
    else:
        decision, side = drivers.read(asked.photo, desk.read(asked.beside)), THUMBNAIL_SIDE
    stored = fetch_photo(
        s3,
        decision.bucket,
        decision.key,
        version_id=decision.version_id,
        etag=decision.etag,
        max_bytes=settings.max_bytes,
    )
    return Response(200, "image/jpeg", decoder.upright(stored.data, side).encode("JPEG", quality=QUALITY))


@app.post("/api/beside", middlewares=[reviewers_only])
def beside() -> dict[str, Any]:
    """Return the driver's other photos of the day, without their pictures."""
    found = drivers.beside(desk.read(_body(calls.Beside).photo))
    return {
        "photos": [
            {
                "photo": decision.photo,
                "at": timestamp(decision.uploaded_at or decision.claimed_at),
                "outcome": "in review" if decision.status == "REVIEW" else decision.vehicle or decision.status.lower(),
            }
            for decision in found
        ]
    }


@app.post("/api/decide", middlewares=[reviewers_only])
def decide() -> dict[str, Any]:
    """Record a decision, or the correction of one."""
    asked = _body(calls.Decide)
    given = {"review_id": asked.review_id, "reviewer": _reviewer()}
    if asked.corrects is None:
        decision = desk.decide(asked.photo, asked.answer, **given)
    else:
        decision = desk.correct(asked.photo, asked.answer, **given, corrects=asked.corrects)
    logger.info("decided", extra={"photo": asked.photo, "answer": asked.answer, **given})
    return _decided(decision)


@app.post("/api/undo", middlewares=[reviewers_only])
def undo() -> dict[str, Any]:
    """Take a decision back; the photo waits again, held by the same person."""
    asked = _body(calls.Undo)
    decision = desk.undo(asked.photo, review_id=asked.review_id, reviewer=_reviewer())
    logger.info("undone", extra={"photo": asked.photo, "reviewer": _reviewer(), "review_id": asked.review_id})
    return _described(decision)


def _claims(app: APIGatewayHttpResolver) -> dict[str, Any]:
    context = app.current_event.raw_event.get("requestContext", {})
    claims: dict[str, Any] = context.get("authorizer", {}).get("jwt", {}).get("claims", {})
    return claims


def _groups(claim: str) -> list[str]:
    """Return the groups of a claim as API Gateway writes it, `[one two]`; a name may hold brackets but not spaces."""
    return (claim[1:-1] if claim.startswith("[") and claim.endswith("]") else claim).split(" ")


def _reviewer() -> str:
    return str(_claims(app)["username"])


def _body(form: type[Form]) -> Form:
    body = app.current_event.body or ""
    try:
        content = base64.b64decode(body) if app.current_event.is_base64_encoded else body.encode()
        return msgspec.json.decode(content, type=form)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not a call's JSON: {error}") from error


def _described(decision: Decision) -> dict[str, Any]:
    """Return the facts of a waiting photo that a person needs."""
    scores = decision.probabilities or {}
    return {
        "photo": decision.photo,
        "key": decision.key,
        "driver": decision.driver or "",
        "order": decision.order or "",
        "since": timestamp(decision.uploaded_at or decision.claimed_at),
        "scores": {name: scores[name] for name in desk.classes if name in scores},
    }


def _decided(decision: Decision) -> dict[str, Any]:
    """Return the facts of a decision that a person needs."""
    return {
        "photo": decision.photo,
        "key": decision.key,
        "answer": decision.answer,
        "by": decision.reviewed_by,
        "at": timestamp(decision.reviewed_at or decision.claimed_at),
        "id": decision.review_id,
        "revision": decision.revision,
    }
