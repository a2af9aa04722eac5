"""The review list: photos that the model was not sure of, and what a person decides about them."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import NEITHER, Conflict, Desk, InvalidAnswer, Record, UnknownPhoto
from loading_bay.stack.decisions import Decision, DecisionsTable
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import UserError

LONGEST_NAME = 200  # bytes; file systems take 255
GONE = {"NoSuchKey", "404"}
CHANGED = {"PreconditionFailed", "412"}


@dataclass(frozen=True)
class Label:
    """A photo with what a person said of it: the file that it was saved to, or why it was not."""

    photo: str
    path: Path | None
    why: str = ""


def waiting_photos(deployed: Deployed) -> list[Decision]:
    """Return the photos that wait for a person, the oldest first."""
    return DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"]).queued("REVIEW")


def decide(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> Record:
    """Record what a person says of a photo as the review page does, and start its announcement; returns the record.

    Args:
        deployed: the stack.
        photo: the photo's full name in the decisions table, or its key in the inbox if only one such photo waits.
        vehicle: one of the stack's classes, which routes the driver, or `neither`, which rejects the photo.
        reviewer: who says so.

    Raises:
        UserError: no such vehicle, no such photo waits, or somebody else has it in hand.
    """
    classes = parse_classes(deployed.outputs["VehicleClasses"])
    desk = Desk(
        deployed.client("dynamodb"),
        deployed.client("stepfunctions"),
        deployed.outputs["DecisionsTable"],
        deployed.outputs["AnnounceReviewArn"],
        classes,
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
    """Download what people decided into `<folder>/<vehicle or neither>/`, to train on; yields each.

    What is downloaded is the label: the copy of exactly the photo that was decided about, which outlives the upload.
    """
    s3 = deployed.client("s3")
    for decision in DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"]).all():
        if decision.reviewed_by is None or decision.announced_at is None or decision.status == "REVIEW":
            continue
        if not decision.label:
            yield Label(decision.key, None, "the photo was gone before it could be kept")
            continue
        path = folder / (decision.vehicle or NEITHER) / _file_name(decision.label)
        if path.exists():
            yield Label(decision.key, path)
            continue
        try:
            answer = s3.get_object(Bucket=decision.s3_bucket, Key=decision.label, IfMatch=f'"{decision.label_etag}"')
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in GONE | CHANGED:
                raise
            yield Label(decision.key, None, "its label was deleted" if code in GONE else "its label was changed since")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        yield Label(decision.key, path)


def _file_name(label: str) -> str:
    """Return a name for a file that any file system takes, from `labels/CLASS/CLAIM-NAME`."""
    claim, name = label.rpartition("/")[2][:8], label.rpartition("/")[2][37:]
    end = name.encode()[-LONGEST_NAME:].decode(errors="ignore")
    return f"{claim}-{''.join(each if each.isprintable() else '_' for each in end)}"
