"""Host: deploys, shows and deletes an endpoint."""

import re
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from loading_bay.cli.commands import Command
from loading_bay.endpoint import artifact, deployment, inventory
from loading_bay.endpoint.guardrails import is_burstable
from loading_bay.endpoint.hosting import Capture, Clients, Hosting, RealTime, Serverless
from loading_bay.endpoint.preflight import preflight
from loading_bay.model import dataset, predictors
from loading_bay.stack.deployed import client
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.stack.image_size import SHAPE_PARAMETER, SIZE_PARAMETER, WHOLE
from loading_bay.stack.prices import hosting_sentence
from loading_bay.stack.template import parameter_default

from . import options
from .options import CAPTURE_PREFIX, SHIPPED_MODEL, console

MEMORY_SIZES = ("1024", "2048", "3072", "4096", "5120", "6144")


@click.command(
    cls=Command, examples=["--image IMAGE --bucket BUCKET --role ROLE", "--job JOB --bucket BUCKET --role ROLE"]
)
@options.endpoint
@click.option("--job", help="Host the model of this finished training job.")
@click.option("--model", type=Path, help="Host this model file.  [default: the shipped model]")
@click.option("--image", help="The container image in ECR; not needed for a job of the built-in recipe.")
@click.option("--bucket", help="Bucket for the model file and the captures.")
@options.role("endpoint")
@click.option("--instance-type", default="ml.m5.large", help="Instance type of the endpoint.")
@click.option("--min-instances", type=click.IntRange(1), default=1, help="Fewest instances.")
@click.option("--max-instances", type=click.IntRange(1), default=2, help="Most instances.")
@click.option("--calls-per-instance", type=click.IntRange(1), default=1000, help="Calls per minute that scale out.")
@click.option("--capture-percent", type=click.IntRange(0, 100), default=100, help="Percentage of calls to capture.")
@click.option("--capture-prefix", default=CAPTURE_PREFIX, help="Prefix of the captures in the bucket.")
@click.option("--serverless", is_flag=True, help="Pay per call instead of per hour; no data capture.")
@click.option("--memory", type=click.Choice(MEMORY_SIZES), default="2048", help="Megabytes of memory (serverless).")
@click.option("--concurrency", type=click.IntRange(1, 200), default=5, help="Concurrent calls (serverless).")
@click.option("--photo", type=Path, help="A PNG to test the endpoint with.  [default: a plain grey one]")
@click.option("--dry-run", is_flag=True, help="Check credentials, role, image, bucket and quota; create nothing.")
@options.yes
@options.region
def deploy(
    *,
    endpoint: str,
    job: str | None,
    model: Path | None,
    image: str | None,
    bucket: str | None,
    role: str | None,
    photo: Path | None,
    dry_run: bool,
    yes: bool,
    region: str | None,
    **instances: Any,
) -> None:
    """Host a model: create an endpoint, or move an existing one to the model by canary.

    Credentials, role, image, bucket and quota are checked before the price is named and anything is created.
    """
    if job and model:
        raise click.UsageError("--job and --model exclude each other")
    if not re.fullmatch(r"[a-z0-9](-*[a-z0-9]){0,46}", endpoint):  # in its ARN SageMaker writes a name in lower case
        raise UserError(f"{endpoint} cannot name an endpoint: use lower-case letters, digits and hyphens, 47 at most")
    role = options.role_arn(role)
    variant = read_variant(bucket, **instances)
    body = probe_photo(photo)
    clients = Clients.connect(region)
    needs = preflight(clients, endpoint=endpoint, role=role, image=image, bucket=bucket, variant=variant, region=region)
    for line in needs:
        console.print(line, soft_wrap=True)
    if isinstance(variant, RealTime):
        console.print(hosting_sentence(variant.instance_type, variant.least, variant.most))
    if dry_run:
        return
    if isinstance(variant, RealTime) and not yes:
        click.confirm("Go on?", abort=True)
    predictor = predictors.endpoint_predictor(client("sagemaker-runtime", region), endpoint)
    made = (
        artifact.from_job(clients, job, image)
        if job
        else artifact.from_file(clients, model or SHIPPED_MODEL, image, bucket)
    )
    hosting = Hosting(endpoint, made.image, made.uri, role, variant, made.side)
    deployment.deploy(clients, hosting, lambda: deployment.probe(predictor, body, made.classes), console.print)
    measure = command("model", "evaluate", "--endpoint", endpoint)
    console.print(f"Endpoint {endpoint} answers. Measure it: {measure}")
    if made.side and made.side != int(parameter_default(SIZE_PARAMETER)):
        parameters = f"{SHAPE_PARAMETER}={WHOLE} {SIZE_PARAMETER}={made.side}"
        console.print(f"Its model takes whole photos of {made.side} pixels: deploy the stack with {parameters}.")


