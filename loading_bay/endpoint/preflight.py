"""Checks everything that a deployment needs before anything is created; the checks are free."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from loading_bay.stack.deployed import client
from loading_bay.stack.errors import DENIED, REMEDIES, UserError, describe, explained

from . import live_endpoint
from .hosting import Clients, RealTime, Serverless

if TYPE_CHECKING:
    from mypy_boto3_service_quotas import ServiceQuotasClient

ECR_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z.]+/(?P<name>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>.+))?"
)
# SageMaker refuses an OCI index.
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def preflight(
    clients: Clients,
    *,
    endpoint: str,
    role: str,
    image: str | None,
    bucket: str | None,
    variant: RealTime | Serverless,
    region: str | None,
) -> Iterator[str]:
    """Yield one line for each requirement that is met, or that these credentials may not check.

    Raises:
        UserError: a requirement is not met; the message names it and its remedy.
    """
    with explained("use these credentials"):
        caller = client("sts", region).get_caller_identity()
    place = clients.sagemaker.meta.region_name
    yield f"credentials: {caller['Arn']} in {place}"
    checks: list[tuple[str, Callable[[], str]]] = [("role", lambda: _role(role, region))]
    if image and (found := ECR_IMAGE.fullmatch(image)):
        checks.append(("image", lambda: _image(image, found, place)))
    if bucket:
        checks.append(("bucket", lambda: _bucket(clients, bucket, place)))
    if isinstance(variant, RealTime):
        needed = instances_needed(live_endpoint.instances_now(live_endpoint.describe(clients, endpoint)), variant)
        checks.append(("quota", lambda: require_quota(client("service-quotas", region), variant.instance_type, needed)))
    for name, check in checks:
        try:
            yield f"{name}: {check()}"
        except ClientError as error:
            if REMEDIES.get(error.response["Error"]["Code"]) != DENIED:
                raise UserError(f"cannot check the {name}: {describe(error)}") from error
            yield f"{name}: not checked, {describe(error)}"


def instances_needed(now: int, variant: RealTime) -> int:
    """Return the most instances that run at once while an endpoint with `now` instances is created or updated.

    An update starts a second fleet beside the first, of at least two instances.
    """
    return now + max(variant.least, now, 2) if now else variant.least


def require_quota(quotas: "ServiceQuotasClient", instance_type: str, needed: int) -> str:
    """Return a line with the account's quota for an endpoint's instances.

    Args:
        quotas: Service Quotas, as a boto3 client.
        instance_type: such as ml.m5.large.
        needed: the number of instances that run at once.

    Raises:
        UserError: the quota is below `needed`.
    """
    name = f"{instance_type} for endpoint usage"
    # The first listing leaves out quotas that were never changed.
    for listing in ("list_service_quotas", "list_aws_default_service_quotas"):
        for page in quotas.get_paginator(listing).paginate(ServiceCode="sagemaker"):
            for quota in page["Quotas"]:
                if quota["QuotaName"] != name:
                    continue
                if quota["Value"] < needed:
                    raise UserError(
                        f'the quota "{name}" is {quota["Value"]:.0f}, and {needed} run at once here: request '
                        f"{max(needed, 4)} with aws service-quotas request-service-quota-increase "
                        f"--service-code sagemaker --quota-code {quota['QuotaCode']} --desired-value {max(needed, 4)}"
                    )
                return f"{name}: {quota['Value']:.0f} ({needed} needed)"
    raise UserError(f'SageMaker lists no quota "{name}": does {instance_type} exist in this region?')


def _role(role: str, region: str | None) -> str:
    found = client("iam", region).get_role(RoleName=role.rpartition("/")[2])["Role"]
    if "sagemaker.amazonaws.com" not in str(found["AssumeRolePolicyDocument"]):
        raise UserError(f"{role} does not trust sagemaker.amazonaws.com; docs/deploy.md shows how to create it")
    return f"{role} trusts SageMaker"


def _image(image: str, found: re.Match[str], place: str) -> str:
    if found["region"] != place:
        raise UserError(f"{image} is in {found['region']}, but SageMaker in {place} only takes images from {place}")
    identity = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    described = client("ecr", place).describe_images(
        registryId=found["account"], repositoryName=found["name"], imageIds=[identity]
    )
    manifest = described["imageDetails"][0].get("imageManifestMediaType", "of an unknown type")
    if manifest != MANIFEST:
        raise UserError(
            f"the manifest of {image} is {manifest}, but SageMaker only takes {MANIFEST}: "
            "push the image as docs/deploy.md shows"
        )
    return f"{image} has a manifest that SageMaker takes"


def _bucket(clients: Clients, bucket: str, place: str) -> str:
    answer = clients.s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    there = answer.get("x-amz-bucket-region", place)
    if there != place:
        raise UserError(f"the bucket {bucket} is in {there}, but SageMaker in {place} only reads models from {place}")
    return f"{bucket} in {there}"
