"""ClassifyPhoto ends on a second interpreter as on the first, with arguments that AWS accepts."""

import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from functions.decisions.decision import plain_item
from functions.decisions.reason_code import ReasonCode
from functions.inference.endpoint import EndpointUnavailable, InvalidPrediction
from functions.photo.errors import DecoderFailed, PhotoNotFound, PhotoTooLarge, StorageUnavailable, UnreadablePhoto
from functions.threshold.confidence import LowConfidence

from .second_interpreter import REGION, Interpreter, Run, interpreter
from .service_models import problems

pytestmark = pytest.mark.long
KEY = 'uploads/Kim\'s "best" photo + a ü.jpg'
ETAG = "0123456789abcdef0123456789abcdef"
EVENT = {"bucket": {"name": "inbox"}, "object": {"key": KEY, "etag": ETAG, "version-id": "v1"}}


def raising(error: Exception) -> Any:
    def function(payload: dict[str, Any]) -> dict[str, Any]:
        raise error

    return function


@pytest.fixture
def bay() -> Iterator[Interpreter]:
    with interpreter() as found:
        found.values |= {
            "Partition": "aws",
            "StackName": "bay",
            "VehicleClasses": "bicycle:1:near,motorcycle:2:far",
            "InboxBucket": "inbox",
            "DecisionsTable": found.create_table("Decisions"),
            "DecisionRetentionDays": "365",
            "ClaimSeconds": "600",
            "RetryMillis": "300000",
            "LongestRetryMillis": "600000",
            "GiveUpAfterHours": "24",
        }
        found.functions = {
            "SerializeFunctionArn": lambda given: (
                given | {"image_data": "…", "uploaded_at": "2026-11-25T18:00:00.000Z"}
            ),
            "InferenceFunctionArn": lambda given: {
                "inferences": [0.97, 0.03],
                "probabilities": {"bicycle": 0.97, "motorcycle": 0.03},
                "variant": "AllTraffic",
            },
            "ThresholdFunctionArn": lambda given: (
                given | {"vehicle": "bicycle", "confidence": 0.97, "bay": "1", "order_range": "near"}
            ),
        }
        found.s3.create_bucket(Bucket="inbox")
        yield found


def classify(bay: Interpreter, execution_input: object = EVENT) -> Run:
    run = bay.run("ClassifyPhoto", execution_input)
    for integration, arguments in run.calls:
        assert problems(integration, arguments) == "", integration
    return run


def record(bay: Interpreter) -> dict[str, Any]:
    (item,) = bay.items("Decisions")
    return {name: next(iter(value.values())) for name, value in item.items()}


def announced(run: Run) -> list[tuple[str, dict[str, Any]]]:
    entries = [arguments["Entries"][0] for integration, arguments in run.calls if integration.service == "events"]
    return [(entry["DetailType"], entry["Detail"]) for entry in entries]


def published(run: Run) -> list[tuple[str, float]]:
    data = [arguments["MetricData"] for integration, arguments in run.calls if integration.service == "cloudwatch"]
    return [(metric["MetricName"], metric["Value"]) for metrics in data for metric in metrics]


def chosen(run: Run) -> tuple[str, str | None]:
    (copy,) = [arguments for integration, arguments in run.calls if integration.action == "copyObject"][:1]
    return copy["Metadata"]["chosen"], copy["Metadata"].get("audit-share")


def test_a_sure_photo_is_routed(bay: Interpreter) -> None:
    run = classify(bay)

    assert (run.status, run.states[-1]) == ("SUCCEEDED", "VehicleRouted")
    found = record(bay)
    assert found["photo"] == f"s3://inbox/{KEY}#{ETAG}"
    assert (found["status"], found["vehicle"], found["bay"], found["order_range"]) == ("ROUTED", "bicycle", "1", "near")
    assert found["probabilities"] == {"bicycle": {"N": "0.97"}, "motorcycle": {"N": "0.03"}}
    assert "queue" not in found
    ((kind, detail),) = announced(run)
    assert (kind, detail["stack"], detail["scores"]) == ("Vehicle Routed", "bay", "bicycle 0.97, motorcycle 0.03")
    assert detail["claim"] == found["claim"]


