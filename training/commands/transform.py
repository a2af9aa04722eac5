"""Transform: an archive of photos through the model in one job."""

from datetime import UTC, datetime
from pathlib import Path

import click

from stack.addresses import Address
from stack.commands import Command
from stack.deployed import client

from .. import transform
from . import options
from .options import console


@click.command(name="transform", cls=Command, examples=["s3://BUCKET/archive/ --results s3://BUCKET/transformed/"])
@click.argument("photos")
@click.option("--results", required=True, help="Where SageMaker writes its answers, s3://BUCKET/PREFIX.")
@click.option("--endpoint", default=options.ENDPOINT, help="Take the model of this endpoint.")
@click.option("--model-name", help="Or this SageMaker model.")
@options.classes
@options.threshold
@click.option("--instance-type", default="ml.c5.xlarge", help="What the job runs on.")
@click.option("--instances", type=click.IntRange(1), default=1, help="How many of them.")
@click.option("--output", type=Path, default=Path("decisions.jsonl"), help="The decisions, a line a photo.")
@options.region
def transform_command(
    *,
    photos: str,
    results: str,
    endpoint: str,
    model_name: str | None,
    classes: list[str],
    threshold: float,
    instance_type: str,
    instances: int,
    output: Path,
    region: str | None,
) -> None:
    """Send every PNG and JPEG below PHOTOS, s3://BUCKET/PREFIX, through the model, with no workflow."""
    source, target = Address.parse(photos).folder, Address.parse(results).folder
    sagemaker = client("sagemaker", region)
    model = model_name or transform.model_of(sagemaker, endpoint)
    job = f"{endpoint}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
    transform.start(sagemaker, job, model, source, target, instance_type, instances)
    ran = transform.wait_for(sagemaker, job, console.print)
    counts = transform.collect(client("s3", region), source, target, classes, threshold, ran, output)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no photos"
    console.print(f"{listed}: {output}")
