"""After an hour without the endpoint, the stack recovers within eleven minutes, without anyone's help.

To let the hour pass, the test moves all times in the table into the past. `CAMPAIGN_PHOTOS` sets the number of photos.
"""

import os
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from functions.decisions.decision import timestamp

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, failure

pytestmark = pytest.mark.long

PHOTOS = max(6, int(os.environ.get("CAMPAIGN_PHOTOS", "0")) // 3)
STEP, STEPS = timedelta(minutes=10), 6
TIMES = ("failed_at", "first_failed_at")


def let_pass(bay: Bay, time: timedelta) -> None:
    """Move every waiting photo into the past."""
    for page in bay.dynamodb.get_paginator("scan").paginate(TableName=bay.table):
        for item in page["Items"]:
            values = {
                f":{name}": {"S": timestamp(datetime.fromisoformat(item[name]["S"]).astimezone(UTC) - time)}
                for name in TIMES
                if name in item
            }
            if "queue" in item:
                values[":due_at"] = {"N": str(int(item["due_at"]["N"]) - int(time.total_seconds()))}
            if values:
                bay.dynamodb.update_item(
                    TableName=bay.table,
                    Key={"photo": item["photo"]},
                    UpdateExpression="SET " + ", ".join(f"{name[1:]} = {name}" for name in values),
                    ExpressionAttributeValues=values,
                )


def sweep(bay: Bay) -> None:
    wait_for(lambda: bay.running() == 0, 120 + PHOTOS)
    bay.sweep(120 + PHOTOS)
    wait_for(lambda: bay.running() == 0, 120 + PHOTOS)


def statuses(bay: Bay, keys: list[str]) -> set[str]:
    found = {decision.key: decision.status for decision in bay.all_decisions()}
    return {found.get(key, "no record") for key in keys}


def test_all_photos_of_an_hour_without_the_endpoint_are_routed_within_eleven_minutes(
    express_bay: Bay, endpoint: Endpoint
) -> None:
    bay, keys = express_bay, []
    with endpoint.answering(lambda body: failure(503, "ServiceUnavailable")):
        for step in range(STEPS):
            keys += [bay.upload(picture("red", size=(40, 41 + number))) for number in range(step, PHOTOS, STEPS)]
            sweep(bay)
            let_pass(bay, STEP)
        assert statuses(bay, keys) == {"FAILED"}

    minutes = 0
    while statuses(bay, keys) != {"ROUTED"}:
        assert minutes < 11
        sweep(bay)
        let_pass(bay, timedelta(minutes=1))
        minutes += 1

    told = defaultdict(list)
    for event in bay.heard():
        told[event["detail"].get("s3_key")].append(event["detail-type"])
    for key in keys:
        first, *between, last = told[key]
        assert (first, last) == ("Classification Failed", "Vehicle Routed"), key
        assert set(between) <= {"Classification Still Failing"}, key
