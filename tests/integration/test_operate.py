"""The commands of loading-bay, as a user runs them, against the deployed stack."""

import json
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loading_bay.cli.main import main

from .bay import Bay, picture, wait_for
from .endpoint import Endpoint, failure

Operate = Callable[..., Result]


@pytest.fixture
def operate(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> Operate:
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="loading-bay")

    return run


def test_a_batch_is_started_followed_and_summed_up(bay: Bay, operate: Operate, tmp_path: Path) -> None:
    for name in ("one", "two"):
        bay.s3.put_object(Bucket=bay.bucket, Key=f"cli/{name}.jpg", Body=picture("red", size=(60, len(name) + 60)))
    manifest = tmp_path / "photos.csv"
    manifest.write_text("s3_key\ncli/one.jpg\ncli/none.jpg\n")

    arguments = ["batch", "start", "--manifest", str(manifest), "--wait", "--json"]
    done = CliRunner(mix_stderr=False).invoke(main, arguments)

    assert done.exit_code == 3, done.output
    summary = json.loads(done.stdout)
    assert (summary["photos"], summary["routed"]["bicycle"], summary["rejected"]) == (2, 1, 1)
    followed = operate("batch", "follow", summary["batch_id"])
    assert followed.exit_code == 3
    assert "routed: bicycle" in followed.output
    assert "1 NOT_FOUND" in followed.output
    rejected = operate("batch", "show", summary["batch_id"], "--rejected")
    assert rejected.output.startswith("cli/none.jpg\n    PhotoNotFound: ")
    assert all(isinstance(summary[name], int) for name in ("photos", "rejected", "failed", "already_decided"))
    listed = operate("batch", "list").output
    assert f"{summary['batch_id']}\n    2 photos: 1 routed, 1 rejected" in listed
    assert "nothing failed" in operate("batch", "retry", summary["batch_id"]).output


