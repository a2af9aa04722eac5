"""The review list: photos that the model was unsure of, people's decisions, and the resulting labels."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from functions.decisions.classes import NEITHER, parse_classes
from functions.decisions.decision import Decision
from functions.decisions.reviews import Desk, InvalidAnswer
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

from .agreement import Agreements, agreements

LONGEST_NAME = 200  # bytes; file systems take 255
DELETED = {"NoSuchKey", "404"}
CHANGED = {"PreconditionFailed", "412"}


@dataclass(frozen=True)
class Label:
    """A photo that a person decided, and its saved file or the reason why it was not saved.

    `audit_share` is the chance with which a photo was chosen of which the model was sure; None where it was unsure.
    `chosen` is `audit` or `review`, or `second` if a third person's opinion corrected a review.
    """

    photo: str
    path: Path | None
    why: str = ""
    audit_share: float | None = None
    chosen: str = "review"


def waiting_photos(deployed: Deployed) -> list[Decision]:
    """Return the photos that need review, the oldest first."""
    return _table(deployed).queued("REVIEW")


def decide(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> Decision:
    """Record a person's decision as the review page does, and start its announcement; returns the record.

    Args:
        deployed: the stack.
        photo: the photo's full name in the decisions table, or its key in the inbox if only one such photo waits.
        vehicle: one of the stack's classes, to route the driver, or `neither`, to reject the photo.
        reviewer: the person who decides.

    Raises:
        UserError: the vehicle is unknown, no such photo needs review, or another reviewer holds it.
    """
    desk = Desk(
        _table(deployed),
        deployed.client("stepfunctions"),
        deployed.outputs["AnnounceReviewArn"],
        parse_classes(deployed.outputs["VehicleClasses"]),
        float(deployed.parameters["SecondOpinionShare"]) if "ReviewUrl" in deployed.outputs else 0,
        deployed.outputs["StackId"],
    )
    if vehicle not in desk.answers:
        raise UserError(f"{vehicle} is not a class of this stack; choose one of {', '.join(desk.answers)}")
    found = [each for each in waiting_photos(deployed) if photo in {each.photo, each.key}]
    if len(found) != 1:
        several = f"{len(found)} photos" if found else "no photo"
        raise UserError(f"{several} named {photo} in review; see {deployed.command('review', 'list')}")
    try:
        return desk.decide(found[0].photo, vehicle, review_id=str(uuid.uuid4()), reviewer=reviewer)
    except (Conflict, InvalidAnswer, UnknownPhoto) as error:
        raise UserError(f"{photo}: {error}") from error


def export_reviewed(deployed: Deployed, folder: Path) -> Iterator[Label]:
    """Download the reviewed photos into `<folder>/<vehicle or neither>/`, for training, and yield each.

    A label is a copy of exactly the photo that a person saw, and outlives the upload.
    """
    s3 = deployed.client("s3")
    for decision in all_decisions(_table(deployed)):
        if decision.reviewed_by is None:
            continue
        if decision.in_queue("OPEN"):
            yield Label(decision.key, None, "not announced yet; export again in a few minutes")
            continue
        if not decision.label or not decision.label_etag:
            yield Label(decision.key, None, "the photo was deleted before a copy could be kept")
            continue
        path = folder / decision.answer / file_name(decision)
        if path.exists():
            yield Label(decision.key, path, audit_share=decision.audit_share, chosen=decision.chosen)
            continue
        try:
            answer = s3.get_object(Bucket=decision.s3_bucket, Key=decision.label, IfMatch=f'"{decision.label_etag}"')
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in DELETED | CHANGED:
                raise
            why = "its label was deleted" if code in DELETED else "its label was changed since"
            yield Label(decision.key, None, why)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        yield Label(decision.key, path, audit_share=decision.audit_share, chosen=decision.chosen)


def reviewers_agreements(deployed: Deployed) -> Agreements:
    """Return how well the reviewers agree, from every second opinion in the table."""
    answers = (*parse_classes(deployed.outputs["VehicleClasses"]), NEITHER)
    return agreements(all_decisions(_table(deployed)), answers)


def _table(deployed: Deployed) -> DecisionsTable:
    return DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])


def file_name(decision: Decision) -> str:
    """Return a file name for any file system, from the claim and the end of the photo's key."""
    claim, name = (decision.claim or "")[:8], decision.key.rpartition("/")[2]
    end = name.encode()[-LONGEST_NAME:].decode(errors="ignore")
    return f"{claim}-{''.join(each if each.isprintable() else '_' for each in end)}"
