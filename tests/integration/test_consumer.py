"""The example of a consumer, beside the real stack of either type, acts once for each decision."""

import importlib.util
import json
import uuid
from collections import Counter
from functools import partial
from types import ModuleType

from functions.decisions.classes import parse_classes
from functions.decisions.reviews import Desk
from functions.decisions.table import DecisionsTable
from loading_bay.stack.template import ROOT

from .bay import Bay, picture, wait_for


def program() -> ModuleType:
    """Import the program that `make consumer` runs."""
    spec = importlib.util.spec_from_file_location("consumer_local", ROOT / "examples" / "consumer" / "local.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def corrected(bay: Bay, key: str) -> None:
    """Decide the photo like a person and, once that is announced, correct the decision."""
    wait_for(partial(bay.waits, key))
    machine, classes = bay.stack.outputs["AnnounceReviewArn"], parse_classes(bay.stack.outputs["VehicleClasses"])
    desk = Desk(DecisionsTable(bay.dynamodb, bay.table), bay.stack.client("stepfunctions"), machine, classes)
    (waiting,) = bay.decisions(key)
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    desk.decide(waiting.photo, "bicycle", review_id=first, reviewer="ana")
    wait_for(lambda: len(bay.announced(key)) == 2)
    wait_for(lambda: bay.decisions(key)[0].queue is None)
    desk.correct(waiting.photo, "motorcycle", review_id=second, reviewer="ana", corrects=first)
    wait_for(lambda: len(bay.announced(key)) == 3)


def test_each_decision_is_acted_on_once(either_bay: Bay) -> None:
    bay, consumer = either_bay, program()
    consumer.deploy_beside(bay.stack)
    sure, unsure, rejected = bay.upload(picture("red")), bay.upload(picture("grey")), bay.upload(b"no photo")
    corrected(bay, unsure)
    decided = [
        event
        for key in (sure, unsure, rejected)
        for event in wait_for(partial(bay.announced, key))
        if event["detail-type"] != "Photo Needs Review"
    ]
    again = [{"Source": each["source"], "DetailType": each["detail-type"]} for each in decided]
    for entry, event in zip(again, decided, strict=True):
        entry["Detail"] = json.dumps(event["detail"])

    bay.events.put_events(Entries=again * 2)
    queue = consumer.resource(bay.stack, "Decisions")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = bay.stack.client("sqs")

    def taken() -> bool:
        left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return set(left.values()) == {"0"}

    def acted() -> Counter[tuple[str, int]]:
        return Counter((each["photo"], each["revision"]) for each in consumer.acted(bay.stack))

    expected = Counter((event["detail"]["photo"], event["detail"]["revision"]) for event in decided)
    assert sorted(revision for _, revision in expected) == [0, 0, 1, 2]
    wait_for(lambda: taken() and len(acted()) >= len(expected))
    assert acted() == expected