def test_a_batch_with_failed_photos_exits_with_1_and_its_retry_with_0(
    bay: Bay, operate: Operate, endpoint: Endpoint
) -> None:
    bay.s3.put_object(Bucket=bay.bucket, Key="cli-failing/one.jpg", Body=picture("red", size=(61, 61)))

    with endpoint.answering(lambda body: failure(503, "ServiceUnavailable")):
        done = operate("batch", "start", "--prefix", "cli-failing/", "--name", "cli-failing", "--wait")

    assert done.exit_code == 1
    assert "loading-bay batch retry cli-failing" in done.output
    again = operate("batch", "retry", "cli-failing", "--wait", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["routed"]["bicycle"] == 1


def test_failed_photos_abandoned_claims_and_undelivered_events_are_replayed(
    bay: Bay, operate: Operate, endpoint: Endpoint
) -> None:
    # Given a photo that failed,
    with endpoint.answering(lambda body: failure(503, "ServiceUnavailable")):
        failed = bay.upload(picture("red"), "replay/failed.jpg")
        assert bay.outcome(failed).status == "FAILED"
    # one whose execution died with its claim,
    bay.s3.put_object(Bucket=bay.bucket, Key="elsewhere/abandoned.jpg", Body=picture("blue"))
    etag = bay.s3.head_object(Bucket=bay.bucket, Key="elsewhere/abandoned.jpg")["ETag"].strip('"')
    claim = {
        "photo": {"S": f"s3://{bay.bucket}/elsewhere/abandoned.jpg#{etag}"},
        "s3_bucket": {"S": bay.bucket},
        "s3_key": {"S": "elsewhere/abandoned.jpg"},
        "etag": {"S": etag},
        "status": {"S": "CLAIMED"},
        "claimed_at": {"S": "2026-01-01T00:00:00.000Z"},
        "claim": {"S": "0abandoned"},
        "queue": {"S": "OPEN#0"},
        "due_at": {"N": "1767229200"},
        "execution_arn": {"S": "arn:aws:states:::execution:gone"},
    }
    bay.dynamodb.put_item(TableName=bay.table, Item=claim)
    # and one whose event was lost
    bay.s3.put_object(Bucket=bay.bucket, Key="elsewhere/undelivered.jpg", Body=picture("red", size=(50, 50)))
    etag = bay.s3.head_object(Bucket=bay.bucket, Key="elsewhere/undelivered.jpg")["ETag"].strip('"')
    detail = {"bucket": {"name": bay.bucket}, "object": {"key": "elsewhere/undelivered.jpg", "etag": etag}}
    event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    queue = bay.stack.outputs["UndeliveredEventsQueue"]
    for body in (json.dumps(event), "no JSON"):
        bay.stack.client("sqs").send_message(QueueUrl=queue, MessageBody=body)

    listed = operate("replay", "--dry-run")
    assert listed.exit_code == 0, listed.output
    for name in ("replay/failed.jpg", "elsewhere/abandoned.jpg", "elsewhere/undelivered.jpg", "no JSON"):
        assert name in listed.output
    replayed = operate("replay")

    assert replayed.exit_code == 0, replayed.output
    for key in (failed, "elsewhere/abandoned.jpg", "elsewhere/undelivered.jpg"):
        wait_for(partial(_is_routed, bay, key))
    bay.stack.client("sqs").purge_queue(QueueUrl=queue)
    assert "0 to run again" in operate("replay", "--dry-run").output


def test_a_replay_announces_a_person_s_pending_decision(bay: Bay, operate: Operate) -> None:
    key = bay.upload(picture("grey", size=(78, 77)), "replay/decided.jpg")
    wait_for(partial(bay.waits, key))
    (waiting,) = bay.decisions(key)
    # The record of a function that died between recording the decision and starting its announcement.
    decided = {
        ":routed": {"S": "ROUTED"},
        ":vehicle": {"S": "motorcycle"},
        ":ann": {"S": "ann"},
        ":id": {"S": str(uuid.uuid4())},
        ":revision": {"N": "1"},
        ":bay": {"S": "2"},
        ":orders": {"S": "far"},
        ":label": {"S": f"labels/motorcycle/{waiting.claim}"},
        ":queue": {"S": f"OPEN#{(waiting.claim or '')[0]}"},
        ":past": {"N": "1"},
    }
    bay.dynamodb.update_item(
        TableName=bay.table,
        Key={"photo": {"S": waiting.photo}},
        UpdateExpression="SET #status = :routed, vehicle = :vehicle, reviewed_by = :ann, review_id = :id,"
        " revision = :revision, label = :label, queue = :queue, due_at = :past,"
        " bay = :bay, order_range = :orders",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues=decided,
    )

    assert "decided by ann, but not announced" in operate("replay", "--dry-run").output
    assert operate("replay").exit_code == 0

    wait_for(lambda: kinds(bay, key) == ["Photo Needs Review", "Vehicle Routed"])


def kinds(bay: Bay, key: str) -> list[str]:
    return [event["detail-type"] for event in bay.announced(key)]


def _is_routed(bay: Bay, key: str) -> bool:
    return bay.outcome(key).status == "ROUTED"


def test_a_person_routes_a_photo_that_the_model_was_unsure_of(bay: Bay, operate: Operate, tmp_path: Path) -> None:
    key = bay.upload(picture("grey", size=(77, 77)), "review/unsure.jpg")
    wait_for(partial(bay.waits, key))
    assert key in operate("review", "list").output

    refused = operate("review", "decide", key, "unicycle")
    assert refused.exit_code == 1
    assert "choose one of bicycle, motorcycle" in refused.output
    decided = operate("review", "decide", key, "motorcycle", "--reviewer", "Kim")

    assert decided.exit_code == 0, decided.output
    assert "goes to bay 2 (far)" in decided.output
    decision = bay.outcome(key)
    assert (decision.status, decision.vehicle, decision.place) == ("ROUTED", "motorcycle", "2 (far)")
    assert decision.reviewed_by == "Kim"
    wait_for(lambda: kinds(bay, key) == ["Photo Needs Review", "Vehicle Routed"])
    assert key not in operate("review", "list").output
    assert operate("review", "decide", key, "bicycle").exit_code == 1
    wait_for(lambda: bay.outcome(key).label_etag)
    bay.s3.delete_object(Bucket=bay.bucket, Key=key)  # uploads expire long before labels
    assert operate("review", "export", str(tmp_path)).exit_code == 0
    (exported,) = (tmp_path / "motorcycle").glob("*-unsure.jpg")
    assert exported.read_bytes() == picture("grey", size=(77, 77))


def test_an_export_leaves_out_and_names_deleted_or_changed_labels(bay: Bay, operate: Operate, tmp_path: Path) -> None:
    keys = [f"uploads/export/{name}" for name in ("gone.jpg", "changed.jpg", f"{'ä' * 120}.jpg")]
    for number, key in enumerate(keys):
        bay.upload(picture("grey", size=(79, 79 + number)), key.removeprefix("uploads/"))
        wait_for(partial(bay.waits, key))
        assert operate("review", "decide", key, "bicycle").exit_code == 0
        wait_for(partial(_has_label, bay, key))
    gone, changed, _ = (str(bay.outcome(key).label) for key in keys)
    bay.s3.delete_object(Bucket=bay.bucket, Key=gone)
    bay.s3.put_object(Bucket=bay.bucket, Key=changed, Body=picture("blue"))

    done = operate("review", "export", str(tmp_path))

    assert done.exit_code == 0, done.output
    assert f"left out: {keys[0]}: its label was deleted" in done.output
    assert f"left out: {keys[1]}: its label was changed since" in done.output
    exported = [path.name for path in (tmp_path / "bicycle").iterdir()]
    assert [name for name in exported if name.endswith("ä.jpg")]
    assert not [name for name in exported if name.endswith(("gone.jpg", "changed.jpg"))]


def _has_label(bay: Bay, key: str) -> bool:
    return bool(bay.outcome(key).label_etag)


def test_reviewers_are_added_listed_and_removed(operate: Operate) -> None:
    assert "can sign in at http" in operate("reviewers", "add", "dora", "dora@example.com").output
    assert "already" in operate("reviewers", "add", "dora", "dora@example.com").output
    assert "not a sign-in name" in operate("reviewers", "add", "do ra", "d@example.com").output
    assert "dora@example.com" in operate("reviewers", "list").output
    assert "can no longer sign in" in operate("reviewers", "remove", "dora").output
    assert "dora" not in operate("reviewers", "list").output
    assert "dora is not one of the reviewers" in operate("reviewers", "remove", "dora").output


def test_drivers_are_managed_apart_from_reviewers(operate: Operate) -> None:
    assert "/driver with" in operate("drivers", "add", "driver-9", "driver-9@example.com").output
    assert "not a sign-in name" in operate("drivers", "add", "driver.9", "d@example.com").output
    assert "driver-9@example.com" in operate("drivers", "list").output
    assert "driver-9" not in operate("reviewers", "list").output
    assert "driver-9 is not one of the reviewers" in operate("reviewers", "remove", "driver-9").output
    assert "can no longer sign in" in operate("drivers", "remove", "driver-9").output


def test_a_person_rejects_a_photo_of_another_vehicle(bay: Bay, operate: Operate, tmp_path: Path) -> None:
    key = bay.upload(picture("grey", size=(78, 78)), "review/cat.jpg")
    wait_for(partial(bay.waits, key))

    assert "is rejected" in operate("review", "decide", key, "neither").output

    decision = bay.outcome(key)
    assert (decision.status, decision.error) == ("REJECTED", "NoVehicle")
    assert wait_for(lambda: bay.announced(key)[1:])[0]["detail-type"] == "Photo Rejected"
    wait_for(lambda: bay.outcome(key).label_etag)
    operate("review", "export", str(tmp_path))
    assert "cat.jpg" in [path.name.partition("-")[2] for path in (tmp_path / "neither").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["batch", "follow", "nonsense"], "batch nonsense does not exist"),
        (["batch", "retry", "nonsense"], "batch nonsense does not exist"),
        (["batch", "start", "--prefix", "a/", "--manifest", "b.csv"], "not several of them"),
        (["batch", "start", "--prefix", "nothing/here/"], "there is nothing under s3://"),
        (["batch", "start", "--manifest", "nofile.csv"], "neither a file nofile.csv nor"),
        (["batch", "start", "--prefix", "a/", "--name", "a b"], "cannot name a batch"),
        (["review", "decide", "nonsense", "bicycle"], "no photo named nonsense in review"),
        (["replay", "--stack-name", "nonsense"], "stack nonsense does not exist"),
    ],
)
def test_a_mistake_gets_one_line_with_a_remedy(operate: Operate, arguments: list[str], said: str) -> None:
    done = operate(*arguments)

    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output
