"""The review list: photos that the model was not sure of, and what a person decides about them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from .decisions import Decision, query_decisions
from .deployed import Deployed, OperateError

# What a person answers where a photo shows none of the stack's vehicles; also the folder of such photos.
NEITHER = "neither"


def waiting_photos(deployed: Deployed) -> Iterator[Decision]:
    """Yield the photos that wait for a person, the oldest first."""
    return query_decisions(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"], "REVIEW")


def decide(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> dict[str, Any]:
    """Record what a person says of a photo, and announce it as any other outcome; returns the decision.

    Args:
        deployed: the stack.
        photo: the photo's full name in the decisions table, or its key in the inbox if only one such photo waits.
        vehicle: one of the stack's classes, which routes the driver, or `neither`, which rejects the photo.
        reviewer: who says so.

    Raises:
        OperateError: no such vehicle, or no such photo waits.
    """
    classes = {name: (bay, orders) for name, bay, orders in _classes(deployed)}
    if vehicle not in {*classes, NEITHER}:
        raise OperateError(f"{vehicle} is not a class of this stack; choose one of {', '.join(classes)}, {NEITHER}")
    found = [each for each in waiting_photos(deployed) if photo in {each.attributes["photo"], each.key}]
    if len(found) != 1:
        raise OperateError(f"{len(found)} photos named {photo} wait for review; see python -m operate review list")
    attributes = found[0].attributes
    if vehicle == NEITHER:
        outcome = {"status": "REJECTED", "error": "NoVehicle", "reason": "a person sees none of the vehicles"}
    else:
        bay, orders = classes[vehicle]
        outcome = {"status": "ROUTED", "vehicle": vehicle, "bay": bay, "order_range": orders}
    changes = outcome | {
        "reviewed_by": reviewer,
        "reviewed_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    try:
        deployed.client("dynamodb").update_item(
            TableName=deployed.outputs["DecisionsTable"],
            Key={"photo": {"S": attributes["photo"]}},
            # What a person decided is final: no replay may claim the photo again.
            UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in changes)} REMOVE claim_expires_at",
            ConditionExpression="#status = :review",
            ExpressionAttributeNames={f"#{name}": name for name in changes},
            ExpressionAttributeValues={f":{name}": {"S": value} for name, value in changes.items()}
            | {":review": {"S": "REVIEW"}},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            raise OperateError(f"{photo} was decided by somebody else in this moment") from error
        raise
    decision = attributes | changes | {"stack": deployed.outputs["StackName"]}
    answer = deployed.client("events").put_events(
        Entries=[
            {
                "Source": "loading-bay",
                "DetailType": "Photo Rejected" if vehicle == NEITHER else "Vehicle Routed",
                "Detail": json.dumps(decision, default=float),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        raise OperateError(f"{photo} is recorded as {decision['status']}, but could not be announced; tell the driver")
    return decision


def export_reviewed(deployed: Deployed, folder: Path) -> Iterator[Path]:
    """Download what people decided into `<folder>/<vehicle or neither>/`, to train on; yields each file."""
    s3, dynamodb, table = deployed.client("s3"), deployed.client("dynamodb"), deployed.outputs["DecisionsTable"]
    for status in ("ROUTED", "REJECTED"):
        for decision in query_decisions(dynamodb, table, status):
            if "reviewed_by" not in decision.attributes:
                continue
            name = f"{decision.attributes['etag'][:8]}-{Path(decision.key).name}"
            path = folder / (decision.vehicle or NEITHER) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                s3.download_file(decision.attributes["s3_bucket"], decision.key, str(path))
            yield path


def _classes(deployed: Deployed) -> list[tuple[str, str, str]]:
    entries = [entry.split(":") for entry in deployed.outputs["VehicleClasses"].split(",")]
    return [(name, bay, orders) for name, bay, orders in entries]
