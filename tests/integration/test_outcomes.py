"""Every outcome of a really uploaded photo: recorded once, announced once, with the right end."""

import json
import uuid
from functools import partial

import pytest
from starlette.responses import Response

from tests.fuzz.poison import FAMILIES

from .bay import Bay, picture, wait_for
from .endpoint import Answer, Endpoint, by_colour, failure, scores


@pytest.fixture
def bay(either_bay: Bay) -> Bay:
    return either_bay


def assert_told_once(bay: Bay, key: str, detail_type: str) -> dict[str, object]:
    """Assert that exactly one event announced the photo, and return its detail."""
    announced = wait_for(lambda: bay.announced(key))
    assert [event["detail-type"] for event in announced] == [detail_type]
    detail: dict[str, object] = announced[0]["detail"]
    return detail


@pytest.mark.parametrize(
    ("colour", "vehicle", "probabilities", "place"),
    [
        ("red", "bicycle", {"bicycle": 0.97, "motorcycle": 0.03}, "1 (near)"),
        ("blue", "motorcycle", {"bicycle": 0.02, "motorcycle": 0.98}, "2 (far)"),
    ],
)
def test_a_sure_photo_routes_its_driver(
    bay: Bay, colour: str, vehicle: str, probabilities: dict[str, float], place: str
) -> None:
    key = bay.upload(picture(colour))

    decision = bay.outcome(key)

    assert (decision.status, decision.vehicle, decision.place) == ("ROUTED", vehicle, place)
    assert decision.confidence == pytest.approx(probabilities[vehicle])
    ended = bay.ended(decision.execution_arn)
    assert ended["status"] == "SUCCEEDED"
    detail = assert_told_once(bay, key, "Vehicle Routed")
    assert detail["vehicle"] == vehicle
    assert detail["probabilities"] == pytest.approx(probabilities)
    assert not bay.notified(key)


def test_an_unsure_photo_goes_to_a_person_with_its_scores(bay: Bay) -> None:
    key = bay.upload(picture("grey"))

    decision = bay.outcome(key)

    assert decision.status == "REVIEW"
    assert decision.confidence == pytest.approx(0.52)
    assert not decision.vehicle
    ended = bay.ended(decision.execution_arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "LowConfidence")
    assert_told_once(bay, key, "Photo Needs Review")


def test_a_decision_lands_in_the_queue_for_consumers_and_nothing_else_does(standard_bay: Bay) -> None:
    sqs, queue = standard_bay.stack.client("sqs"), standard_bay.stack.outputs["DecisionQueueUrl"]
    sqs.purge_queue(QueueUrl=queue)
    unsure, sure = standard_bay.upload(picture("grey")), standard_bay.upload(picture("red"))
    wait_for(partial(standard_bay.waits, unsure))
    expected = assert_told_once(standard_bay, sure, "Vehicle Routed")

    bodies = wait_for(
        lambda: [
            each["Body"] for each in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        ]
    )

    assert [json.loads(body)["detail"] for body in bodies] == [expected]


def test_photos_that_need_review_are_told_together(standard_bay: Bay) -> None:
    keys = [standard_bay.upload(picture("grey", size=(50 + number, 40))) for number in range(3)]
    for key in keys:
        wait_for(partial(standard_bay.waits, key))

    standard_bay.sweep()

    told = wait_for(lambda: standard_bay.notified_of("need review in"))
    waiting = sum(each.in_queue("REVIEW") for each in standard_bay.all_decisions())
    assert told[-1].startswith(f"{waiting} photos need review in loading-bay.")
    assert standard_bay.stack.outputs["ReviewUrl"] in told[-1]
    assert not any(standard_bay.notified(key) for key in keys)


def test_or_each_is_told_with_its_scores(express_bay: Bay) -> None:
    key = express_bay.upload(picture("grey"))

    (message,) = wait_for(lambda: express_bay.notified(key))
    for part in ("Photo Needs Review", "none reaches 0.9", "bicycle 0.52", "motorcycle 0.48"):
        assert part in message


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"this is not a photo", "UnreadablePhoto", "not a JPEG, PNG, WebP, HEIC or AVIF photo"),
        (picture("red", size=(640, 480))[:-200], "UnreadablePhoto", "damaged"),
        (b"", "UnreadablePhoto", "the object is empty"),
        (picture("red") + bytes(26214400), "PhotoTooLarge", "more than 26,214,400 are accepted"),
        (picture("red", "PNG", (10_000, 6_000)), "PhotoTooLarge", "10000 × 6000 pixels"),
        (FAMILIES["JPEG of empty scans"](3_000), "UnreadablePhoto", "more than 100 scans"),
        (FAMILIES["HEIC of one large tile many times"](500), "PhotoTooLarge", "tiles have 537 megapixels"),
    ],
    ids=["text", "cut off", "empty", "too many bytes", "too many pixels", "too many scans", "too many tiles"],
)
def test_an_unusable_photo_is_rejected_with_a_reason(
    bay: Bay, endpoint: Endpoint, data: bytes, error: str, reason: str
) -> None:
    with endpoint.answering(by_colour):
        key = bay.upload(data, order="A-4711")
        decision = bay.outcome(key)

    assert (decision.status, decision.error, decision.order) == ("REJECTED", error, "A-4711")
    assert decision.probabilities is None
    assert reason in decision.why
    ended = bay.ended(decision.execution_arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "PhotoRejected")
    assert assert_told_once(bay, key, "Photo Rejected")["order"] == "A-4711"
    (message,) = wait_for(lambda: bay.notified(key))
    assert reason in message