def test_what_was_found_in_a_photo_is_recorded_and_announced(bay: Interpreter) -> None:
    box = {"left": 0.25, "top": 0.1, "right": 0.75, "bottom": 0}
    found = {"box": box, "score": 0.8, "counts": {"bicycle": 1, "motorcycle": 1}, "reason_code": "SEVERAL_VEHICLES"}
    answer = bay.functions["InferenceFunctionArn"]
    bay.functions["InferenceFunctionArn"] = lambda given: answer(given) | {"detection": found}

    run = classify(bay)

    (item,) = bay.items("Decisions")
    assert plain_item(item)["detection"] == found
    ((_, detail),) = announced(run)
    assert detail["detection"] == found


def test_an_unsure_endpoint_s_reason_is_that_of_the_review(bay: Interpreter) -> None:
    answer = bay.functions["InferenceFunctionArn"]
    bay.functions["InferenceFunctionArn"] = lambda given: answer(given) | {"detection": {"reason_code": "TOO_SMALL"}}
    bay.functions["ThresholdFunctionArn"] = raising(LowConfidence("none reaches 0.9"))

    run = classify(bay)

    assert (record(bay)["status"], record(bay)["reason_code"]) == ("REVIEW", "TOO_SMALL")
    assert announced(run)[0][1]["reason_code"] == "TOO_SMALL"


def test_what_an_earlier_run_found_is_forgotten(bay: Interpreter) -> None:
    answer, threshold = bay.functions["InferenceFunctionArn"], bay.functions["ThresholdFunctionArn"]
    bay.functions["InferenceFunctionArn"] = lambda given: answer(given) | {"detection": {"reason_code": "UNSURE"}}
    bay.functions["ThresholdFunctionArn"] = raising(RuntimeError("out of luck"))
    classify(bay)
    assert record(bay)["status"] == "FAILED"
    bay.functions |= {"InferenceFunctionArn": answer, "ThresholdFunctionArn": threshold}

    classify(bay)

    assert (record(bay)["status"], record(bay).get("detection")) == ("ROUTED", None)


def test_a_photo_to_audit_is_routed_like_any_other_and_then_waits_for_a_person(bay: Interpreter) -> None:
    ((_, told),) = announced(classify(bay, {"s3_key": KEY, "etag": ETAG}))
    other = {"s3_key": "uploads/other.jpg", "etag": ETAG}
    choose = bay.functions["ThresholdFunctionArn"]
    bay.functions["ThresholdFunctionArn"] = lambda given: choose(given) | {"audit_share": 0.02}

    ((kind, detail),) = announced(classify(bay, other))

    (found,) = [item for item in bay.items("Decisions") if item["s3_key"]["S"] == other["s3_key"]]
    assert (found["status"]["S"], found["audit_share"]["N"]) == ("ROUTED", "0.02")
    assert found["queue"]["S"] == f"AUDIT#{found['claim']['S'][0]}"
    assert (kind, detail.keys()) == ("Vehicle Routed", told.keys())
    assert classify(bay, other).states[-1] == "AlreadyClaimed"


@pytest.mark.parametrize(
    ("vehicle", "revision", "is_announced"),
    [("bicycle", "1", False), ("motorcycle", "1", True), (None, "1", True), ("bicycle", "3", True)],
)
def test_an_audit_is_announced_if_it_changes_the_outcome(
    bay: Interpreter, vehicle: str | None, revision: str, is_announced: bool
) -> None:
    bay.s3.put_object(Bucket="inbox", Key=KEY, Body=b"photo")
    item = {"photo": "p", "s3_bucket": "inbox", "s3_key": KEY, "version_id": "1", "claim": "c", "review_id": "r"}
    item |= {"queue": "OPEN#0", "label": "labels/x", "routed_as": "bicycle:1:near", "status": "ROUTED"}
    item |= {"vehicle": vehicle} if vehicle else {"status": "REJECTED"}
    values: dict[str, Any] = {name: {"S": value} for name, value in item.items()} | {"revision": {"N": revision}}
    values["audit_share"] = {"N": "0.02"}
    bay.dynamodb.put_item(TableName=bay.values["DecisionsTable"], Item=values)
    bay.values |= {"UndoSeconds": "0"}

    run = bay.run("AnnounceReview", {"photo": "p", "review_id": "r"})

    assert [detail["photo"] for _, detail in announced(run)] == ["p"] * is_announced
    assert not any({"audit_share", "routed_as"} & detail.keys() for _, detail in announced(run))
    assert "KeepLabel" in run.states
    assert "queue" not in record(bay)
    audit_errors = [value for name, value in published(run) if name == "AuditErrors"]
    assert audit_errors == ([int(vehicle != "bicycle")] if revision == "1" else [])
    assert chosen(run) == ("audit", "0.02")


