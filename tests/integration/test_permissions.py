"""The Lambda roles are minimal: with them everything works, and without any one permission something fails.

The local AWS enforces only the functions' roles, and only for calls of functions. It lacks SageMaker, so these tests'
endpoint asks it for a role's permissions, as SageMaker would. It writes the functions' logs and traces itself. Unlike
S3, it reports a missing photo even to callers without permission to list the bucket. So the tests would not notice if
the shared policy for logs and traces, s3:ListBucket or the roles of state machines and rules were removed;
tests/unit/test_template.py checks their exact lists.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.responses import Response

from functions.decisions.decision import Decision
from loading_bay.cli.main import main
from loading_bay.local.stack import ENDPOINT_NAME, REGION, Options, Stack
from loading_bay.operations.reviewers import add_reviewer
from loading_bay.stack.deployed import STACK_NAME
from loading_bay.stack.template import read_template

from .bay import NO_DRAWS, Bay, picture, wait_for
from .endpoint import Endpoint, by_colour, failure
from .reviewing import ReviewApi

pytestmark = pytest.mark.long

FUNCTIONS = ("Serialize", "Inference", "Threshold", "Review")
NOT_SHOWN_HERE = {("Serialize", "s3:ListBucket")}


class Role:
    """One function's role in the deployed stack, and its inline policy, if it has one."""

    def __init__(self, stack: Stack, logical_id: str) -> None:
        described = stack.client("cloudformation").describe_stack_resource(
            StackName=STACK_NAME, LogicalResourceId=logical_id
        )
        self._iam = stack.client("iam")
        self.name = described["StackResourceDetail"]["PhysicalResourceId"]
        self.arn = self._iam.get_role(RoleName=self.name)["Role"]["Arn"]
        self._document: dict[str, Any] = {"Statement": []}
        for name in self._iam.list_role_policies(RoleName=self.name)["PolicyNames"]:
            self._policy = name
            self._document = self._iam.get_role_policy(RoleName=self.name, PolicyName=name)["PolicyDocument"]

    @property
    def actions(self) -> set[str]:
        """Every action that the policy allows."""
        return {action for statement in self._document["Statement"] for action in as_list(statement["Action"])}

    @contextmanager
    def without(self, action: str) -> Iterator[None]:
        """Take one action away while the block runs."""
        reduced = [
            statement | {"Action": [each for each in as_list(statement["Action"]) if each != action]}
            for statement in self._document["Statement"]
        ]
        self._put([statement for statement in reduced if statement["Action"]])
        try:
            yield
        finally:
            self._put(self._document["Statement"])

    def may(self, action: str, resource: str) -> bool:
        """Ask the local AWS whether the role may do something."""
        answer = self._iam.simulate_principal_policy(
            PolicySourceArn=self.arn, ActionNames=[action], ResourceArns=[resource]
        )
        return bool(answer["EvaluationResults"][0]["EvalDecision"] == "allowed")

    def _put(self, statements: list[dict[str, Any]]) -> None:
        if not statements:  # which no policy may be
            self._iam.delete_role_policy(RoleName=self.name, PolicyName=self._policy)
            return
        document = json.dumps(self._document | {"Statement": statements})
        self._iam.put_role_policy(RoleName=self.name, PolicyName=self._policy, PolicyDocument=document)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def guarded_bay(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bay]:
    folder: Path = tmp_path_factory.mktemp("stack")
    options = Options(
        endpoint_url=endpoint.url,
        wait_scale=0,
        enforce_iam=True,
        parameters=NO_DRAWS,
    )
    stack = Stack.up(folder, options, say=print)
    bay = Bay(stack)
    # The local AWS listens on plain HTTP, but enforces the inbox's policy: TLS only.
    bay.s3.delete_bucket_policy(Bucket=bay.bucket)
    yield bay
    stack.down()


@pytest.fixture(scope="module")
def roles(guarded_bay: Bay) -> dict[str, Role]:
    return {name: Role(guarded_bay.stack, f"{name}FunctionRole") for name in FUNCTIONS}


@pytest.fixture(autouse=True)
def guarded_endpoint(endpoint: Endpoint, roles: dict[str, Role]) -> Iterator[None]:
    """Answer like SageMaker: refuse a role without permission for this endpoint."""
    account = roles["Inference"].arn.split(":")[4]
    resource = f"arn:aws:sagemaker:{REGION}:{account}:endpoint/{ENDPOINT_NAME}"

    def answer(body: bytes) -> Response:
        if roles["Inference"].may("sagemaker:InvokeEndpoint", resource):
            return by_colour(body)
        return failure(403, "AccessDeniedException")

    with endpoint.answering(answer):
        yield


def classify_upload(bay: Bay) -> Decision:
    """Upload a photo like a driver."""
    return bay.outcome(bay.upload(picture("red")))


