"""Serves the page on which people decide photos, and the API that the page calls."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from botocore.config import Config

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision, Detection, Opinion, timestamp
from functions.decisions.reviews import NEEDS_AUDIT, NEEDS_OPINION, Desk, InvalidAnswer
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
from functions.photo.storage import open_photo
from functions.web.site import SignIn, body_of, guarded, serve

from . import calls
from .driver import DriversPhotos

RECENT = 12
LONGEST_SIDE = 1280  # pixels of a picture; more than it gets on most screens
THUMBNAIL_SIDE = 320
QUALITY = 82
GUIDELINES = [
    "Decide by the vehicle that the driver stands with.",
    "Neither: another vehicle, several kinds, or none to be seen.",
]
BICYCLE_OR_MOTORCYCLE = "An electric bicycle is a bicycle; a moped or scooter is a motorcycle."

# The HTTP status of each refusal, by error.
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
class ReviewSettings:
    """The page's texts, and the limits of an accepted photo (bytes, pixels)."""

    guidelines: str = os.environ["GUIDELINES"]
    upload_prefix: str = os.environ["UPLOAD_PREFIX"]
    undo_seconds: int = int(os.environ["UNDO_SECONDS"])
    max_bytes: int = int(os.environ["MAX_PHOTO_BYTES"])
    max_pixels: int = int(os.environ["MAX_PHOTO_PIXELS"])


settings = ReviewSettings()
decoder = Decoder(max_pixels=settings.max_pixels)
decoder.start()  # before the clients, so both start in parallel
s3 = boto3.client("s3", config=quick)
desk = Desk(
    table=DecisionsTable(boto3.client("dynamodb", config=quick), os.environ["DECISIONS_TABLE"]),
    stepfunctions=boto3.client("stepfunctions", config=quick),
    workflow=os.environ["ANNOUNCE_REVIEW_ARN"],
    classes=parse_classes(os.environ["VEHICLE_CLASSES"]),
    second_share=float(os.environ["SECOND_SHARE"]),
    salt=os.environ["SALT"],
)
drivers = DriversPhotos(s3, desk.table, settings.upload_prefix)
sign_in = SignIn(os.environ["SIGN_IN_URL"], os.environ["CLIENT_ID"], scope="review/decide", group="reviewers")
app = APIGatewayHttpResolver()
serve(app, Path(__file__).parent / "page", "", sign_in)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request of the HTTP API."""
    answer = app.resolve(event, context)
    return answer | {"headers": {**answer.get("headers", {}), **sign_in.headers()}}


def _decision_of(error: Exception) -> dict[str, object]:
    decided = error.decision if isinstance(error, Conflict) and error.decision.review_id else None
    return {"decision": _decided(decided, decided.opinion) if decided and not decided.needs_opinion else None}


reviewers_only = guarded(sign_in, REFUSALS, _decision_of)


@app.post("/api/queue", middlewares=reviewers_only)
def queue() -> dict[str, object]:
    """Return photos that need review, the number that wait, the other active reviewers, and the day's decisions."""
    asked = body_of(app, calls.Queue)
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
        "recent": [_decided(each, each.opinion) for each in day.decisions if _is_listed(each)][:RECENT],
        "answers": list(desk.answers),
        "guidelines": _guidelines(),
        "undoSeconds": settings.undo_seconds,
    }


def _guidelines() -> list[str]:
    """Return the stack's guidelines, or those that suit its classes."""
    if settings.guidelines:
        return [each.strip() for each in settings.guidelines.split("|") if each.strip()]
    return [*GUIDELINES, BICYCLE_OR_MOTORCYCLE] if set(desk.classes) == {"bicycle", "motorcycle"} else GUIDELINES


@app.post("/api/picture", middlewares=reviewers_only)
def picture() -> Response[bytes]:
    """Return a photo that is or was in review as an upright JPEG, or a thumbnail of one shown beside it.

    The table, not the browser, says where the photo is stored.
    """
    asked = body_of(app, calls.Picture)
    if asked.beside is None:
        decision, side = desk.read(asked.photo), LONGEST_SIDE
    else:
        decision, side = drivers.read(asked.photo, desk.read(asked.beside)), THUMBNAIL_SIDE
    try:
        stored = open_photo(s3, decision.bucket, decision.key, version_id=decision.version_id, etag=decision.etag)
    except PhotoNotFound:
        if decision.is_blind:  # nobody can look at it any more
            with suppress(Conflict, UnknownPhoto):
                desk.table.update(decision.photo, {"queue": None, "due_at": None}, NEEDS_AUDIT | NEEDS_OPINION)
        raise
    reduced = decoder.upright(stored.read(settings.max_bytes), side)
    return Response(200, "image/jpeg", reduced.encode("JPEG", quality=QUALITY))


@app.post("/api/beside", middlewares=reviewers_only)
def beside() -> dict[str, object]:
    """Return the facts of the driver's other photos of the day, without the pictures."""
    decision = desk.read(body_of(app, calls.Beside).photo)
    found = [] if decision.is_blind else drivers.beside(decision)  # their outcomes would hint at the answer
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


@app.post("/api/decide", middlewares=reviewers_only)
def decide() -> dict[str, object]:
    """Record a decision, an opinion about a decided photo, or a correction."""
    asked = body_of(app, calls.Decide)
    given = {"review_id": asked.review_id, "reviewer": _reviewer()}
    if asked.corrects is None:
        decision = desk.decide(asked.photo, asked.answer, **given)
    else:
        decision = desk.correct(asked.photo, asked.answer, **given, corrects=asked.corrects)
    logger.info("decided", extra={"photo": asked.photo, "answer": asked.answer, **given})
    own = (each for each in decision.opinions if each.id == asked.review_id)
    return _decided(decision, next(own, decision.opinion))


@app.post("/api/undo", middlewares=reviewers_only)
def undo() -> dict[str, object]:
    """Undo a decision; the photo is back in the queue, held by the same person."""
    asked = body_of(app, calls.Undo)
    decision = desk.undo(asked.photo, review_id=asked.review_id, reviewer=_reviewer())
    logger.info("undone", extra={"photo": asked.photo, "reviewer": _reviewer(), "review_id": asked.review_id})
    return _described(decision)


def _reviewer() -> str:
    return sign_in.user(app)


def _described(decision: Decision) -> dict[str, object]:
    """Return the facts that a person needs about a waiting photo; some must not know the model's answer."""
    scores = {} if decision.is_blind else decision.probabilities or {}
    found = (None if decision.is_blind else decision.detection) or Detection()
    return {
        "photo": decision.photo,
        "key": decision.key,
        "driver": decision.driver or "",
        "order": decision.order or "",
        "since": timestamp(decision.uploaded_at or decision.claimed_at),
        "scores": {name: scores[name] for name in desk.classes if name in scores},
        "box": msgspec.to_builtins(found.box),
        "why": found.reason_code,
        "second": decision.needs_opinion,
    }


def _is_listed(decision: Decision) -> bool:
    """Tell whether a decision may be shown to this person, who may have to give an opinion about the photo."""
    return decision.reviewed_by == _reviewer() or decision.revision != 1 or not desk.asks_again(decision.photo)


def _decided(decision: Decision, opinion: Opinion) -> dict[str, object]:
    """Return the facts that a person needs about a decision, or about their own opinion."""
    return {
        "photo": decision.photo,
        "key": decision.key,
        "answer": opinion.answer,
        "by": opinion.by,
        "at": timestamp(opinion.at),
        "id": opinion.id,
        "revision": decision.revision,
    }
