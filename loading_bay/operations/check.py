"""Proves that a deployed stack works: sends sample photos through all of it, and reports their outcomes.

Every check reports its finding or a remedy in one line. Everything that it creates is removed again, or named.
"""

import base64
import json
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from functions.decisions.classes import NEITHER, parse_classes
from functions.decisions.decision import Decision
from functions.decisions.table import DecisionsTable
from loading_bay.stack.addresses import Address, require_separate
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.errors import AWS_ERRORS, UserError, describe
from loading_bay.stack.hints import command
from loading_bay.stack.image_size import hosted_size, require_same, served_size
from loading_bay.stack.template import ROOT

from .batch import Batch
from .listening import Listener
from .parameters import described
from .presign import presign_upload
from .result import CheckResult, CheckStatus
from .review import decide
from .review_page import visit

COST = (
    "This uploads five sample photos, classifies two more as a batch and decides one review: less than a cent. "
    "Anyone subscribed to the stack's notifications is notified of these photos. "
    "Their executions and log lines stay until they expire."
)
PHOTOS = ROOT / "events" / "photos"
# One by a presigned request, the others as `aws s3 cp` does it; the last is unreadable to any model.
PRESIGNED, COPIED, DAMAGED = "bicycle-road.jpg", ("motorcycle-left.png", "neither-coffee.jpg"), "damaged.jpg"
SET_ASIDE = "motorcycle-right.heic"
# A photo takes seconds; the endpoint may be scaling out.
OUTCOME_SECONDS = 240
# Announcements and notifications follow within seconds.
HEARD_SECONDS = 60
# RunAgain runs every minute, for at most five.
SWEEP_SECONDS = 360
# Metrics reach CloudWatch within two minutes or so.
METRIC_SECONDS = 240
# SNS lists these in place of the ARN of a subscription that nobody has confirmed, or that was removed.
UNCONFIRMED = {"PendingConfirmation": "has not confirmed the subscription", "Deleted": "has unsubscribed"}

T = TypeVar("T")


class NotChecked(Exception):
    """The check cannot run here, or not until something else works; the message gives the reason."""