def test_a_review_says_nothing_about_photos_that_the_model_was_sure_of(bay: Interpreter) -> None:
    item = {"photo": "p", "s3_bucket": "inbox", "s3_key": KEY, "version_id": "1", "claim": "c", "review_id": "r"}
    item |= {"queue": "OPEN#0", "label": "labels/x", "status": "ROUTED", "vehicle": "bicycle"}
    values: dict[str, Any] = {name: {"S": value} for name, value in item.items()} | {"revision": {"N": "1"}}
    bay.dynamodb.put_item(TableName=bay.values["DecisionsTable"], Item=values)
    bay.values |= {"UndoSeconds": "0"}

    run = bay.run("AnnounceReview", {"photo": "p", "review_id": "r"})

    assert (len(announced(run)), published(run)) == (1, [])
    assert chosen(run) == ("review", None)


def test_a_decision_that_was_drawn_waits_for_another_person_once_it_is_announced(bay: Interpreter) -> None:
    item = {"photo": "p", "s3_bucket": "inbox", "s3_key": KEY, "version_id": "1", "claim": "c", "review_id": "r"}
    item |= {"queue": "OPEN#c", "label": "labels/x", "status": "ROUTED", "vehicle": "bicycle"}
    item |= {"reviewed_at": "2026-11-25T10:00:00.000Z"}
    numbers = {"revision": {"N": "1"}, "second_share": {"N": "0.05"}}
    values: dict[str, Any] = {name: {"S": value} for name, value in item.items()} | numbers
    bay.dynamodb.put_item(TableName=bay.values["DecisionsTable"], Item=values)
    bay.values |= {"UndoSeconds": "0"}

    ((_, detail),) = announced(bay.run("AnnounceReview", {"photo": "p", "review_id": "r"}))

    assert "second_share" not in detail
    assert (record(bay)["queue"], record(bay)["due_at"]) == ("SECOND#c", "1795600800")


@pytest.mark.parametrize(("share", "said"), [(None, ("second", None)), ("0.02", ("audit", "0.02"))])
def test_a_third_person_s_label_says_so_but_an_audit_s_keeps_its_share(
    bay: Interpreter, share: str | None, said: tuple[str, str | None]
) -> None:
    bay.s3.put_object(Bucket="inbox", Key=KEY, Body=b"photo")
    item = {"photo": "p", "s3_bucket": "inbox", "s3_key": KEY, "version_id": "1", "claim": "c", "review_id": "r3"}
    item |= {"queue": "OPEN#c", "label": "labels/x", "status": "ROUTED", "vehicle": "bicycle"}
    values: dict[str, Any] = {name: {"S": value} for name, value in item.items()} | {"revision": {"N": "2"}}
    values["opinions"] = {"L": [{"M": {"id": {"S": each}}} for each in ("r1", "r2", "r3")]}
    values |= {"audit_share": {"N": share}} if share else {}
    bay.dynamodb.put_item(TableName=bay.values["DecisionsTable"], Item=values)
    bay.values |= {"UndoSeconds": "0"}

    run = bay.run("AnnounceReview", {"photo": "p", "review_id": "r3"})

    assert chosen(run) == said
    assert "opinions" not in announced(run)[0][1]
    assert "queue" not in record(bay)


