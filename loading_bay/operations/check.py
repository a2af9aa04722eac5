"""Proves that a deployed stack works: sends sample photos through all of it, and says what came of them.

Every check says in one line what it saw or what to do. All that is made on the way is removed again.
"""

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import ClientError

from functions.decisions.classes import parse_classes
from functions.decisions.decision import Decision
from functions.decisions.table import DecisionsTable
from loading_bay.stack.addresses import Address
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import AWS_ERRORS, UserError, describe
from loading_bay.stack.image_size import PARAMETER, hosted_size, require_same, served_size
from loading_bay.stack.template import ROOT

from .batch import Batch
from .listening import Listener
from .presign import presign_upload
from .review import decide

COST = (
    "This uploads four sample photos, classifies two more as a batch and decides one review: less than a cent. "
    "Whoever gets the stack's notifications gets those of these photos."
)
PHOTOS = ROOT / "events" / "photos"
# One by a presigned request, the others as `aws s3 cp` does it; the last can be no photo to anybody's model.
PRESIGNED, COPIED, DAMAGED = "bicycle-road.jpg", ("motorcycle-left.png", "neither-coffee.jpg"), "damaged.jpg"
# A photo takes seconds; the endpoint may be scaling out.
OUTCOME_SECONDS = 240
# Metrics reach CloudWatch within two minutes or so.
METRIC_SECONDS = 240

QUOTE = '"'

T = TypeVar("T")
Status = Literal["ok", "failed", "not checked"]


class NotChecked(Exception):
    """This cannot be checked here, or not before something else works; the message says why."""


@dataclass(frozen=True)
class Result:
    """What one check saw, or why it failed and what to do."""

    check: str
    status: Status
    seconds: float
    detail: str


