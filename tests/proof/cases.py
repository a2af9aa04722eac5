"""Writes the cases of the Node proofs as JSON: definitions, expressions with their results, calls with policies.

Run with the folder to write to. The expressions are those that the tests of the second interpreter evaluate, with the
variables that they saw; times and random ids are fixed.
"""

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import jsonata
import pytest

from loading_bay.stack.rendering import PLACE, reference, render, render_machines
from loading_bay.stack.template import read_template
from tests.unit import second_interpreter
from tests.unit.definitions import strings_in, tasks
from tests.unit.test_task_permissions import EVERYBODY, STARTING, named_by, needed_by_task, role_of

RESOURCES: dict[str, dict[str, Any]] = read_template()["Resources"]
MILLIS, UUID = 1_790_000_000_000, "00000000-0000-4000-8000-000000000000"
# The resource of a call whose arguments do not name a resource of the stack.
ELSEWHERE = {
    "cloudwatch": "*",
    "events:PutEvents": f"arn:aws:events:{PLACE}:event-bus/default",
    "events": f"arn:aws:events:{PLACE}:rule/StepFunctionsGetEventsForStepFunctionsExecutionRule",
    "s3:DeleteObject": "arn:aws:s3:::Inbox/labels/bicycle/1.jpg",
    "s3:PutObject": "arn:aws:s3:::Inbox/labels/bicycle/1.jpg",
    "s3:ListBucket": "arn:aws:s3:::Inbox",
    "s3": "arn:aws:s3:::Inbox/uploads/1.jpg",
    "sns": f"arn:aws:sns:{PLACE}:Notifications",
    "states:DescribeMapRun": f"arn:aws:states:{PLACE}:mapRun:loading-bay-Batch/1:2",
    "states:ListMapRuns": f"arn:aws:states:{PLACE}:execution:loading-bay-Batch:1",
    "states": f"arn:aws:states:{PLACE}:execution:ClassifyPhoto:1",
}
CONTEXT = {"cloudwatch:PutMetricData": {"cloudwatch:namespace": "LoadingBay/loading-bay"}}


def policies(role: str) -> list[dict[str, Any]]:
    """Return a role's own policies."""
    return [
        {"name": each["PolicyName"], "policy": render(each["PolicyDocument"])}
        for each in RESOURCES[role]["Properties"]["Policies"]
    ]


def calls() -> list[dict[str, Any]]:
    """Return each task's and each rule's calls: their action, resource, context, and their role's policies."""
    found = []
    for each in tasks():
        task = replace(each, integrations=each.integrations[-1:])  # where no condition holds
        role = role_of(task.machine)
        targets = [arn(target) for target in named_by(task)]
        for action in sorted(action for action in needed_by_task(task) if not EVERYBODY.fullmatch(action)):
            service = action.partition(":")[0]
            own = [target for target in targets if target.split(":")[2] == service]
            if action in {"states:DescribeExecution", "states:StopExecution"} or not own:
                own = [ELSEWHERE.get(action) or ELSEWHERE[service]]
            found += [call(str(task), role, action, target) for target in own]
    return found + [call(rule, role, "states:StartExecution", arn(target)) for rule, role, target in sorted(STARTING)]


def call(by: str, role: str, action: str, resource: str) -> dict[str, Any]:
    """Return one call."""
    return {
        "by": by,
        "role": role,
        "action": action,
        "resource": resource,
        "context": CONTEXT.get(action, {}),
        "policies": policies(role),
    }


def arn(target: str) -> str:
    """Return the ARN of `Decisions.Arn/index/by_queue`, `ClassifyPhoto` and the like."""
    name, slash, rest = target.partition("/")
    return f"{reference(name)}{slash}{rest}"