def classify_version(bay: Bay) -> Decision:
    """Classify a version of a photo that has been overwritten since."""
    key = f"elsewhere/overwritten-{uuid.uuid4()}.jpg"
    stored = bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("red"))
    bay.s3.put_object(Bucket=bay.bucket, Key=key, Body=picture("blue"))
    version = {"version_id": stored["VersionId"], "etag": stored["ETag"].strip('"')}
    return run(bay, {"s3_bucket": bay.bucket, "s3_key": key} | version)


def classify_missing(bay: Bay) -> Decision:
    """Classify a photo that does not exist."""
    return run(bay, {"s3_bucket": bay.bucket, "s3_key": f"elsewhere/missing-{uuid.uuid4()}.jpg", "etag": "0" * 32})


def run(bay: Bay, execution_input: dict[str, str]) -> Decision:
    execution = bay.start(execution_input)
    bay.ended(execution)
    (decision,) = wait_for(
        lambda: [each for each in bay.decisions(execution_input["s3_key"]) if each.execution_arn == execution]
    )
    return decision


NEEDED = {
    ("Serialize", "s3:GetObject"): classify_upload,
    ("Serialize", "s3:GetObjectVersion"): classify_version,
    ("Inference", "sagemaker:InvokeEndpoint"): classify_upload,
}


def test_with_their_roles_the_functions_do_everything(guarded_bay: Bay) -> None:
    for decision in (classify_upload(guarded_bay), classify_version(guarded_bay)):
        assert (decision.status, decision.vehicle, decision.why) == ("ROUTED", "bicycle", "")
    missing = classify_missing(guarded_bay)
    assert (missing.status, missing.error) == ("REJECTED", "PhotoNotFound"), missing.why


@pytest.mark.parametrize(("name", "action"), NEEDED, ids=lambda part: part)
def test_without_any_one_permission_something_fails(
    guarded_bay: Bay, roles: dict[str, Role], name: str, action: str
) -> None:
    with roles[name].without(action):
        decision = NEEDED[name, action](guarded_bay)

    assert decision.status == "FAILED"
    assert "AccessDenied" in decision.why


