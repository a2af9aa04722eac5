"""The review list: photos that the model was not sure of, and what a person decides about them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from botocore.exceptions import ClientError

from stack.classes import parse_classes
from stack.decisions import Decision, DecisionsTable, timestamp
from stack.deployed import Deployed
from stack.errors import UserError

# What a person answers where a photo shows none of the stack's vehicles; also the folder of such photos.
NEITHER = "neither"


def waiting_photos(deployed: Deployed) -> list[Decision]:
    """Return the photos that wait for a person, the oldest first."""
    return DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"]).queued("REVIEW")


def decide(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> Decision:
    """Record what a person says of a photo, and announce it as any other outcome; returns the decision.

    Args:
        deployed: the stack.
        photo: the photo's full name in the decisions table, or its key in the inbox if only one such photo waits.
        vehicle: one of the stack's classes, which routes the driver, or `neither`, which rejects the photo.
        reviewer: who says so.

    Raises:
        UserError: no such vehicle, or no such photo waits.
    """
    classes = {each.name: each for each in parse_classes(deployed.outputs["VehicleClasses"])}
    if vehicle not in {*classes, NEITHER}:
        raise UserError(f"{vehicle} is not a class of this stack; choose one of {', '.join(classes)}, {NEITHER}")
    found = [each for each in waiting_photos(deployed) if photo in {each.photo, each.key}]
    if len(found) != 1:
        waiting = f"{len(found)} photos named {photo} wait for review"
        raise UserError(f"{waiting}; see {deployed.command} review list")
    if vehicle == NEITHER:
        outcome = {"status": "REJECTED", "error": "NoVehicle", "reason": "a person sees none of the vehicles"}
    else:
        known = classes[vehicle]
        outcome = {"status": "ROUTED", "vehicle": vehicle, "bay": known.bay, "order_range": known.orders}
    changes = outcome | {
        "reviewed_by": reviewer,
        "reviewed_at": timestamp(datetime.now(UTC)),
    }
    try:
        deployed.client("dynamodb").update_item(
            TableName=deployed.outputs["DecisionsTable"],
            Key={"photo": {"S": found[0].photo}},
            # What a person decided is final: no replay may claim the photo again.
            UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in changes)} REMOVE queue, due_at",
            ConditionExpression="#status = :review AND begins_with(queue, :queue)",
            ExpressionAttributeNames={f"#{name}": name for name in changes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in changes.items()}
            | {":review": {"S": "REVIEW"}, ":queue": {"S": "REVIEW#"}},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise UserError(f"{photo} has just been decided by somebody else") from error
        raise
    decision = msgspec.to_builtins(found[0]) | changes | {"stack": deployed.outputs["StackName"]}
    answer = deployed.client("events").put_events(
        Entries=[
            {
                "Source": "loading-bay",
                "DetailType": "Photo Rejected" if vehicle == NEITHER else "Vehicle Routed",
                "Detail": json.dumps(decision),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        raise UserError(f"{photo} is recorded as {decision['status']}, but could not be announced; tell the driver")
    return msgspec.convert(decision, Decision)


def export_reviewed(deployed: Deployed, folder: Path) -> Iterator[Path]:
    """Download what people decided into `<folder>/<vehicle or neither>/`, to train on; yields each file."""
    s3, table = (
        deployed.client("s3"),
        DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"]),
    )
    for decision in table.all():
        if decision.reviewed_by is None:
            continue
        name = f"{(decision.etag or '')[:8]}-{Path(decision.key).name}"
        path = folder / (decision.vehicle or NEITHER) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            s3.download_file(decision.s3_bucket, decision.key, str(path))
        yield path