@pytest.mark.parametrize(
    ("function", "error", "status", "code", "kind"),
    [
        ("SerializeFunctionArn", PhotoNotFound('{"reason": "gone"}'), "REJECTED", "NOT_FOUND", "Photo Rejected"),
        (
            "SerializeFunctionArn",
            PhotoTooLarge('{"reason": "60 MB", "order": "4711"}'),
            "REJECTED",
            "TOO_LARGE",
            "Photo Rejected",
        ),
        (
            "SerializeFunctionArn",
            UnreadablePhoto('{"reason": "no photo", "order": "4711"}'),
            "REJECTED",
            "UNREADABLE",
            "Photo Rejected",
        ),
        ("SerializeFunctionArn", StorageUnavailable("S3"), "FAILED", "STORAGE_UNAVAILABLE", "Classification Failed"),
        ("SerializeFunctionArn", DecoderFailed("killed"), "FAILED", "UNEXPECTED", "Classification Failed"),
        ("ThresholdFunctionArn", LowConfidence("0.52 < 0.9"), "REVIEW", "UNSURE", "Photo Needs Review"),
        ("InferenceFunctionArn", InvalidPrediction("no"), "FAILED", "INVALID_PREDICTION", "Classification Failed"),
        ("InferenceFunctionArn", EndpointUnavailable("no"), "FAILED", "ENDPOINT_UNAVAILABLE", "Classification Failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_a_function_is_recorded_and_announced(
    bay: Interpreter, function: str, error: Exception, status: str, code: ReasonCode, kind: str
) -> None:
    bay.functions[function] = raising(error)

    run = classify(bay)

    assert run.status == "FAILED"
    assert (record(bay)["status"], record(bay)["error"]) == (status, type(error).__name__)
    rejected = json.loads(str(error)) if status == "REJECTED" else {"reason": str(error)}
    assert (record(bay)["reason"], record(bay)["reason_code"]) == (rejected["reason"], ReasonCode(code))
    assert record(bay).get("order") == rejected.get("order")
    ((told, detail),) = announced(run)
    assert (told, detail["reason_code"], detail["order"]) == (kind, code, rejected.get("order", ""))


@pytest.mark.parametrize(
    ("key", "driver"),
    [
        ("uploads/driver-7/photo.jpg", "driver-7"),
        ("uploads/driver-7/2026/11/photo.jpg", "driver-7"),
        ("uploads/photo.jpg", ""),
        ("uploads//photo.jpg", ""),
        ("uploads/../photo.jpg", ".."),
        ("uploads/a\n\"'<b>\u202e/photo.jpg", "a\n\"'<b>\u202e"),
        ("backfill/driver-7/photo.jpg", ""),
        ("backfill/uploads/driver-7/photo.jpg", ""),
    ],
)
def test_the_driver_is_the_first_folder_below_the_upload_prefix(bay: Interpreter, key: str, driver: str) -> None:
    bay.values["UploadPrefix"] = "uploads/"

    run = classify(bay, {"s3_key": key, "etag": ETAG})

    assert record(bay)["driver"] == driver
    ((_, detail),) = announced(run)
    assert (detail["driver"], detail["order"]) == (driver, "")


def test_the_order_that_a_photo_was_uploaded_with_is_recorded_and_announced(bay: Interpreter) -> None:
    read = bay.functions["SerializeFunctionArn"]
    bay.functions["SerializeFunctionArn"] = lambda given: read(given) | {"order": "4711"}

    run = classify(bay)

    assert record(bay)["order"] == "4711"
    assert [detail["order"] for _, detail in announced(run)] == ["4711"]


def test_the_second_event_of_a_photo_finds_it_claimed(bay: Interpreter) -> None:
    first = classify(bay)
    second = classify(bay)

    assert second.states[-1] == "AlreadyClaimed"
    assert second.output == {"photo": f"s3://inbox/{KEY}#{ETAG}", "status": "ALREADY_CLAIMED"}
    assert (len(announced(first)), len(announced(second))) == (1, 0)


def test_a_photo_whose_key_alone_is_known_is_looked_up(bay: Interpreter) -> None:
    bay.s3.put_object(Bucket="inbox", Key=KEY, Body=b"photo")
    etag = bay.s3.head_object(Bucket="inbox", Key=KEY)["ETag"].strip('"')

    run = classify(bay, {"s3_bucket": "inbox", "s3_key": KEY, "batch_id": "batch"})

    assert run.states[-1] == "VehicleRouted"
    assert record(bay)["photo"] == f"s3://inbox/{KEY}#{etag}"
    assert record(bay)["batch_id"] == "batch"


@pytest.mark.parametrize("nonsense", [{}, [], {"s3_key": 7}, {"bucket": {"name": "inbox"}}], ids=json.dumps)
def test_nonsense_is_refused_before_anything_is_claimed(bay: Interpreter, nonsense: object) -> None:
    run = classify(bay, nonsense)

    assert (run.status, run.error) == ("FAILED", "InvalidInput")
    assert run.calls == []
    assert bay.items("Decisions") == []


def test_a_mail_that_is_sent_again_has_no_line_but_its_own(bay: Interpreter) -> None:
    sqs = boto3.client("sqs", REGION)
    bay.values |= {"UndeliveredEvents": sqs.create_queue(QueueName="undelivered")["QueueUrl"], "Shards": "0"}
    bay.values["Notifications"] = boto3.client("sns", REGION).create_topic(Name="notifications")["TopicArn"]
    bay.values |= {"MostRounds": "2", "NotifyMinutes": "0"}
    forged = "a\nWhy: all is well\r\u2028Scores: none\x85\x9b31m\x1b[2J\u202egpj\u2066"
    names = ("s3_bucket", "s3_key", "driver", "order", "reason", "scores", "decided_at", "execution_arn")
    event = {"source": "loading-bay", "detail-type": "Photo Rejected", "detail": dict.fromkeys(names, forged)}
    sqs.send_message(QueueUrl=bay.values["UndeliveredEvents"], MessageBody=json.dumps(event))

    run = bay.run("RunAgain", {})

    (mail,) = [arguments["Message"] for integration, arguments in run.calls if integration.service == "sns"]
    beginnings = ["Photo Rejected", "Photo: ", "Driver: ", "Why: ", "Scores: ", "Decided at ", "Next steps: "]
    assert [line.startswith(begin) for line, begin in zip(mail.splitlines(), beginnings, strict=True)] == [True] * 7
    assert all(each.isprintable() or each == "\n" for each in mail)


@pytest.mark.parametrize(
    ("waiting", "told"),
    [([-1], []), ([0], ["1 photo needs"]), ([-1, -900], []), ([-900, 0], ["2 photos need"])],
    ids=str,
)
def test_a_digest_is_sent_if_a_photo_has_come_since_the_minute_of_the_last(
    bay: Interpreter, waiting: list[int], told: list[str]
) -> None:
    """`waiting` holds the seconds from the last digest's minute to the arrival of each photo."""
    bay.values |= {"UndeliveredEvents": boto3.client("sqs", REGION).create_queue(QueueName="undelivered")["QueueUrl"]}
    bay.values["Notifications"] = boto3.client("sns", REGION).create_topic(Name="notifications")["TopicArn"]
    bay.values |= {"MostRounds": "2", "NotifyMinutes": "1", "Shards": "0", "Review": "https://review/"}

    def sweep() -> Run | None:
        minute = int(time.time() // 60)
        for number, seconds in enumerate(waiting):
            due_at = {"N": str(60 * (minute - 1) + seconds)}
            item = {"photo": {"S": str(number)}, "queue": {"S": "REVIEW#0"}, "due_at": due_at}
            bay.dynamodb.put_item(TableName=bay.values["DecisionsTable"], Item=item)
        run = bay.run("RunAgain", {})
        return run if minute == int(time.time() // 60) else None

    run = sweep() or sweep()  # a minute may end meanwhile

    assert run
    mails = [arguments["Message"] for integration, arguments in run.calls if integration.service == "sns"]
    assert [mail.partition(" review")[0] for mail in mails] == told