@dataclass
class CheckRun:
    """One run of all checks over a deployed stack."""

    deployed: Deployed
    name: str = field(default_factory=lambda: f"check-{uuid.uuid4().hex[:12]}")
    photos: dict[str, Decision] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look up the stack's resources."""
        self.inbox = Address.parse(self.deployed.outputs["UploadUri"])
        self.folder = f"{self.inbox.prefix}{self.name}/"
        self.aside = f"{self.name}/aside/{SET_ASIDE}"  # outside the upload prefix: only RunAgain can start it
        self.message = ""  # its id, while it is in the dead-letter queue
        self.prefixes = [self.folder, f"{self.name}/", f"batches/{self.name}/"]  # to remove at the end
        self.table = DecisionsTable(self.deployed.client("dynamodb"), self.deployed.outputs["DecisionsTable"])
        self.listener = Listener(self.deployed, self.name, self.folder)
        self.s3 = self.deployed.client("s3")
        self.local = urlsplit(self.s3.meta.endpoint_url).hostname in {"127.0.0.1", "localhost"}
        self.started = datetime.now(UTC)

    def run(self) -> Generator[CheckResult]:
        """Yield each check's result as soon as it is known; then clean up, and name anything that is left."""
        failed: set[str] = set()
        try:
            for name, (check, needs) in CHECKS.items():
                missing = [each for each in needs if each in failed]
                if missing:
                    result = CheckResult(name, "not checked", 0, f"fix first: {', '.join(missing)}")
                else:
                    result = self._timed(name, check)
                if result.status == "failed" or missing:
                    failed.add(name)
                yield result
        finally:
            self._clean_up()
        yield CheckResult("clean-up", "failed" if self.left else "ok", 0, self._removed())

    def _removed(self) -> str:
        return f"could not be removed: {'; '.join(self.left)}" if self.left else "all removed"

    def _timed(self, name: str, check: Callable[["CheckRun"], str]) -> CheckResult:
        started = time.monotonic()
        status: CheckStatus = "ok"
        try:
            detail = check(self)
        except NotChecked as why:
            status, detail = "not checked", str(why)
        except UserError as error:
            status, detail = "failed", error.message
        except AWS_ERRORS as error:
            status, detail = "failed", describe(error)
        return CheckResult(name, status, round(time.monotonic() - started, 1), detail)

    # ------------------------------------------------------------------------------------------------- deployment ---

    def deployment(self) -> str:
        """The stack is the intended one, and its prefixes do not overlap."""
        require_separate(self.deployed.parameters["UploadPrefix"], self.deployed.parameters["BatchPrefix"])
        return described(self.deployed, compare=not self.local)

    def endpoint(self) -> str:
        """The endpoint is in service, accepts the stack's images, and answers with a probability for each class."""
        name, url = self.deployed.outputs["EndpointName"], self.deployed.parameters.get("EndpointUrl", "")
        if not url:
            self._in_service(name)
        runtime = self.deployed.session.client("sagemaker-runtime", endpoint_url=url or None)
        try:
            answer = runtime.invoke_endpoint(EndpointName=name, ContentType="image/png", Body=_picture())
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            if self.local:
                raise UserError(f"{name} does not answer: {describe(error)}") from error
            raise NotChecked(f"{name} cannot be reached from here, only from the functions if at all") from error
        except AWS_ERRORS as error:
            see = command("model", "status", "--endpoint", name)
            raise UserError(f"{name} does not answer: {describe(error)}; see {see}") from error
        probabilities = json.loads(answer["Body"].read())
        classes = parse_classes(self.deployed.outputs["VehicleClasses"])
        if len(probabilities) != len(classes):
            raise UserError(
                f"{name} answers {len(probabilities)} probabilities, the stack has {len(classes)} classes; "
                "deploy with VehicleClasses in the model's order"
            )
        taken = served_size(url) if url else hosted_size(self.deployed.client("sagemaker"), name)
        require_same(name, taken, self.deployed.parameters)
        return f"{name} answers {len(probabilities)} probabilities"

    def _in_service(self, name: str) -> None:
        try:
            status = self.deployed.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointStatus"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ValidationException":
                create = command("model", "deploy", "--endpoint", name)
                raise UserError(f"endpoint {name} does not exist; create it with {create}") from error
            raise
        if status not in {"InService", "Updating", "SystemUpdating"}:
            raise UserError(f"{name} is {status}; see {command('model', 'status', '--endpoint', name)}")

    def rules(self) -> str:
        """Every rule of the stack is enabled."""
        events = self.deployed.client("events")
        rules = self._resources("AWS::Events::Rule")
        for rule in rules:
            if events.describe_rule(Name=rule)["State"] == "DISABLED":
                raise UserError(f"the rule {rule} is disabled; aws events enable-rule --name {rule}")
        return f"{len(rules)} enabled"

    def subscriptions(self) -> str:
        """Every subscriber to photos and alarms has confirmed the subscription."""
        pages = self.deployed.client("sns").get_paginator("list_subscriptions_by_topic")
        topics = self._resources("AWS::SNS::Topic")
        found = [each for topic in topics for page in pages.paginate(TopicArn=topic) for each in page["Subscriptions"]]
        silent = {
            f"{each['Endpoint']} {UNCONFIRMED[each['SubscriptionArn']]} to {each['TopicArn'].rpartition(':')[2]}"
            for each in found
            if each["SubscriptionArn"] in UNCONFIRMED
        }
        if silent:
            raise UserError(f"{'; '.join(sorted(silent))}: follow the link in the mail from SNS, or subscribe again")
        return f"{len(found)} confirmed" if found else "nobody is subscribed; NotificationEmail names an address"

    def decoder(self) -> str:
        """SerializeFunction starts its decoding process, and reads a photo."""
        key = f"{self.name}/decoder/{PRESIGNED}"
        self.s3.upload_file(str(PHOTOS / PRESIGNED), self.inbox.bucket, key)
        function = self._physical("SerializeFunction")
        payload = json.dumps({"s3_bucket": self.inbox.bucket, "s3_key": key})
        answer = self.deployed.client("lambda").invoke(FunctionName=function, Payload=payload)
        said = json.loads(answer["Payload"].read() or "{}")
        if "FunctionError" in answer:
            about = f"{said.get('errorType', answer['FunctionError'])}: {said.get('errorMessage', '')}".strip()
            raise UserError(f"{function} does not read a photo: {about}; see its log")
        return f"{function.rpartition(':')[2]} read a photo as {said['photo']['format']}"

    def review_page(self) -> str:
        """Anyone can open the review page, and only people who sign in can use it."""
        url = self.deployed.outputs.get("ReviewUrl")
        if not url:
            raise NotChecked("the stack was deployed without a review page")
        return visit(url)

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

    def _physical(self, logical_id: str) -> str:
        described = self.deployed.client("cloudformation").describe_stack_resource(
            StackName=self.deployed.outputs["StackName"], LogicalResourceId=logical_id
        )
        return str(described["StackResourceDetail"]["PhysicalResourceId"])

    # ----------------------------------------------------------------------------------------------------- photos ---

    def listening(self) -> str:
        """A temporary queue receives the stack's events and its notifications."""
        return f"received its own test event after {self.listener.start():.0f} s"

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
        self._set_aside()
        self.photos = {key: self._outcome(key) for key in (signed.key, *keys)}
        damaged = self.photos[self.folder + DAMAGED]
        if damaged.status != "REJECTED":
            raise UserError(f"{DAMAGED} is {damaged.status}, not REJECTED")
        return ", ".join(sorted(each.status for each in self.photos.values()))

    def _set_aside(self) -> None:
        """Leave a photo's event in the dead-letter queue, like a rule that could not deliver it."""
        self.s3.upload_file(str(PHOTOS / SET_ASIDE), self.inbox.bucket, self.aside)
        etag = self.s3.head_object(Bucket=self.inbox.bucket, Key=self.aside)["ETag"].strip('"')
        event = {"detail": {"bucket": {"name": self.inbox.bucket}, "object": {"key": self.aside, "etag": etag}}}
        sent = self.deployed.client("sqs").send_message(
            QueueUrl=self.deployed.outputs["UndeliveredEventsQueue"], MessageBody=json.dumps(event)
        )
        self.message = sent["MessageId"]

    def _outcome(self, key: str, seconds: float = OUTCOME_SECONDS) -> Decision:
        etag = self.s3.head_object(Bucket=self.inbox.bucket, Key=key)["ETag"].strip('"')
        photo = f"s3://{self.inbox.bucket}/{key}#{etag}"
        decision = _await(lambda: self._decided(photo), seconds)
        if decision is None:
            raise UserError(f"{key} is still undecided after {seconds:.0f} s; see {self.deployed.command('watch')}")
        if decision.status == "FAILED":
            raise UserError(f"{key} failed: {decision.why}")
        return decision

    def _decided(self, photo: str) -> Decision | None:
        found = self.table.get(photo)
        return found if found and found.status != "CLAIMED" else None

    def announcements(self) -> str:
        """Each photo's single outcome is announced; AWS may deliver an announcement more than once."""
        if _await(self._heard_of_all, HEARD_SECONDS) is None:
            missing = sorted(set(self.photos) - {each["s3_key"] for each in self.listener.events()})
            raise UserError(f"no announcement of {', '.join(missing)} arrived; check the rules and the workflow's role")
        heard = self.listener.events()
        outcomes = {(each["s3_key"], each["claim"], each.get("revision")) for each in heard}
        if len(outcomes) > len(self.photos):
            raise UserError(f"{len(outcomes)} outcomes of {len(self.photos)} photos were announced")
        again = len(heard) - len(outcomes)
        return f"{len(outcomes)} received" + (f", {again} delivered again" if again else "")

    def _heard_of_all(self) -> bool | None:
        return set(self.photos) <= {each["s3_key"] for each in self.listener.events()} or None

    def notifications(self) -> str:
        """Each rejection leaves the topic; photos that need review may follow later, in one mail."""
        expected = [key for key, photo in self.photos.items() if photo.status == "REJECTED"]
        left = _await(lambda: self.listener.notified(expected) or None, HEARD_SECONDS)
        if left is None:
            raise UserError(
                "no notification left the topic: its policy must let events.amazonaws.com publish without conditions, "
                "and the policy of a customer managed key must let it encrypt"
            )
        return f"{len(expected)} left the topic"

    def small_batch(self) -> str:
        """A batch classifies the photos under a prefix."""
        for name in (PRESIGNED, DAMAGED):
            self.s3.upload_file(str(PHOTOS / name), self.inbox.bucket, f"{self.name}/batch/{name}")
        batch = Batch.start(self.deployed, prefix=f"{self.name}/batch/", name=self.name)
        if _await(lambda: batch.status() != "RUNNING" or None, OUTCOME_SECONDS) is None:
            raise UserError(f"the batch is still running; follow it with {batch.command('follow')}")
        summary = batch.summary()
        if (summary["photos"], summary["failed"]) != (2, 0):
            raise UserError(f"the batch of 2 photos reports {summary['photos']} photos, {summary['failed']} failed")
        return f"2 photos in {summary['seconds']} s"

    def healing(self) -> str:
        """RunAgain takes a message out of the dead-letter queue and classifies its photo."""
        try:
            decision = self._outcome(self.aside, SWEEP_SECONDS)
        except UserError as error:
            raise UserError(f"RunAgain did not start a set-aside photo: {error.message}") from error
        self.message = ""
        return f"RunAgain started a photo that was set aside; it is {decision.status}"

    def review(self) -> str:
        """A person's decision is announced and kept as a label; it is `neither`, so no driver is sent to a bay."""
        waiting = [photo for photo in self.photos.values() if photo.status == "REVIEW"]
        if not waiting:
            raise NotChecked("the model was sure of every sample photo")
        photo = next((each for each in waiting if each.key.rpartition("/")[2].startswith(NEITHER)), waiting[0])
        decide(self.deployed, photo.photo, NEITHER, self.name)
        announced = _await(lambda: self._announced_by_person(photo.key), 120)  # seconds, including the time for an undo
        if announced is None:
            raise UserError(f"{photo.key} was decided, but the decision was not announced")
        kept = _await(lambda: self._label(photo.photo), HEARD_SECONDS)
        if kept is None:
            raise UserError(f"{photo.key} was decided and announced, but no label was kept")
        self.prefixes.append(kept)
        return f"{NEITHER}, announced and kept as a label"

    def _label(self, photo: str) -> str | None:
        found = self.table.get(photo)
        return found.label if found and found.label_etag else None

    def _announced_by_person(self, key: str) -> bool | None:
        heard = self.listener.events()
        return any(each["s3_key"] == key and each.get("reviewed_by") == self.name for each in heard) or None

    # ------------------------------------------------------------------------------------------------- monitoring ---

    def metrics(self) -> str:
        """The functions' logs and metrics reach CloudWatch: the metric counts every rejection that the logs name."""
        if self.local:
            raise NotChecked("the local AWS does not collect metrics")
        logged = _await(self._rejections_logged, METRIC_SECONDS, every=10)
        if logged is None:
            raise UserError(f"no log names {self.folder}{DAMAGED}; is the functions' ApplicationLogLevel above INFO?")
        if _await(lambda: self._rejections_counted() >= logged or None, METRIC_SECONDS, every=10) is None:
            raise UserError(f"the logs name {logged} rejected photos, but the metric PhotosRejected counts fewer")
        return f"PhotosRejected counts all {logged} that the logs name"

    def _rejections_logged(self) -> int | None:
        """Return the number of photos rejected since the check began, once its own is among them."""
        pages = (
            self.deployed.client("logs")
            .get_paginator("filter_log_events")
            .paginate(
                logGroupName=self.deployed.outputs["FunctionLogs"],
                startTime=int(self.started.timestamp() * 1000),
                filterPattern='"photo rejected"',
            )
        )
        messages = [event["message"] for page in pages for event in page["events"]]
        return len(messages) if any(self.folder + DAMAGED in message for message in messages) else None

    def _rejections_counted(self) -> float:
        found = self.deployed.client("cloudwatch").get_metric_statistics(
            Namespace=f"LoadingBay/{self.deployed.outputs['StackName']}",
            MetricName="PhotosRejected",
            Dimensions=[{"Name": "service", "Value": "loading-bay"}],
            StartTime=self.started.replace(second=0, microsecond=0),
            EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in found["Datapoints"]))

    def dead_letter_queue(self) -> str:
        """The dead-letter queue is empty."""
        queue = self.deployed.outputs["UndeliveredEventsQueue"]
        # Messages that RunAgain is reading (NotVisible) or has deferred (Delayed) are waiting too.
        kinds = [f"ApproximateNumberOfMessages{each}" for each in ("", "NotVisible", "Delayed")]
        found = self.deployed.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=kinds)["Attributes"]
        waiting = sum(int(found.get(kind, 0)) for kind in kinds)
        if waiting:
            raise UserError(f"{waiting} undelivered events: deliver them with {self.deployed.command('replay')}")
        return "empty"

    def alarms(self) -> str:
        """None of the stack's alarms is in ALARM state."""
        names = self._resources("AWS::CloudWatch::Alarm")
        described = self.deployed.client("cloudwatch").describe_alarms(AlarmNames=names, StateValue="ALARM")
        firing = [f"{each['AlarmName']}: {each['AlarmDescription']}" for each in described["MetricAlarms"]]
        if firing:
            raise UserError("; ".join(firing))
        return f"{len(names)} quiet"

    # --------------------------------------------------------------------------------------------------- clean-up ---

    def _clean_up(self) -> None:
        """Remove the listener, every version of the photos, and their records; note everything that remains."""
        self.left += self.listener.stop()
        if self.message:
            self.left.append(f"message {self.message} in the dead-letter queue, about a photo that is deleted")
        for prefix in self.prefixes:
            self._trying(f"s3://{self.inbox.bucket}/{prefix}", partial(self._remove, prefix))
        table, key = self.deployed.outputs["BatchesTable"], {"batch_id": {"S": self.name}}
        dynamodb = self.deployed.client("dynamodb")
        self._trying(f"batch {self.name} in {table}", lambda: dynamodb.delete_item(TableName=table, Key=key))

    def _remove(self, prefix: str) -> None:
        """Remove every version of the objects under a prefix, and their records."""
        dynamodb = self.deployed.client("dynamodb")
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.inbox.bucket, Prefix=prefix):
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                self.s3.delete_object(Bucket=self.inbox.bucket, Key=each["Key"], VersionId=each["VersionId"])
                photo = f"s3://{self.inbox.bucket}/{each['Key']}#{each.get('ETag', '').strip(QUOTE)}"
                found = self.table.get(photo)
                if found and (found.status == "CLAIMED" or found.in_queue("OPEN")):
                    self.left.append(f"the record of {photo}, whose execution has not ended")
                else:
                    dynamodb.delete_item(TableName=self.table.name, Key={"photo": {"S": photo}})

    def _trying(self, name: str, remove: Callable[[], object]) -> None:
        try:
            remove()
        except AWS_ERRORS as error:
            self.left.append(f"{name} ({describe(error)})")