def test_the_check_of_a_stack_notices_a_role_without_a_permission(
    guarded_bay: Bay, roles: dict[str, Role], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in guarded_bay.stack.environment().items():
        monkeypatch.setenv(name, value)

    with guarded_bay.swept(), roles["Serialize"].without("s3:GetObject"):
        done = CliRunner(mix_stderr=False).invoke(main, ["check", "--json"])

    assert done.exit_code == 1
    failed = [each["detail"] for each in json.loads(done.stdout) if each["status"] == "failed"]
    assert any("AccessDenied" in detail for detail in failed)


def test_without_tls_nobody_reads_the_inbox(guarded_bay: Bay) -> None:
    (template,) = [
        resource["Properties"]["PolicyDocument"]
        for resource in read_template()["Resources"].values()
        if resource["Type"] == "AWS::S3::BucketPolicy"
    ]
    arn = f"arn:aws:s3:::{guarded_bay.bucket}"
    policy = template | {
        "Statement": [statement | {"Resource": [arn, f"{arn}/*"]} for statement in template["Statement"]]
    }
    guarded_bay.s3.put_bucket_policy(Bucket=guarded_bay.bucket, Policy=json.dumps(policy))
    try:
        decision = run(
            guarded_bay, {"s3_bucket": guarded_bay.bucket, "s3_key": "elsewhere/plain.jpg", "etag": "0" * 32}
        )
    finally:
        guarded_bay.s3.delete_bucket_policy(Bucket=guarded_bay.bucket)

    assert decision.status == "FAILED"
    assert "explicit deny in a resource-based policy" in decision.why


@pytest.fixture(scope="module")
def api(guarded_bay: Bay) -> ReviewApi:
    return ReviewApi(guarded_bay.stack)


@pytest.fixture(scope="module")
def token(guarded_bay: Bay, api: ReviewApi) -> str:
    return api.tokens(add_reviewer(guarded_bay.stack.deployed, "kim", "kim@example.com"))["access_token"]


def unsure(bay: Bay, version: bool) -> str:
    """Upload a photo that needs review; return its name in the table."""
    number = uuid.uuid4().int
    key = bay.upload(picture("grey", size=(40 + number % 400, 40 + number // 400 % 400)), f"driver-7/{uuid.uuid4()}")
    wait_for(partial(bay.waits, key))
    photo = bay.outcome(key).photo
    if version:
        bay.dynamodb.update_item(
            TableName=bay.table,
            Key={"photo": {"S": photo}},
            UpdateExpression="SET version_id = :version",
            ExpressionAttributeValues={":version": {"S": bay.s3.head_object(Bucket=bay.bucket, Key=key)["VersionId"]}},
        )
    return photo


# Permission → the call of the review page that fails without it.
REVIEW_NEEDED = {
    "dynamodb:Query": "queue",
    "dynamodb:BatchGetItem": "queue",
    "dynamodb:UpdateItem": "decide",
    "dynamodb:GetItem": "picture",
    "s3:ListBucket": "beside",
    "s3:GetObject": "picture",
    "s3:GetObjectVersion": "picture of a version",
    "states:StartExecution": "announcement",
}


@pytest.mark.parametrize("action", REVIEW_NEEDED)
def test_without_any_one_permission_the_review_page_fails(
    guarded_bay: Bay, roles: dict[str, Role], api: ReviewApi, token: str, action: str
) -> None:
    name = REVIEW_NEEDED[action]
    photo = unsure(guarded_bay, version=name == "picture of a version")
    body = {"photo": photo, "since": "2026-11-25T00:00:00Z", "want": 1, "answer": "bicycle"}
    call = {"announcement": "decide", "picture of a version": "picture"}.get(name, name)

    with roles["Review"].without(action):
        without, _ = api.call(call, body | {"review_id": str(uuid.uuid4())}, token)

    if name == "announcement":  # the decision is recorded, and left to RunAgain
        stored = guarded_bay.dynamodb.get_item(TableName=guarded_bay.table, Key={"photo": {"S": photo}})["Item"]
        executions = guarded_bay.sfn.list_executions(stateMachineArn=guarded_bay.stack.outputs["AnnounceReviewArn"])[
            "executions"
        ]
        assert (without, stored["queue"]["S"][:5]) == (200, "OPEN#")
        assert not any(each["name"].startswith(stored["review_id"]["S"]) for each in executions)
    else:
        assert without >= 500
        assert api.call(call, body | {"review_id": str(uuid.uuid4())}, token)[0] == 200


def test_no_role_holds_a_permission_that_is_not_shown_to_be_needed(roles: dict[str, Role]) -> None:
    for name, role in roles.items():
        needed = {action for function, action in {*NEEDED, *NOT_SHOWN_HERE} if function == name}
        needed |= set(REVIEW_NEEDED) if name == "Review" else set()
        assert role.actions == needed


def test_the_transformed_template_adds_no_role_or_policy(guarded_bay: Bay) -> None:
    written = {
        name: (
            len(resource["Properties"].get("Policies", [])),
            len(resource["Properties"].get("ManagedPolicyArns", [])),
        )
        for name, resource in read_template()["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role" and resource.get("Condition") != "Reconciles"  # no schedule here
    }
    pages = guarded_bay.stack.client("cloudformation").get_paginator("list_stack_resources")
    deployed = [
        resource for page in pages.paginate(StackName=STACK_NAME) for resource in page["StackResourceSummaries"]
    ]

    iam = guarded_bay.stack.client("iam")
    roles = [resource for resource in deployed if resource["ResourceType"] == "AWS::IAM::Role"]
    assert {role["LogicalResourceId"] for role in roles} == set(written)
    for role in roles:
        name = role["PhysicalResourceId"]
        own = iam.list_role_policies(RoleName=name)["PolicyNames"]
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        assert (len(own), len(attached)) == written[role["LogicalResourceId"]]
    assert "AWS::IAM::Policy" not in {resource["ResourceType"] for resource in deployed}
    permissions = [each for each in deployed if each["ResourceType"] == "AWS::Lambda::Permission"]
    assert {each["LogicalResourceId"] for each in permissions} == {
        "ReviewFunctionPermission",
        "DriverFunctionPermission",
    }


def test_the_functions_may_use_only_their_resources(guarded_bay: Bay, roles: dict[str, Role]) -> None:
    inbox = f"arn:aws:s3:::{guarded_bay.bucket}"
    assert roles["Serialize"].may("s3:GetObject", f"{inbox}/uploads/photo.jpg")
    for action, resource in [
        ("s3:GetObject", "arn:aws:s3:::another-bucket/photo.jpg"),
        ("s3:PutObject", f"{inbox}/uploads/photo.jpg"),
        ("s3:PutObject", f"{inbox}/labels/bicycle/photo.jpg"),
        ("s3:DeleteObject", f"{inbox}/uploads/photo.jpg"),
        ("dynamodb:PutItem", f"arn:aws:dynamodb:{REGION}:000000000000:table/{guarded_bay.table}"),
        ("states:StartExecution", guarded_bay.machine),
        ("sagemaker:InvokeEndpoint", f"arn:aws:sagemaker:{REGION}:000000000000:endpoint/another"),
    ]:
        assert not any(role.may(action, resource) for role in roles.values()), (action, resource)
