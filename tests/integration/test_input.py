"""The inputs that the workflow accepts, the identity of photos, and the data that it passes on."""

import io
import json
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from .bay import Bay, picture, wait_for


@pytest.mark.parametrize(
    "name",
    [
        "two words.jpg",
        "a+b&c=d.jpg",
        "100%25.jpg",
        "Fahrrad-Straße-自転車.jpg",
        "quote'\"<script>.jpg",
        "x" * 888 + ".jpg",
    ],
    ids=["spaces", "plus", "percent", "non-ASCII", "quotes", "900 characters"],
)
def test_any_key_that_s3_takes_is_classified_under_its_raw_name(bay: Bay, name: str) -> None:
    key = bay.upload(picture("red"), unicodedata.normalize("NFC", name))

    decision = bay.outcome(key)

    assert (decision.status, decision.key) == ("ROUTED", f"uploads/{name}")
    assert decision.photo.startswith(f"s3://{bay.bucket}/uploads/{name}#")


def test_the_same_event_delivered_many_times_at_once_is_decided_and_announced_once(bay: Bay) -> None:
    data = picture("blue")
    bay.s3.put_object(Bucket=bay.bucket, Key="elsewhere/duplicate.jpg", Body=data)
    etag = bay.s3.head_object(Bucket=bay.bucket, Key="elsewhere/duplicate.jpg")["ETag"].strip('"')
    detail = {"bucket": {"name": bay.bucket}, "object": {"key": "elsewhere/duplicate.jpg", "etag": etag}}

    with ThreadPoolExecutor(8) as pool:
        ended = [bay.ended(execution) for execution in pool.map(bay.start, [detail] * 8)]

    assert {each["status"] for each in ended} == {"SUCCEEDED"}
    statuses = sorted(json.loads(each["output"])["status"] for each in ended)
    assert statuses == ["ALREADY_CLAIMED"] * 7 + ["ROUTED"]
    assert bay.outcome("elsewhere/duplicate.jpg").status == "ROUTED"
    assert len(wait_for(lambda: bay.announced("elsewhere/duplicate.jpg"))) == 1


def test_an_input_typed_by_hand_means_the_same_photo_as_its_upload(bay: Bay) -> None:
    key = bay.upload(picture("red"))
    bay.outcome(key)

    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key}))

    assert json.loads(ended["output"])["status"] == "ALREADY_CLAIMED"


@pytest.mark.parametrize(
    "typed", ['"{etag}"', "{ETAG}", "", "*", "etag"], ids=["quotes", "upper case", "empty", "star", "word"]
)
def test_an_etag_in_another_spelling_means_the_same_photo(bay: Bay, typed: str) -> None:
    key = bay.upload(picture("red"))
    etag = bay.outcome(key).etag or ""

    given = typed.format(etag=etag, ETAG=etag.upper())
    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key, "etag": given}))

    assert json.loads(ended["output"])["status"] == "ALREADY_CLAIMED"
    assert len(bay.decisions(key)) == 1


def test_a_key_that_ends_like_another_photo_s_name_does_not_take_its_place(bay: Bay) -> None:
    victim = bay.upload(picture("red"))
    etag = bay.outcome(victim).etag

    thief = bay.upload(picture("blue"), f"{victim.removeprefix('uploads/')}#{etag}")

    assert bay.outcome(thief).vehicle == "motorcycle"
    assert bay.outcome(victim).vehicle == "bicycle"


def test_another_photo_under_the_same_key_is_a_separate_photo(bay: Bay) -> None:
    key = bay.upload(picture("red"), "same-name.jpg")
    bay.outcome(key)

    bay.upload(picture("blue"), "same-name.jpg")

    both = wait_for(lambda: [each for each in [bay.decisions(key)] if len(each) == 2])[0]
    wait_for(lambda: {decision.vehicle for decision in bay.decisions(key)} == {"bicycle", "motorcycle"})
    assert len({decision.photo for decision in both}) == 2


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        "uploads/photo.jpg",
        {"s3_bucket": "INBOX"},
        {"s3_bucket": "INBOX", "s3_key": 5},
        {"s3_bucket": "INBOX", "s3_key": ""},
        {"s3_bucket": "INBOX", "s3_key": "k" * 1025},
        {"s3_bucket": "INBOX", "s3_key": "uploads/photo.jpg", "batch_id": 5},
        {"s3_bucket": "INBOX", "s3_key": "uploads/photo.jpg", "version_id": 5},
        {"s3_bucket": "another-bucket", "s3_key": "uploads/photo.jpg"},
        {"s3_bucket": "Not A Bucket", "s3_key": "uploads/photo.jpg"},
        {"bucket": {"name": "INBOX"}, "object": {}},
        {"bucket": {"name": "INBOX"}, "object": {"key": "", "etag": "0" * 32}},
        {"Records": [{"s3": {"object": {"key": "uploads/photo.jpg"}}}]},
    ],
    ids=lambda given: json.dumps(given)[:60],
)
def test_any_other_input_fails_with_a_clear_message_and_claims_nothing(bay: Bay, given: object) -> None:
    before = bay.dynamodb.scan(TableName=bay.table, Select="COUNT")["Count"]

    ended = bay.ended(bay.start(json.loads(json.dumps(given).replace("INBOX", bay.bucket))))

    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidInput")
    assert "s3_key" in ended["cause"]
    assert bay.dynamodb.scan(TableName=bay.table, Select="COUNT")["Count"] == before


def test_a_version_and_a_batch_that_are_null_count_as_not_given(bay: Bay) -> None:
    key = "elsewhere/null.jpg"
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("red"))

    ended = bay.ended(bay.start({"s3_bucket": bay.bucket, "s3_key": key, "version_id": None, "batch_id": None}))

    assert ended["status"] == "SUCCEEDED"
    assert bay.outcome(key).status == "ROUTED"


@pytest.mark.parametrize("name", ["new/", "old_$folder$"])
def test_the_marker_of_a_folder_is_not_a_photo(bay: Bay, name: str) -> None:
    bay.s3.put_object(Bucket=bay.bucket, Key=f"uploads/{name}", Body=b"")

    (execution,) = wait_for(lambda: bay.executions_of(f"uploads/{name}"))

    assert json.loads(bay.ended(execution["executionArn"])["output"]) == {"status": "NOT_A_PHOTO"}
    assert bay.decisions(f"uploads/{name}") == []


def test_a_version_without_its_etag_is_refused(bay: Bay) -> None:
    ended = bay.ended(bay.start({"s3_key": "uploads/photo.jpg", "version_id": "v1"}))

    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidInput")


def test_photos_outside_the_upload_prefix_are_ignored(bay: Bay) -> None:
    bay.s3.put_object(Bucket=bay.bucket, Key="backfill/photo.jpg", Body=picture("red"))

    # A later photo has been decided, and there is still no trace of the earlier one.
    bay.outcome(bay.upload(picture("red")))
    assert not bay.executions_of("backfill/photo.jpg")


def test_the_state_stays_below_200_kib_for_any_photo(bay: Bay) -> None:
    noise = io.BytesIO()
    Image.frombytes("RGB", (700, 700), random.Random(0).randbytes(700 * 700 * 3)).save(noise, "PNG")
    key = bay.upload(noise.getvalue(), "é" * 440 + ".png")

    execution = bay.outcome(key).execution_arn

    bay.ended(execution)
    pages = bay.sfn.get_paginator("get_execution_history").paginate(executionArn=execution)
    events = [event for page in pages for event in page["events"]]
    assert len(events) > 10
    largest = max(len(json.dumps(event, default=str).encode()) for event in events)
    assert largest < 200 * 1024
