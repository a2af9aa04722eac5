"""Deploying an endpoint checks its requirements before it creates anything, and names those not met."""

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from loading_bay.endpoint import preflight
from loading_bay.endpoint.hosting import Clients, RealTime, Serverless
from loading_bay.stack import deployed
from loading_bay.stack.errors import UserError

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/endpoint"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/bay:1"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ONE = RealTime("ml.m5.large", 1, 2, 1000, None)
USAGE = "ml.m5.large for endpoint usage"


@pytest.fixture(autouse=True)
def account() -> Iterator[None]:
    """An account in which everything is there, but for the image."""
    with mock_aws():
        trust(ROLE, "sagemaker.amazonaws.com")
        boto3.client("s3", REGION).create_bucket(Bucket="photos")
        boto3.client("ecr", REGION).create_repository(repositoryName="bay")
        yield


def trust(role: str, service: str) -> None:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    boto3.client("iam", REGION).create_role(RoleName=role.rpartition("/")[2], AssumeRolePolicyDocument=document)


def push(media_type: str) -> None:
    manifest = {"schemaVersion": 2, "mediaType": media_type}
    manifest |= (
        {"manifests": []} if media_type == INDEX else {"config": {"size": 1, "digest": "sha256:0"}, "layers": []}
    )
    boto3.client("ecr", REGION).put_image(
        repositoryName="bay", imageManifest=json.dumps(manifest), imageManifestMediaType=media_type, imageTag="1"
    )


def looked(**changed: Any) -> list[str]:
    given: dict[str, Any] = {"endpoint": "bay", "role": ROLE, "image": IMAGE, "bucket": "photos"}
    given |= {"variant": Serverless(2048, 5), "region": REGION}
    return list(preflight.preflight(Clients.connect(REGION), **given | changed))


def test_met_requirements_are_named() -> None:
    push(DOCKER)

    assert [line.partition(":")[0] for line in looked()] == ["credentials", "role", "image", "bucket"]


def test_an_image_that_sagemaker_refuses_is_named() -> None:
    push(INDEX)

    with pytest.raises(UserError, match=re.escape(f"the manifest of {IMAGE} is {INDEX}")):
        looked()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"role": "arn:aws:iam::123456789012:role/nobody"}, "cannot check the role: NoSuchEntity"),
        ({"role": "arn:aws:iam::123456789012:role/other"}, "does not trust sagemaker.amazonaws.com"),
        ({"image": IMAGE}, "cannot check the image: ImageNotFound"),
        ({"image": IMAGE.replace("/bay", "/none")}, "cannot check the image: RepositoryNotFound"),
        ({"image": IMAGE.replace("us-east-1", "eu-west-1")}, "is in eu-west-1, but SageMaker in us-east-1"),
        ({"image": None, "bucket": "nowhere"}, "cannot check the bucket: 404"),
        ({"image": None, "bucket": "far"}, "the bucket far is in eu-west-1"),
    ],
)
def test_missing_requirements_are_named(changed: dict[str, Any], message: str) -> None:
    trust("other", "lambda.amazonaws.com")
    boto3.client("s3", "eu-west-1").create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )

    with pytest.raises(UserError, match=message):
        looked(**changed)


def quotas(**listings: float) -> Any:
    """Service Quotas that list the quota so high, under the names of the listings."""
    client = boto3.client("service-quotas", REGION)
    stub = Stubber(client)
    other = {"QuotaName": "ml.m5.large for training job usage", "QuotaCode": "L-0", "Value": 99.0}
    for name in ("list_service_quotas", "list_aws_default_service_quotas"):
        found = [{"QuotaName": USAGE, "QuotaCode": "L-1", "Value": listings[name]}] if name in listings else []
        stub.add_response(name, {"Quotas": [other], "NextToken": "more"}, {"ServiceCode": "sagemaker"})
        stub.add_response(name, {"Quotas": found}, {"ServiceCode": "sagemaker", "NextToken": "more"})
    stub.activate()
    return client


@pytest.mark.parametrize("listing", ["list_service_quotas", "list_aws_default_service_quotas"])
def test_the_quota_is_found_where_it_was_changed_and_where_it_never_was(listing: str) -> None:
    assert preflight.require_quota(quotas(**{listing: 4}), "ml.m5.large", 3) == f"{USAGE}: 4 (3 needed)"


def test_a_quota_of_a_new_account_is_refused_with_the_command_that_asks_for_more() -> None:
    with pytest.raises(UserError, match=rf'"{USAGE}" is 0, and 1 run at once here.*--quota-code L-1'):
        preflight.require_quota(quotas(list_aws_default_service_quotas=0), "ml.m5.large", 1)


def test_an_instance_type_that_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match=r"no quota .*does ml.m5.large exist"):
        preflight.require_quota(quotas(), "ml.m5.large", 1)


@pytest.mark.parametrize(("now", "least", "needed"), [(0, 1, 1), (0, 3, 3), (1, 1, 3), (2, 1, 4), (3, 4, 7)])
def test_an_update_needs_a_second_fleet(now: int, least: int, needed: int) -> None:
    assert preflight.instances_needed(now, RealTime("ml.m5.large", least, 8, 1000, None)) == needed


def test_a_quota_that_may_not_be_checked_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    push(DOCKER)
    client = boto3.client("service-quotas", REGION)
    stub = Stubber(client)
    stub.add_client_error("list_service_quotas", "AccessDeniedException", "not authorized")
    stub.activate()
    real = deployed.client
    monkeypatch.setattr(
        preflight, "client", lambda name, *more: client if name == "service-quotas" else real(name, *more)
    )

    assert looked(variant=ONE)[-1].startswith("quota: not checked, AccessDeniedException: not authorized")
