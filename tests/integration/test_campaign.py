"""Photos of every kind under faults of every kind: nothing is lost, and every announcement is recorded.

Calls fail, including announcements; functions, executions and the whole local AWS are killed; Express executions run
twice, restart and die; people decide, audit and correct, also while a decision is being announced; the table holds
damaged items; and RunAgain runs, all at once. RunAgain alone finishes the remaining photos.
`CAMPAIGN_PHOTOS` sets the number of photos. The local AWS has two limits: it never delivers to a dead-letter queue,
and it loses running executions when it restarts, while AWS continues.
"""

import io
import json
import os
import random
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pillow_heif
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image
from rich.console import Console
from rich.table import Table

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision
from functions.decisions.reviews import Desk, InvalidAnswer
from functions.decisions.table import Conflict, DecisionsTable, UnknownPhoto
from loading_bay.stack.decisions import all_decisions

from .bay import Bay, wait_for
from .endpoint import Endpoint
from .faults import CONFIRM, Call, Fault, FaultyAws, Storm, signal_worker

pytestmark = pytest.mark.long

PHOTOS = int(os.environ.get("CAMPAIGN_PHOTOS", "40"))
PHOTOS_PER_WAVE = max(50, min(400, PHOTOS // 3))
# Each execution may start three processes, which must start within the ten seconds that Lambda allows.
IN_FLIGHT = 8
LARGE_BYTES = 50 * 2**20
BICYCLE, MOTORCYCLE, REVIEW, REJECTED = "ROUTED bicycle", "ROUTED motorcycle", "REVIEW", "REJECTED"
# The errors of people's decisions while the local AWS restarts, or if others are faster.
REFUSED = (Conflict, InvalidAnswer, UnknownPhoto, ClientError, BotoCoreError)
# Faults of Express executions, besides those of their calls.
SHARES = {"twice": 0.1, "restart": 0.1, "dies": 0.05}

CALL_FAULTS = [
    Fault("dynamodb:updateItem", "DynamoDB.InternalServerErrorException", 0.05),
    Fault("dynamodb:updateItem", "DynamoDB.SdkClientException", 0.05, lost_answer=True),
    Fault("dynamodb:updateItem", "DynamoDB.AmazonDynamoDBException", 0.05),
    Fault("dynamodb:updateItem", "DynamoDB.ProvisionedThroughputExceededException", 0.1, about=CONFIRM),
    Fault("events:putEvents", "EventBridge.InternalException", 0.05),
    Fault("events:putEvents", "EventBridge.SdkClientException", 0.03, lost_answer=True),
    Fault("lambda:invoke", "Lambda.TooManyRequestsException", 0.05),
    Fault("lambda:invoke", "Lambda.SdkClientException", 0.02, lost_answer=True),
    Fault("s3:listObjectsV2", "S3.SdkClientException", 0.1),
    # An unexpected error, so the workflow gives up immediately.
    Fault("dynamodb:updateItem", "DynamoDB.ValidationException", 0.01),
]


@dataclass(frozen=True)
class UploadedPhoto:
    """An uploaded photo, by key and content, with its expected outcomes."""

    kind: str
    key: str
    etag: str
    right: frozenset[str]


class Campaign:
    """Uploads photos of every kind to a stack, and remembers them."""

    def __init__(self, bay: Bay) -> None:
        pillow_heif.register_heif_opener()
        self.bay = bay
        self.photos: list[UploadedPhoto] = []
        self._number = 0
        self._lock = threading.Lock()
        self._kinds: list[Callable[[str], list[UploadedPhoto]]] = [
            *([self._good] * 6),
            *([self._unsure] * 2),
            self._duplicated,
            self._out_of_order,
            self._renamed,
            self._overwritten,
            self._uploaded_twice,
            self._deleted,
            self._gone,
            self._damaged,
            self._text,
            self._empty,
        ]

    def upload(self, count: int, *, large: bool) -> None:
        """Upload `count` photos, in all kinds and a random order, several at a time."""
        wanted = [self._kinds[number % len(self._kinds)] for number in range(count)] + [self._large] * large
        random.shuffle(wanted)
        with ThreadPoolExecutor(4) as pool:
            for photos in pool.map(self._one, wanted):
                self.photos += photos

    def _one(self, kind: Callable[[str], list[UploadedPhoto]]) -> list[UploadedPhoto]:
        wait_for(lambda: self.bay.running() <= IN_FLIGHT, 120)
        with self._lock:
            self._number += 1
            name = f"{self._number:06d}"
        return kind(name)

    def _picture(self, colour: str) -> bytes:
        buffer = io.BytesIO()
        size = (random.randint(40, 160), random.randint(40, 160))
        image = Image.new("RGB", size, {"red": (220, 20, 30), "blue": (20, 30, 220), "grey": (99, 99, 99)}[colour])
        image.putpixel((0, 0), (random.randrange(256), random.randrange(256), random.randrange(256)))
        image.save(buffer, random.choice(["JPEG", "PNG", "WEBP", "HEIF"]))
        return buffer.getvalue()

    def _put(self, kind: str, key: str, data: bytes, *right: str) -> UploadedPhoto:
        answer = self.bay.s3.put_object(Bucket=self.bay.bucket, Key=key, Body=data)
        return UploadedPhoto(kind, key, answer["ETag"].strip('"'), frozenset(right))

    def _event(self, photo: UploadedPhoto) -> None:
        self.bay.start({"bucket": {"name": self.bay.bucket}, "object": {"key": photo.key, "etag": photo.etag}})

    def _good(self, name: str) -> list[UploadedPhoto]:
        colour, right = random.choice([("red", BICYCLE), ("blue", MOTORCYCLE)])
        return [self._put("good", f"uploads/good {name}.jpg", self._picture(colour), right)]

    def _unsure(self, name: str) -> list[UploadedPhoto]:
        return [self._put("unsure", f"uploads/unsure-{name}", self._picture("grey"), REVIEW, MOTORCYCLE)]

    def _duplicated(self, name: str) -> list[UploadedPhoto]:
        photo = self._put("event three times", f"uploads/duplicated-{name}", self._picture("red"), BICYCLE)
        for _ in range(2):
            self._event(photo)
        return [photo]

    def _out_of_order(self, name: str) -> list[UploadedPhoto]:
        key = f"elsewhere/out-of-order-{name}"
        older = self._put("event late", key, self._picture("red"), REJECTED)
        newer = self._put("event early", key, self._picture("blue"), MOTORCYCLE)
        self._event(newer)
        self._event(older)
        return [older, newer]

    def _renamed(self, name: str) -> list[UploadedPhoto]:
        old = self._put("renamed", f"uploads/renamed-{name}", self._picture("red"), BICYCLE, REJECTED)
        source = {"Bucket": self.bay.bucket, "Key": old.key}
        self.bay.s3.copy_object(Bucket=self.bay.bucket, Key=f"{old.key}-new", CopySource=source)
        self.bay.s3.delete_object(Bucket=self.bay.bucket, Key=old.key)
        return [old, UploadedPhoto("new name", f"{old.key}-new", old.etag, frozenset({BICYCLE}))]

    def _overwritten(self, name: str) -> list[UploadedPhoto]:
        key = f"uploads/overwritten-{name}"
        old = self._put("overwritten", key, self._picture("red"), BICYCLE, REJECTED)
        return [old, self._put("overwriting", key, self._picture("blue"), MOTORCYCLE)]

    def _uploaded_twice(self, name: str) -> list[UploadedPhoto]:
        data = self._picture("blue")
        self._put("uploaded twice", f"uploads/twice-{name}", data, MOTORCYCLE)
        return [self._put("uploaded twice", f"uploads/twice-{name}", data, MOTORCYCLE)]

    def _deleted(self, name: str) -> list[UploadedPhoto]:
        photo = self._put("deleted at once", f"uploads/deleted-{name}", self._picture("red"), BICYCLE, REJECTED)
        self.bay.s3.delete_object(Bucket=self.bay.bucket, Key=photo.key)
        return [photo]

    def _gone(self, name: str) -> list[UploadedPhoto]:
        photo = self._put("deleted before", f"elsewhere/gone-{name}", self._picture("red"), REJECTED)
        self.bay.s3.delete_object(Bucket=self.bay.bucket, Key=photo.key)
        self._event(photo)
        return [photo]

    def _damaged(self, name: str) -> list[UploadedPhoto]:
        buffer = io.BytesIO()
        Image.effect_noise((200, 100), 50).save(buffer, "JPEG")
        return [self._put("damaged", f"uploads/damaged-{name}", buffer.getvalue()[:-900] + name.encode(), REJECTED)]

    def _text(self, name: str) -> list[UploadedPhoto]:
        return [self._put("text", f"uploads/<b>text-{name}</b>", b"no photo " + name.encode(), REJECTED)]

    def _empty(self, name: str) -> list[UploadedPhoto]:
        return [self._put("zero bytes", f"uploads/empty-{name}", b"", REJECTED)]

    def _large(self, name: str) -> list[UploadedPhoto]:
        return [self._put("50 MB", f"uploads/large-{name}", self._picture("red") + bytes(LARGE_BYTES), REJECTED)]


class People:
    """Decide, audit and correct photos, and remember every answer by the id of its decision."""

    def __init__(self, bay: Bay) -> None:
        deployed = bay.stack.deployed
        self.table = DecisionsTable(bay.dynamodb, bay.table)
        classes = parse_classes(deployed.outputs["VehicleClasses"])
        self.desk = Desk(self.table, bay.sfn, deployed.outputs["AnnounceReviewArn"], classes)
        self.answers: dict[str, str] = {}
        self.mid_announcement = 0

    def act(self) -> None:
        """Decide about half of the waiting photos, and correct some of the decisions, some while it is announced."""
        for decision in (*self.table.queued("REVIEW"), *self.table.queued("AUDIT")):
            if random.random() < 0.5:
                agrees = decision.needs_review or random.random() < 0.6
                answer = (decision.vehicle or "motorcycle") if agrees else random.choice(["motorcycle", "neither"])
                self._say(self.desk.decide, decision, answer, reviewer="ann")
        for decision in all_decisions(self.table):
            if decision.review_id and random.random() < (0.7 if decision.in_queue("OPEN") else 0.05):
                self._correct(decision)

    def _correct(self, seen: Decision) -> None:
        answer = random.choice([each for each in self.desk.answers if each != seen.answer])
        corrected = self._say(self.desk.correct, seen, answer, reviewer="ben", corrects=seen.review_id)
        self.mid_announcement += corrected and seen.in_queue("OPEN")

    def _say(self, make: Callable[..., Decision], about: Decision, answer: str, **more: str | None) -> bool:
        review_id = str(uuid.uuid4())
        self.answers[review_id] = answer  # first: the local AWS may die after the write
        with suppress(*REFUSED):
            make(about.photo, answer, review_id=review_id, **more)
            return True
        return False


@contextmanager
def malformed_items(bay: Bay) -> Iterator[None]:
    """Keep damaged items in the queues of the table while the block runs."""
    now = {"S": "2026-11-29T04:00:00.000Z"}
    parts: list[dict[str, Any]] = [
        {"status": {"S": "ROUTED?"}, "claimed_at": now},
        {"status": {"S": "ROUTED"}, "claimed_at": {"S": "yesterday"}},
        {"status": {"S": "REVIEW"}, "claimed_at": now, "probabilities": {"S": "high"}},
    ]
    names = []
    for number, part in enumerate(parts):
        for queue in ("OPEN#0", "REVIEW#0", "AUDIT#0"):
            name = {"S": f"s3://{bay.bucket}/uploads/malformed-{number}-{queue}"}
            names.append(name)
            item = {"photo": name, "queue": {"S": queue}, "due_at": {"N": "1"}, **part}
            bay.dynamodb.put_item(TableName=bay.table, Item=item)
    yield
    for name in names:
        bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": name})


@dataclass
class Settled:
    """The state after a campaign: the photos' labels by claim, and the photos that had to run again, with reasons."""

    photos: list[UploadedPhoto]
    decisions: dict[tuple[str, str], Decision]
    announced: list[dict[str, Any]]
    journal: list[Call]
    again: Counter[str]
    people: People
    labels: dict[str, list[str]]


def by_photo(bay: Bay) -> dict[tuple[str, str], Decision]:
    found: dict[tuple[str, str], Decision] = {}
    for decision in all_decisions(DecisionsTable(bay.dynamodb, bay.table)):
        etag = decision.photo.rpartition("#")[2]
        assert (decision.key, etag) not in found, f"two records of {decision.key}"
        found[decision.key, etag] = decision
    return found


def named(photo: Mapping[str, Any]) -> tuple[Any, Any]:
    return photo.get("s3_key"), photo.get("etag")


def heal(bay: Bay, photos: list[UploadedPhoto]) -> Counter[str]:
    """Let ten minutes pass and start RunAgain; return the photos to run again, with reasons."""
    why: Counter[str] = Counter()
    decisions = by_photo(bay)
    for photo in photos:
        decision = decisions.get((photo.key, photo.etag))
        if not decision:
            why["its event was lost at the restart of the local AWS"] += 1
            bay.start({"s3_bucket": bay.bucket, "s3_key": photo.key, "etag": photo.etag})
        elif decision.in_queue("OPEN"):
            why[f"failed: {decision.error}" if decision.status == "FAILED" else f"left as {decision.status}"] += 1
            with suppress(bay.dynamodb.exceptions.ConditionalCheckFailedException):  # it has ended since
                bay.expire(decision.photo)
    bay.sweep()
    return why


def under_faults(campaign: Campaign, people: People, aws: FaultyAws, endpoint: Endpoint) -> None:
    """Upload in waves under all faults."""
    bay, stack = campaign.bay, campaign.bay.stack
    over = threading.Event()

    def attack() -> None:
        while not over.wait(random.uniform(1, 3)):
            signal_worker(stack, signal.SIGKILL)
            with suppress(AssertionError, ClientError, BotoCoreError):  # the local AWS may be restarting
                bay.kill_some(0.1)
                people.act()
                bay.sweep()

    aws.inject(*CALL_FAULTS)
    aws.share(SHARES)
    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        with endpoint.answering(Storm(share=0.15, slow=0.01)):
            waves = max(2, PHOTOS // PHOTOS_PER_WAVE)
            for wave in range(waves):
                campaign.upload(PHOTOS // waves, large=wave == 0)
                signal_worker(stack, signal.SIGSTOP, "threshold")  # it hangs until its timeout
                endpoint.restart(1)
                if wave % 4 == 0:
                    aws.restart(stack)
            all_ended(bay)
    finally:
        over.set()
        attacker.join()
        aws.inject()
        aws.share({})


def all_ended(bay: Bay) -> None:
    wait_for(lambda: bay.running() == 0, 150 + PHOTOS / 4)


def keys_so_far(bay: Bay) -> set[str]:
    """Return the keys of every record, and of every object that the inbox holds or held."""
    pages = bay.s3.get_paginator("list_object_versions").paginate(Bucket=bay.bucket)
    stored = {each["Key"] for page in pages for kind in ("Versions", "DeleteMarkers") for each in page.get(kind, [])}
    return stored | {key for key, _ in by_photo(bay)}


@pytest.fixture(scope="module", params=["troubled_bay", "express_bay"], ids=["standard", "express"])
def settled(request: pytest.FixtureRequest, endpoint: Endpoint) -> Settled:
    bay: Bay = request.getfixturevalue(request.param)
    aws: FaultyAws = request.getfixturevalue({"troubled_bay": "aws", "express_bay": "express_aws"}[request.param])
    bay.announced("")
    earlier, heard, called = keys_so_far(bay), len(bay.announcements), len(aws.journal())
    campaign, people = Campaign(bay), People(bay)
    with malformed_items(bay):
        under_faults(campaign, people, aws, endpoint)
        again: Counter[str] = Counter()
        while why := heal(bay, campaign.photos):
            assert again.total() < 3 * len(campaign.photos), again
            again += why
            all_ended(bay)
    bay.announced("")
    return Settled(
        campaign.photos,
        # Photos that earlier tests left unfinished are also run again, recorded and announced.
        {photo: decision for photo, decision in by_photo(bay).items() if photo[0] not in earlier},
        [each for each in bay.announcements[heard:] if named(each["detail"])[0] not in earlier],
        aws.journal()[called:],
        again,
        people,
        {each.claim or "": bay.labels(each) for each in bay.all_decisions() if each.reviewed_by},
    )


def outcome(decision: Decision) -> str:
    return f"{decision.status} {decision.vehicle or ''}".strip()


def test_every_upload_is_counted(settled: Settled, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Table(title=f"{len(settled.photos)} photos under faults")
    outcomes = [BICYCLE, MOTORCYCLE, REVIEW, REJECTED]
    for column in ("uploaded", "photos", *outcomes, "by people", "announced", "again"):
        ledger.add_column(column, justify="left" if column == "uploaded" else "right")
    announced = Counter(event["detail"]["photo"] for event in settled.announced)
    for kind in sorted({photo.kind for photo in settled.photos}):
        decisions = [settled.decisions[photo.key, photo.etag] for photo in settled.photos if photo.kind == kind]
        ended = Counter(outcome(decision) for decision in decisions)
        told = [announced[decision.photo] for decision in decisions]
        by_people = sum(bool(decision.reviewed_by) for decision in decisions)
        row = [
            len(decisions),
            *(ended[name] for name in outcomes),
            by_people,
            sum(map(bool, told)),
            sum(told) - len(told),
        ]
        ledger.add_row(kind, *(str(number or "") for number in row))
    faults = Counter(f"{call.call}: {call.fault}" for call in settled.journal if call.fault)
    with capsys.disabled():
        console = Console(width=120)
        console.print("\n", ledger)
        console.print(f"corrected while being announced: {settled.people.mid_announcement}")
        for title, counts in (("faults injected", faults), ("run again", settled.again)):
            console.print(f"{title}: {counts.total()}")
            for name, count in counts.most_common():
                console.print(f"  {count:>5}  {name}")

    assert set(settled.decisions) == {(photo.key, photo.etag) for photo in settled.photos}
    assert faults.total() > len(settled.photos) / 10


def test_every_photo_has_exactly_one_recorded_outcome_and_it_is_right(settled: Settled) -> None:
    wrong = {
        photo: outcome(settled.decisions[photo.key, photo.etag])
        for photo in settled.photos
        if not settled.decisions[photo.key, photo.etag].reviewed_by
        and outcome(settled.decisions[photo.key, photo.etag]) not in photo.right
    }

    assert not wrong


def test_the_last_answer_of_people_is_recorded_and_names_the_one_label_that_counts(settled: Settled) -> None:
    reviewed = [decision for decision in settled.decisions.values() if decision.reviewed_by]

    assert any(decision.audit_share is not None for decision in reviewed)
    for decision in reviewed:
        assert decision.answer == settled.people.answers[decision.review_id or ""], decision
        assert (decision.label or "").startswith(f"labels/{decision.answer}/{decision.claim}-"), decision
        # A run that dies may leave a copy behind; no record names it.
        assert not decision.label_etag or decision.label in settled.labels[decision.claim or ""], decision


def test_an_audit_neither_changes_nor_delays_the_event_of_the_photo(settled: Settled) -> None:
    chosen = [each for each in settled.decisions.values() if each.audit_share is not None]
    assert chosen
    for decision in chosen:
        heard = [each["detail"] for each in settled.announced if each["detail"]["photo"] == decision.photo]
        by_model = [each for each in heard if each["claim"] == decision.claim and "reviewed_by" not in each]
        assert {each["vehicle"] for each in by_model if each["status"] == "ROUTED"} == {decision.guess}
        assert not any({"audit_share", "routed_as"} & each.keys() for each in heard)
        if decision.reviewed_by is None or confirms(decision):
            assert not any("reviewed_by" in each for each in heard), decision


def confirms(decision: Decision) -> bool:
    """Tell whether a decision is an audit that agrees with the model, which is not announced."""
    return decision.audit_share is not None and decision.revision == 1 and decision.answer == decision.guess


def who(about: dict[str, Any]) -> str:
    """Return the maker of a decision: the run with this claim, or the person of a revision after it."""
    return f"{about['claim']} {about.get('revision') or ''}".strip()


def test_every_recorded_outcome_was_announced_as_it_is_recorded(settled: Settled) -> None:
    details = [event["detail"] for event in settled.announced]
    heard = {(each["photo"], who(each), each["status"], each.get("vehicle")) for each in details}

    for decision in settled.decisions.values():
        by = who({"claim": decision.claim, "revision": None if confirms(decision) else decision.revision})
        assert (decision.photo, by, decision.status, decision.vehicle) in heard


def test_nothing_was_announced_that_had_not_been_recorded(settled: Settled) -> None:
    recorded = set()
    announced = 0
    for call in settled.journal:
        if (call.call, call.phase) == ("dynamodb:updateItem", "done"):
            written = call.request.get("ExpressionAttributeValues", {})
            if ":decided_at" in written:
                photo = call.request["Key"]["photo"]["S"]
                recorded.add((photo, written[":claim"]["S"], written[":status"]["S"]))
        if (call.call, call.phase) == ("events:putEvents", "asked") and not detail_of(call).get("reviewed_by"):
            detail = detail_of(call)
            assert (detail["photo"], detail["claim"], detail["status"]) in recorded
            announced += 1
    assert announced >= len(settled.photos)


def test_every_repeated_announcement_has_a_reason(settled: Settled) -> None:
    # A lost answer of EventBridge is requested again,
    lost = Counter(who(detail_of(call)) for call in settled.journal if is_announcement(call, "done") and call.fault)
    # a run that could not confirm its announcement leaves its claim behind,
    confirmed = {
        call.request["ExpressionAttributeValues"][":claim"]["S"]
        for call in settled.journal
        if (call.call, call.phase) == ("dynamodb:updateItem", "done")
        and call.request["UpdateExpression"].startswith(CONFIRM)
        and ":claim" in call.request["ExpressionAttributeValues"]
    }
    final = {decision.claim for decision in settled.decisions.values()}
    told = Counter((who(event["detail"]), event["detail"]["status"]) for event in settled.announced)

    for (by, status), times in told.items():
        claim, _, person = by.partition(" ")
        # a person's decision is announced again if its announcement was not confirmed in time,
        assert times <= 1 + lost[by] or person, (by, times)
        # and a failed photo is decided, and announced, again.
        assert claim in final or status == "FAILED" or claim not in confirmed or person, (by, status)


def is_announcement(call: Call, phase: str) -> bool:
    return (call.call, call.phase) == ("events:putEvents", phase) and "claim" in detail_of(call)


def detail_of(call: Call) -> dict[str, Any]:
    detail = call.request["Entries"][0]["Detail"]
    parsed: dict[str, Any] = json.loads(detail) if isinstance(detail, str) else detail
    return parsed