# The checks in order, each with the earlier checks that it depends on.
CHECKS: dict[str, tuple[Callable[[CheckRun], str], tuple[str, ...]]] = {
    "deployment": (CheckRun.deployment, ()),
    "endpoint": (CheckRun.endpoint, ()),
    "rules": (CheckRun.rules, ()),
    "subscriptions": (CheckRun.subscriptions, ()),
    "review page": (CheckRun.review_page, ()),
    "decoder": (CheckRun.decoder, ()),
    "listening": (CheckRun.listening, ()),
    "uploads": (CheckRun.uploads, ("endpoint", "rules", "decoder", "listening")),
    "announcements": (CheckRun.announcements, ("uploads",)),
    "notifications": (CheckRun.notifications, ("uploads",)),
    "small batch": (CheckRun.small_batch, ("uploads",)),
    "review": (CheckRun.review, ("uploads",)),
    "metrics": (CheckRun.metrics, ("uploads",)),
    "healing": (CheckRun.healing, ("uploads",)),
    "dead-letter queue": (CheckRun.dead_letter_queue, ()),
    "alarms": (CheckRun.alarms, ()),
}
QUOTE = '"'


def _picture() -> bytes:
    """Return the image in the sample event of InferenceFunction."""
    event = json.loads((ROOT / "events" / "inference.json").read_text())
    return base64.b64decode(event["image_data"])


def _await(look: Callable[[], T | None], seconds: float, every: float = 0.5) -> T | None:
    """Poll `look` until it finds something, and return that; return None after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(every)
    return found