@dataclass
class Check:
    """One run of all checks over a deployed stack."""

    deployed: Deployed
    name: str = field(default_factory=lambda: f"check-{uuid.uuid4().hex[:12]}")
    photos: dict[str, Decision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Know the stack's parts."""
        self.inbox = Address.parse(self.deployed.outputs["UploadUri"])
        self.folder = f"{self.inbox.prefix}{self.name}/"
        self.prefixes = [self.folder, f"{self.name}/", f"batches/{self.name}/"]  # what is removed at the end
        self.table = DecisionsTable(self.deployed.client("dynamodb"), self.deployed.outputs["DecisionsTable"])
        self.listener = Listener(self.deployed, self.name, self.folder)
        self.s3 = self.deployed.client("s3")
        self.local = urlsplit(self.s3.meta.endpoint_url).hostname in {"127.0.0.1", "localhost"}

    def run(self) -> Iterator[Result]:
        """Yield the result of each check as it is known; then remove what was made."""
        failed: set[str] = set()
        try:
            for name, (check, needs) in CHECKS.items():
                missing = [each for each in needs if each in failed]
                if missing:
                    result = Result(name, "not checked", 0, f"fix first: {', '.join(missing)}")
                else:
                    result = self._timed(name, check)
                if result.status == "failed" or missing:
                    failed.add(name)
                yield result
        finally:
            self._clean_up()

    def _timed(self, name: str, check: Callable[["Check"], str]) -> Result:
        started = time.monotonic()
        status: Status = "ok"
        try:
            detail = check(self)
        except NotChecked as why:
            status, detail = "not checked", str(why)
        except UserError as error:
            status, detail = "failed", error.message
        except AWS_ERRORS as error:
            status, detail = "failed", describe(error)
        return Result(name, status, round(time.monotonic() - started, 1), detail)

    # ------------------------------------------------------------------------------------------- what is deployed ---

    def endpoint(self) -> str:
        """The endpoint is in service, takes what is sent, and answers with a probability for each class."""
        name, url = self.deployed.outputs["EndpointName"], self.deployed.parameters.get("EndpointUrl", "")
        if not url:
            self._in_service(name)
        runtime = self.deployed.session.client("sagemaker-runtime", endpoint_url=url or None)
        try:
            answer = runtime.invoke_endpoint(EndpointName=name, ContentType="image/png", Body=_picture())
        except AWS_ERRORS as error:
            raise UserError(f"{name} does not answer: {describe(error)}; see loading-bay model status") from error
        probabilities = json.loads(answer["Body"].read())
        classes = parse_classes(self.deployed.outputs["VehicleClasses"])
        if len(probabilities) != len(classes):
            raise UserError(
                f"{name} answers {len(probabilities)} probabilities, the stack has {len(classes)} classes; "
                "deploy with VehicleClasses in the model's order"
            )
        taken = served_size(url) if url else hosted_size(self.deployed.client("sagemaker"), name)
        require_same(name, taken, int(self.deployed.parameters[PARAMETER]))
        return f"{name} answers {len(probabilities)} probabilities"

    def _in_service(self, name: str) -> None:
        try:
            status = self.deployed.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointStatus"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationException":
                raise UserError(
                    f"there is no endpoint {name}; make it with loading-bay model deploy --endpoint {name}"
                ) from error
            raise
        if status not in {"InService", "Updating", "SystemUpdating"}:
            raise UserError(f"{name} is {status}; see loading-bay model status --endpoint {name}")

    def rules(self) -> str:
        """Every rule of the stack is enabled."""
        events = self.deployed.client("events")
        rules = self._resources("AWS::Events::Rule")
        for rule in rules:
            if events.describe_rule(Name=rule)["State"] == "DISABLED":
                raise UserError(f"the rule {rule} is disabled; aws events enable-rule --name {rule}")
        return f"{len(rules)} enabled"

    def topic_policy(self) -> str:
        """EventBridge may publish to the topic of notifications: its statement takes no conditions."""
        topic = self.deployed.outputs["NotificationsTopic"]
        attributes = self.deployed.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
        for statement in json.loads(attributes.get("Policy", "{}")).get("Statement", []):
            services = statement.get("Principal", {})
            services = services.get("Service", []) if isinstance(services, dict) else []
            if (
                statement["Effect"] == "Allow"
                and "events.amazonaws.com" in services
                and statement["Action"] in ("sns:Publish", "SNS:Publish", ["sns:Publish"])
                and "Condition" not in statement
            ):
                return "EventBridge may publish"
        raise UserError(
            f"no statement of the policy of {topic} lets events.amazonaws.com publish; deploy the stack again"
        )

    def _resources(self, kind: str) -> list[str]:
        cloudformation = self.deployed.client("cloudformation")
        pages = cloudformation.get_paginator("list_stack_resources").paginate(
            StackName=self.deployed.outputs["StackName"]
        )
        return [
            each["PhysicalResourceId"].rpartition("/")[2]
            for page in pages
            for each in page["StackResourceSummaries"]
            if each["ResourceType"] == kind
        ]

    # --------------------------------------------------------------------------------------------- what photos do ---

    def listening(self) -> str:
        """A temporary queue hears the stack's events and its notifications."""
        return f"heard itself after {self.listener.start():.0f} s"

    def uploads(self) -> str:
        """Photos reach the inbox by a presigned request and by a copy, and each gets an outcome."""
        signed = presign_upload(self.deployed, self.name, "image/jpeg")
        form: dict[str, Any] = {**signed.fields}
        form["file"] = (PRESIGNED, (PHOTOS / PRESIGNED).read_bytes(), "image/jpeg")
        answer = urllib3.request("POST", signed.url, fields=form, retries=False, redirect=False)
        if answer.status // 100 != 2:
            raise UserError(f"the presigned request was answered with {answer.status}: {answer.data.decode()[:200]}")
        keys = [self.folder + name for name in (*COPIED, DAMAGED)]
        for key in keys:
            self.s3.upload_file(str(PHOTOS / key.rpartition("/")[2]), self.inbox.bucket, key)
        self.photos = {key: self._outcome(key) for key in (signed.key, *keys)}
        damaged = self.photos[self.folder + DAMAGED]
        if damaged.status != "REJECTED":
            raise UserError(f"{DAMAGED} is {damaged.status}, not REJECTED")
        return ", ".join(sorted(each.status for each in self.photos.values()))

    def _outcome(self, key: str) -> Decision:
        etag = self.s3.head_object(Bucket=self.inbox.bucket, Key=key)["ETag"].strip('"')
        photo = f"s3://{self.inbox.bucket}/{key}#{etag}"
        decision = _await(lambda: self._decided(photo), OUTCOME_SECONDS)
        if decision is None:
            raise UserError(f"{key} has no outcome after {OUTCOME_SECONDS} s; see {self.deployed.command('watch')}")
        if decision.status == "FAILED":
            raise UserError(f"{key} failed: {decision.why}")
        return decision

    def _decided(self, photo: str) -> Decision | None:
        found = self.table.get(photo)
        return found if found and found.status != "CLAIMED" else None

    def announcements(self) -> str:
        """Each outcome is announced once."""
        heard = _await(self._heard_of_all, 60)
        if heard is None:
            missing = sorted(set(self.photos) - {each["s3_key"] for each in self.listener.events()})
            raise UserError(f"no announcement of {', '.join(missing)} arrived; check the rules and the workflow's role")
        time.sleep(2)  # for what should not come
        keys = [event["s3_key"] for event in self.listener.events()]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise UserError(f"announced more than once: {', '.join(sorted(twice))}")
        return f"{len(keys)} heard, each once"

    def _heard_of_all(self) -> bool | None:
        return set(self.photos) <= {each["s3_key"] for each in self.listener.events()} or None

    def notifications(self) -> str:
        """Each rejection leaves the topic; photos that need review may be told of later, in one mail."""
        expected = [key for key, photo in self.photos.items() if photo.status == "REJECTED"]
        left = _await(lambda: self.listener.notified(expected) or None, 60)
        if left is None:
            raise UserError(
                "no notification left the topic: its policy must let events.amazonaws.com publish without conditions, "
                "and with a key of your own the key's policy must let it encrypt"
            )
        return f"{len(expected)} left the topic"

    def small_batch(self) -> str:
        """A batch classifies what lies under a prefix."""
        for name in (PRESIGNED, DAMAGED):
            self.s3.upload_file(str(PHOTOS / name), self.inbox.bucket, f"{self.name}/{name}")
        batch = Batch.start(self.deployed, prefix=f"{self.name}/", name=self.name)
        if _await(lambda: batch.status() != "RUNNING" or None, OUTCOME_SECONDS) is None:
            raise UserError(f"the batch is still running; follow it with {batch.command('follow')}")
        summary = batch.summary()
        if (summary["photos"], summary["failed"]) != (2, 0):
            raise UserError(f"the batch of 2 photos reports {summary['photos']} photos, {summary['failed']} failed")
        return f"2 photos in {summary['seconds']} s"

    def review(self) -> str:
        """A person's decision is announced."""
        waiting = [photo for photo in self.photos.values() if photo.status == "REVIEW"]
        if not waiting:
            raise NotChecked("the model was sure of every sample photo")
        photo = waiting[0]
        vehicle = next(iter(parse_classes(self.deployed.outputs["VehicleClasses"])))
        decide(self.deployed, photo.photo, vehicle, self.name)
        announced = _await(lambda: self._routed(photo.key), 120)  # it can be taken back for a minute
        if announced is None:
            raise UserError(f"{photo.key} was decided, but the decision was not announced")
        kept = _await(lambda: self._label(photo.photo), 60)
        if kept is None:
            raise UserError(f"{photo.key} was decided and announced, but no label was kept")
        self.prefixes.append(kept)
        return f"{vehicle} by a person, announced and kept as a label"

    def _label(self, photo: str) -> str | None:
        found = self.table.get(photo)
        return found.label if found else None

    def _routed(self, key: str) -> bool | None:
        return any(each["s3_key"] == key and each["status"] == "ROUTED" for each in self.listener.events()) or None

    # ---------------------------------------------------------------------------------------- what watches over it ---

    def metrics(self) -> str:
        """The functions' metrics reach CloudWatch."""
        if self.local:
            raise NotChecked("the local AWS has no metrics")
        cloudwatch = self.deployed.client("cloudwatch")
        query = {
            "Namespace": f"LoadingBay/{self.deployed.outputs['StackName']}",
            "MetricName": "PhotosRejected",
            "Dimensions": [{"Name": "service", "Value": "loading-bay"}],
            "StartTime": datetime.now(UTC) - timedelta(minutes=10),
            "Period": 60,
            "Statistics": ["Sum"],
        }

        def arrived() -> bool | None:
            found = cloudwatch.get_metric_statistics(**query, EndTime=datetime.now(UTC) + timedelta(minutes=1))
            return bool(found["Datapoints"]) or None

        if _await(arrived, METRIC_SECONDS, every=10) is None:
            raise UserError("no metric of the functions arrived; is their ApplicationLogLevel above INFO?")
        return "PhotosRejected arrived"

    def dead_letter_queue(self) -> str:
        """No event waits undelivered."""
        queue = self.deployed.outputs["UndeliveredEventsQueue"]
        # What RunAgain is looking at just now, and what is set aside for a moment, waits too.
        kinds = [f"ApproximateNumberOfMessages{each}" for each in ("", "NotVisible", "Delayed")]
        found = self.deployed.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=kinds)["Attributes"]
        waiting = sum(int(found.get(kind, 0)) for kind in kinds)
        if waiting:
            raise UserError(f"{waiting} undelivered events: run them again with {self.deployed.command('replay')}")
        return "empty"

    def alarms(self) -> str:
        """No alarm of the stack rings."""
        names = self._resources("AWS::CloudWatch::Alarm")
        described = self.deployed.client("cloudwatch").describe_alarms(AlarmNames=names, StateValue="ALARM")
        ringing = [f"{each['AlarmName']}: {each['AlarmDescription']}" for each in described["MetricAlarms"]]
        if ringing:
            raise UserError("; ".join(ringing))
        return f"{len(names)} quiet"

    # ------------------------------------------------------------------------------------------------------ the end ---

    def _clean_up(self) -> None:
        """Remove the listener, the photos in all their versions, and every record of them."""
        self.listener.stop()
        dynamodb = self.deployed.client("dynamodb")
        pages = self.s3.get_paginator("list_object_versions")
        for prefix in self.prefixes:
            for page in pages.paginate(Bucket=self.inbox.bucket, Prefix=prefix):
                for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    self.s3.delete_object(Bucket=self.inbox.bucket, Key=each["Key"], VersionId=each["VersionId"])
                    photo = f"s3://{self.inbox.bucket}/{each['Key']}#{each.get('ETag', '').strip(QUOTE)}"
                    dynamodb.delete_item(TableName=self.deployed.outputs["DecisionsTable"], Key={"photo": {"S": photo}})
        dynamodb.delete_item(TableName=self.deployed.outputs["BatchesTable"], Key={"batch_id": {"S": self.name}})


# What is checked, in order, each with what must work before it can be.
CHECKS: dict[str, tuple[Callable[[Check], str], tuple[str, ...]]] = {
    "endpoint": (Check.endpoint, ()),
    "rules": (Check.rules, ()),
    "topic policy": (Check.topic_policy, ()),
    "listening": (Check.listening, ()),
    "uploads": (Check.uploads, ("endpoint", "rules", "listening")),
    "announcements": (Check.announcements, ("uploads",)),
    "notifications": (Check.notifications, ("topic policy", "uploads")),
    "small batch": (Check.small_batch, ("uploads",)),
    "review": (Check.review, ("uploads",)),
    "metrics": (Check.metrics, ("uploads",)),
    "dead-letter queue": (Check.dead_letter_queue, ()),
    "alarms": (Check.alarms, ()),
}


def _picture() -> bytes:
    """Return the picture of the function's own sample event."""
    event = json.loads((ROOT / "events" / "inference.json").read_text())
    return base64.b64decode(event["image_data"])


def _await(look: Callable[[], T | None], seconds: float, every: float = 0.5) -> T | None:
    """Return what `look` finds as soon as it finds something, or None when the time is over."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(every)
    return found