def test_a_photo_that_is_gone_before_it_is_read_is_rejected(bay: Bay) -> None:
    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": "uploads/never-was.jpg"}))

    assert ended["error"] == "PhotoRejected"
    decision = bay.outcome("uploads/never-was.jpg")
    assert (decision.status, decision.error) == ("REJECTED", "PhotoNotFound")


def test_a_photo_overwritten_before_it_is_read_is_not_mistaken_for_the_new_one(bay: Bay) -> None:
    key = bay.upload(picture("red"))
    bay.outcome(key)
    detail = {"bucket": {"name": bay.bucket}, "object": {"key": key, "etag": "0" * 32}}

    ended = bay.ended(bay.start(detail))

    assert ended["error"] == "PhotoRejected"
    assert "was overwritten before it could be read" in ended["cause"]


def test_a_photo_waits_for_an_endpoint_that_comes_back(bay: Bay, endpoint: Endpoint) -> None:
    def down_three_times(body: bytes) -> Response:
        unavailable = failure(503, "ServiceUnavailable")
        return unavailable if endpoint.calls <= 3 else by_colour(body)

    with endpoint.answering(down_three_times):
        decision = bay.outcome(bay.upload(picture("red")))

    assert (decision.status, decision.vehicle) == ("ROUTED", "bicycle")


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: failure(503, "ServiceUnavailable"),
        lambda body: failure(429, "ThrottlingException"),
        lambda body: failure(424, "ModelError", OriginalStatusCode=500, OriginalMessage="out of memory"),
        lambda body: failure(400, "ValidationError", Message="Endpoint loading-bay of account 1 not found."),
    ],
    ids=["unavailable", "throttled", "model failing", "no such endpoint"],
)
def test_an_endpoint_that_never_comes_back_fails_the_photo_which_can_be_run_again(
    bay: Bay, endpoint: Endpoint, answer: Answer
) -> None:
    with endpoint.answering(answer):
        key = bay.upload(picture("red"))
        decision = bay.outcome(key)
        assert endpoint.calls >= 9  # the first call and eight retries of the state machine

    assert (decision.status, decision.error) == ("FAILED", "EndpointUnavailable")
    ended = bay.ended(decision.execution_arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "ClassificationFailed")
    assert_told_once(bay, key, "Classification Failed")

    bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key}))

    assert bay.outcome(key).status == "ROUTED"


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: Response("[NaN, NaN]", media_type="application/json"),
        lambda body: scores(0.2, 0.3, 0.5),
        lambda body: scores(1.0),
        lambda body: scores(0.9, 0.9),
        lambda body: scores(1.5, -0.5),
        lambda body: Response("<html>It works!</html>", media_type="text/html"),
        lambda body: Response("[" * 60_000, media_type="application/json"),
        lambda body: failure(424, "ModelError", OriginalStatusCode=400, OriginalMessage="no picture"),
    ],
    ids=["NaN", "three", "one", "sum", "out of range", "HTML", "nested", "refused"],
)
def test_a_useless_answer_fails_the_photo_at_once(bay: Bay, endpoint: Endpoint, answer: Answer) -> None:
    with endpoint.answering(answer):
        key = bay.upload(picture("red"))
        decision = bay.outcome(key)
        assert endpoint.calls == 1

    assert (decision.status, decision.error) == ("FAILED", "InvalidPrediction")
    assert bay.ended(decision.execution_arn)["error"] == "ClassificationFailed"
    assert_told_once(bay, key, "Classification Failed")


def test_driver_and_order_go_with_a_photo_everywhere(bay: Bay) -> None:
    driver = f"driver-{uuid.uuid4().hex[:8]}"
    key = bay.upload(picture("grey"), f"{driver}/photo.jpg", order="A-4711")

    decision = bay.outcome(key)

    assert (decision.driver, decision.order) == (driver, "A-4711")
    detail = assert_told_once(bay, key, "Photo Needs Review")
    assert (detail["driver"], detail["order"], detail["reason_code"]) == (driver, "A-4711", "UNSURE")


def test_a_mail_names_driver_order_and_what_helps(express_bay: Bay) -> None:
    key = express_bay.upload(picture("grey"), f"driver-7/{uuid.uuid4().hex}.jpg", order="A-4711")

    (message,) = wait_for(lambda: express_bay.notified(key))

    assert "Driver: driver-7, order: A-4711" in message
    assert "loading-bay review list, watch or replay --dry-run, with --stack-name loading-bay" in message


def test_the_same_bytes_again_with_another_order_are_the_same_photo(bay: Bay) -> None:
    name = f"driver-7/{uuid.uuid4().hex}.jpg"
    key = bay.upload(picture("red"), name, order="first")
    assert bay.outcome(key).order == "first"

    bay.upload(picture("red"), name, order="second")

    ends = wait_for(lambda: (found := bay.executions_of(key))[1:] and found)
    assert sorted(bay.ended(each["executionArn"])["status"] for each in ends) == ["SUCCEEDED", "SUCCEEDED"]
    assert bay.outcome(key).order == "first"
    assert_told_once(bay, key, "Vehicle Routed")


@pytest.mark.parametrize("order", ["../../x", "a b", "x" * 65, "=?utf-8?q?=00?=", "<b>1</b>"])
def test_an_order_that_is_not_valid_is_left_out_and_the_photo_is_classified(bay: Bay, order: str) -> None:
    key = bay.upload(picture("red"), f"driver-7/{uuid.uuid4().hex}.jpg", order=order)

    decision = bay.outcome(key)

    assert (decision.status, decision.driver, decision.order) == ("ROUTED", "driver-7", None)
    assert assert_told_once(bay, key, "Vehicle Routed")["order"] == ""