def read_variant(
    bucket: str | None,
    *,
    instance_type: str,
    min_instances: int,
    max_instances: int,
    calls_per_instance: int,
    capture_percent: int,
    capture_prefix: str,
    serverless: bool,
    memory: str,
    concurrency: int,
) -> RealTime | Serverless:
    """Return the endpoint's instances, and their data capture.

    Raises:
        UserError: the options contradict each other, or captures lack a bucket.
    """
    if serverless:
        if capture_percent:
            raise UserError(
                "a serverless endpoint cannot capture data on AWS, so monitoring would see "
                "nothing. Give --capture-percent 0 and watch the decisions table, or deploy without --serverless"
            )
        return Serverless(int(memory), concurrency)
    if max_instances < min_instances:
        raise UserError("--max-instances is less than --min-instances")
    capture = None
    if capture_percent:
        bucket = options.required(bucket, "--bucket", "the bucket for captures, or --capture-percent 0")
        capture = Capture(capture_percent, f"s3://{bucket}/{capture_prefix}")
    if is_burstable(instance_type) and max_instances > min_instances:
        console.print(f"{instance_type} cannot be scaled automatically: it stays at {min_instances}")
        max_instances = min_instances
    return RealTime(instance_type, min_instances, max_instances, calls_per_instance, capture)


def probe_photo(path: Path | None) -> bytes:
    """Return the PNG for testing a new endpoint."""
    if path is None:
        side = dataset.PHOTO_SIDE
        return predictors.encode(np.full((side, side, 3), 128, dtype=np.uint8))
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


@click.command(cls=Command, examples=["", "--endpoint loading-bay"])
@options.endpoint
@options.region
def status(*, endpoint: str, region: str | None) -> None:
    """Show an endpoint and all its resources."""
    found = inventory.status(Clients.connect(region), endpoint)
    if not found.exists:
        console.print(f"Endpoint {endpoint} and its resources do not exist.")
        return
    table = Table(show_header=False, title=f"Endpoint {endpoint}", title_justify="left")
    for label, value in found.rows():
        table.add_row(label, value)
    console.print(table)


@click.command(cls=Command, examples=["", "--captures --yes"])
@options.endpoint
@click.option("--captures", is_flag=True, help="Also delete its captured records in S3.")
@click.option("--bucket", help="Bucket of the captures, if the endpoint's configuration is gone.")
@click.option("--capture-prefix", default=CAPTURE_PREFIX, help="Prefix of the captures in the bucket.")
@options.yes
@options.region
def cleanup(
    *, endpoint: str, captures: bool, bucket: str | None, capture_prefix: str, yes: bool, region: str | None
) -> None:
    """Delete an endpoint with its configurations, models, scaling and alarms."""
    clients = Clients.connect(region)
    found = inventory.status(clients, endpoint)
    uri = f"s3://{bucket}/{capture_prefix}" if bucket else found.capture_uri
    if captures and not uri and found.exists:
        raise UserError(f"endpoint {endpoint} does not name the captures' address: give their bucket with --bucket")
    keys = inventory.captures(clients, uri, endpoint) if captures and uri else []
    if not found.exists and not keys:
        console.print(f"Endpoint {endpoint} has nothing to delete.")
        return
    for label, value in found.rows():
        console.print(f"{label}: {value}")
    if keys:
        console.print(f"captured records: {len(keys)} in {uri}/{endpoint}/")
    if not yes:
        click.confirm("Delete all of it?", abort=True)
    for line in inventory.cleanup(clients, found):
        console.print(f"deleted {line}")
    if uri and keys:
        inventory.delete_captures(clients, uri, keys)
        console.print(f"deleted {len(keys)} captured records")