def run_others() -> None:
    """Run two cases on the second interpreter that its tests leave out: one sweep, and one person's decision."""
    with second_interpreter.interpreter() as bay:
        sqs = boto3.client("sqs", second_interpreter.REGION)
        queue = sqs.create_queue(QueueName="undelivered")["QueueUrl"]
        topic = boto3.client("sns", second_interpreter.REGION).create_topic(Name="notifications")["TopicArn"]
        bay.values |= {"StackName": "bay", "DecisionsTable": bay.create_table("Decisions"), "Notifications": topic}
        bay.values |= {"UndeliveredEvents": queue, "Shards": "0", "MostRounds": "2", "GiveUpAfterHours": "24"}
        bay.values |= {"UndoSeconds": "0", "ClaimSeconds": "600", "InboxBucket": "inbox", "Partition": "aws"}
        bay.s3.create_bucket(Bucket="inbox")
        bay.s3.put_bucket_versioning(Bucket="inbox", VersioningConfiguration={"Status": "Enabled"})
        etag = bay.s3.put_object(Bucket="inbox", Key="uploads/1.jpg", Body=b"photo")["ETag"].strip('"')
        photo = f"s3://inbox/uploads/1.jpg#{etag}"
        texts = {"photo": photo, "s3_bucket": "inbox", "s3_key": "uploads/1.jpg", "etag": etag, "claim": "0123"}
        texts |= {"label": "labels/bicycle/0123-r"}
        texts |= {"status": "ROUTED", "vehicle": "bicycle", "review_id": "r", "reviewed_by": "ana", "queue": "OPEN#0"}
        item: dict[str, Any] = {name: {"S": text} for name, text in texts.items()} | {"due_at": {"N": "1"}}
        item["probabilities"] = {"M": {"bicycle": {"N": "0.6"}, "motorcycle": {"N": "0.4"}}}
        bay.dynamodb.put_item(TableName="Decisions", Item=item)
        event = {"bucket": {"name": "inbox"}, "object": {"key": "uploads/2.jpg"}}
        notice = {"s3_bucket": "inbox", "s3_key": "uploads/3.jpg", "reason": "unsure", "scores": "bicycle 0.52"}
        notice |= {"decided_at": "2026-11-25T18:00:00.000Z", "execution_arn": "arn:aws:states:execution"}
        for body in (
            {"detail": event},
            {"source": "loading-bay", "detail-type": "Photo Needs Review", "detail": notice},
            {"names": "no photo"},
        ):
            sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
        for machine, given in (("RunAgain", {}), ("AnnounceReview", {"photo": photo, "review_id": "r"})):
            run = bay.run(machine, given)
            if run.status != "SUCCEEDED":
                sys.exit(f"{machine} ends as {run.status} on the second interpreter: {run.cause}")


def evaluated() -> list[dict[str, Any]]:
    """Run the second interpreter; return each expression that it evaluates, with its variables and its result."""
    found: dict[str, Any] = {}
    original = second_interpreter._evaluate

    def recording(expression: str) -> Any:
        still = jsonata.Jsonata(expression)
        still.register_lambda("uuid", lambda: UUID)
        still.register_lambda("millis", lambda: MILLIS)
        try:
            found[expression] = {"result": still.evaluate(None)}
        except Exception:
            found[expression] = {"fails": True}
        return original(expression)

    with mock.patch.object(second_interpreter, "_evaluate", recording):
        run_others()
        status = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "tests/unit/test_second_interpreter.py"])
    if status:
        sys.exit("the tests of the second interpreter fail")
    return [{"expression": expression, **outcome} for expression, outcome in found.items()]


def main(folder: Path) -> None:
    """Write everything."""
    folder.mkdir(parents=True, exist_ok=True)
    definitions = {machine.name: machine.definition for machine in render_machines()}
    written = sorted(
        {text[2:-2].strip() for each in definitions.values() for text in strings_in(each) if text.startswith("{%")}
    )
    content = {
        "definitions": definitions,
        "expressions": written,
        "evaluated": evaluated(),
        "calls": calls(),
        "millis": MILLIS,
        "uuid": UUID,
    }
    (folder / "cases.json").write_text(json.dumps(content, default=str))


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # the interpreter's, about calls that are meant to fail
    os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    main(Path(sys.argv[1]))
