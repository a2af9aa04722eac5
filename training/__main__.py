"""The command line of the model's life: stage, train, evaluate, deploy, transform, status, cleanup."""

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from stack.addresses import Address
from stack.commands import Commands
from stack.deployed import client
from stack.errors import UserError
from training import (
    artifact,
    bundled,
    cost,
    dataset,
    download,
    inventory,
    jobs,
    predictors,
    records,
    staging,
    transform,
)
from training import endpoint as endpoints
from training.evaluation import Metrics, Recommendation, evaluate, recommend, summary_rows
from training.measurement import THRESHOLD, Measured, measure
from training.predictors import Predictor

DATA: Final = Path("data")
STAGED: Final = DATA / "staged"
DEFAULT_CLASSES: Final = ("bicycle", "motorcycle")
DEFAULT_PREFIX: Final = "loading-bay/dataset"
ENDPOINT: Final = "loading-bay"
JOB_INSTANCES: Final = {"builtin": "ml.g4dn.xlarge", "bundled": "ml.c5.2xlarge"}
BUILTIN_EPOCHS: Final = 60
SHIPPED_MODEL: Final = Path(__file__).parent / "model" / "model.onnx"

console = Console()


def class_list(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Read a comma-separated option."""
    return [name.strip() for name in value.split(",") if name.strip()]


@click.group(cls=Commands)
def main() -> None:
    """From labelled photos to a monitored SageMaker endpoint, and the same on this machine."""


@main.command()
@click.option("--archive", type=Path, help="CIFAR-100's Python archive, instead of downloading it.")
@click.option("--folder", type=Path, help="Your own photos, <folder>/<class>/*.jpg, instead of CIFAR-100.")
@click.option("--outliers", type=Path, help="More images of other things, <folder>/<class>/*.png.")
@click.option("--reviewed", type=Path, help="Photos that people looked at, <folder>/<class>/*.jpg, to train on too.")
@click.option("--classes", callback=class_list, default=",".join(DEFAULT_CLASSES), help="In this order.")
@click.option("--out", type=Path, default=STAGED, help="Where the images are written.")
@click.option("--outlier-limit", type=click.IntRange(0), default=2000, help="Outliers kept of each split at most.")
@click.option("--seed", type=int, default=1, help="Of the split.")
@click.option("--bucket", help="Upload to this S3 bucket too.")
@click.option("--prefix", default=DEFAULT_PREFIX, help="Where in the bucket.")
@click.option("--region", help="AWS region, if not the configured one.")
def stage(
    *,
    archive: Path | None,
    folder: Path | None,
    outliers: Path | None,
    reviewed: Path | None,
    classes: list[str],
    out: Path,
    outlier_limit: int,
    seed: int,
    bucket: str | None,
    prefix: str,
    region: str | None,
) -> None:
    """Fetch, split and write the images, and upload them."""
    if archive and folder:
        raise click.UsageError("--archive and --folder exclude each other")
    source = dataset.read_folder(folder, classes) if folder else dataset.read_cifar(fetched(archive), classes)
    if outliers:
        source = dataset.with_outliers(source, outliers)
    if reviewed:
        source = dataset.with_reviewed(source, reviewed, classes)
    data = dataset.split(dataset.limit_outliers(source, outlier_limit, seed), classes, seed)
    manifest = staging.write(data, out)
    table = Table("split", "images", title=f"Staged in {out}", title_justify="left")
    for name, count in manifest.counts.items():
        table.add_row(name, str(count))
    console.print(table)
    if manifest.dropped:
        console.print(f"{manifest.dropped} training images left out: they all but repeat a test image.")
    if bucket:
        with Progress(TextColumn("uploading"), BarColumn(), MofNCompleteColumn(), console=console) as bar:
            task = bar.add_task("", total=None)
            sent = staging.upload(
                client("s3", region),
                out,
                bucket,
                prefix,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        console.print(f"{sent} files uploaded to s3://{bucket}/{prefix}/; the others were there.")


def fetched(archive: Path | None) -> Path:
    """Give the archive's path: the user's file, said so if it is not the published one, or the download."""
    if archive:
        if not archive.is_file():
            raise UserError(f"there is no file {archive}")
        if dataset.file_digest(archive, "md5") != download.CIFAR_MD5:
            console.print(f"{archive} is not the published file (md5 {download.CIFAR_MD5}); using it as it is.")
        return archive
    path = DATA / "cifar-100-python.tar.gz"
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("CIFAR-100", total=None)
        download.download(
            download.CIFAR_URL,
            path,
            download.CIFAR_MD5,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    return path


@main.command()
@click.option("--recipe", type=click.Choice(["builtin", "bundled"]), required=True)
@click.option("--on-sagemaker", is_flag=True, help="Run the bundled recipe as a SageMaker job, not here.")
@click.option("--data", "staged", type=Path, default=STAGED, help="A staged data set.")
@click.option("--out", type=Path, default=DATA / "model", help="Where the model trained here is written.")
@click.option(
    "--seeds", default="1,2,3", help="Seeds trained here, the best on validation kept; a job takes the first."
)
@click.option("--epochs", type=click.IntRange(1), help="By default what the recipe says: builtin 60, bundled 20.")
@click.option("--batch", type=click.IntRange(1), default=32, help="Photos per batch of the built-in recipe.")
@click.option("--bucket", help="Where stage put the images, for a job.")
@click.option("--prefix", default=DEFAULT_PREFIX, help="Where in the bucket.")
@click.option("--role", envvar="SAGEMAKER_ROLE", help="The job's role, arn:aws:iam::ACCOUNT:role/NAME.")
@click.option("--instance-type", help="By default ml.g4dn.xlarge for builtin, ml.c5.2xlarge for bundled.")
@click.option("--spot", is_flag=True, help="Use spot instances: cheaper, may wait.")
@click.option("--max-minutes", type=click.IntRange(1), default=60, help="A job is stopped after that.")
@click.option("--region", help="AWS region, if not the configured one.")
def train(
    *, recipe: str, on_sagemaker: bool, staged: Path, out: Path, seeds: str, epochs: int | None, **job: Any
) -> None:
    """Train a model, here or as a SageMaker job."""
    if recipe == "bundled" and not on_sagemaker:
        train_here(staged, out, seed_list(seeds), ["--epochs", str(epochs)] if epochs else [])
        return
    manifest = staging.read_manifest(staged)
    settings = jobs.JobSettings(
        bucket=required(job["bucket"], "--bucket", "the one that stage uploaded to"),
        prefix=job["prefix"],
        role=role_arn(job["role"]),
        region=job["region"],
        instance_type=job["instance_type"] or JOB_INSTANCES[recipe],
        spot=job["spot"],
        max_seconds=60 * job["max_minutes"],
    )
    if recipe == "builtin":
        trainer = jobs.builtin_trainer(settings, manifest, epochs or BUILTIN_EPOCHS, job["batch"])
    else:
        options = {"seed": str(seed_list(seeds)[0])} | ({"epochs": str(epochs)} if epochs else {})
        trainer = jobs.bundled_trainer(settings, manifest, options)
    name = jobs.start(trainer)
    console.print(f"Job {name} started on {settings.instance_type}.")
    description = jobs.follow(client("sagemaker", settings.region), name, console.print)
    console.print(f"Model: {description['ModelArtifacts']['S3ModelArtifacts']}")
    console.print(f"Next: python -m training deploy --job {name}")


def train_here(staged: Path, out: Path, seeds: list[int], options: list[str]) -> None:
    """Train every seed with a progress bar of its own and say what came out."""
    with Progress(
        TextColumn("seed {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[line]}"),
        console=console,
    ) as bars:
        tasks = {seed: bars.add_task(str(seed), total=None, line="") for seed in seeds}

        def progress(epoch: bundled.Epoch) -> None:
            bars.update(tasks[epoch.seed], completed=epoch.number, total=epoch.of, line=epoch.figures)
            if not console.is_terminal:  # a log shows no bars
                console.print(f"seed {epoch.seed} epoch {epoch.number} of {epoch.of}: {epoch.figures}")

        best, runs = bundled.train(staged, out, seeds, options, progress)
    table = Table("seed", "validation loss", "validation accuracy", title="Seeds", title_justify="left")
    for run in runs:
        table.add_row(str(run.seed), f"{run.validation_loss:.4f}", f"{run.record['validation']['accuracy']:.4f}")
    console.print(table)
    console.print(f"Kept seed {best.seed}: {out / bundled.MODEL_FILE}; its record is {out / bundled.RECORD_FILE}")


def seed_list(text: str) -> list[int]:
    """Read ``1,2,3``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"{text} are no seeds: write whole numbers, 1,2,3") from error


def required(value: str | None, option: str, meaning: str) -> str:
    """Give an option's value, or say what it is for."""
    if not value:
        raise UserError(f"give {option}, {meaning}")
    return value


def role_arn(value: str | None) -> str:
    """Check that a role is given, and as an ARN."""
    role = required(value, "--role", "an IAM role that SageMaker may assume (README shows how to make it)")
    if not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+", role):
        raise UserError(f"{role} is no role ARN: write arn:aws:iam::ACCOUNT:role/NAME")
    return role


@main.command(name="evaluate")
@click.option("--data", "staged", type=Path, default=STAGED, help="A staged data set.")
@click.option("--model", type=Path, help="An ONNX file; by default the one that ships.")
@click.option("--url", help="A running endpoint, http://HOST:PORT.")
@click.option("--endpoint", help="A SageMaker endpoint's name.")
@click.option("--region", help="AWS region, if not the configured one.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, help="At which a photo is accepted.")
@click.option("--wanted-accuracy", type=click.FloatRange(0, 1), default=0.98)
@click.option("--out", type=Path, default=Path("evaluation"), help="Gets evaluation.json and evaluation.html.")
def evaluate_command(
    *,
    staged: Path,
    model: Path | None,
    url: str | None,
    endpoint: str | None,
    region: str | None,
    threshold: float,
    wanted_accuracy: float,
    out: Path,
) -> None:
    """Measure a model or an endpoint on the test split and the test outliers."""
    from training.evaluation_page import evaluation_page  # noqa: PLC0415 - matplotlib takes a second to import

    subject, predictor = chosen_predictor(model, url, endpoint, region)
    test = measured(predictor, staged, "test", subject)
    metrics = evaluate(test.probabilities, test.labels, test.outlier_probabilities, test.class_names, threshold)
    held = measured(predictor, staged, "validation", subject)
    recommended = recommend(held.probabilities, held.labels, held.outlier_probabilities, wanted_accuracy)
    show(subject, metrics, recommended)
    out.mkdir(parents=True, exist_ok=True)
    content = asdict(metrics) | {"recommended": asdict(recommended) if recommended else None}
    records.write(out / "evaluation.json", content)
    (out / "evaluation.html").write_text(evaluation_page(test, metrics, recommended), encoding="utf-8")
    console.print(f"The report is {out / 'evaluation.html'}")


def chosen_predictor(
    model: Path | None, url: str | None, endpoint: str | None, region: str | None
) -> tuple[str, Predictor]:
    """Give what to measure, by name: one of a file, an address and a SageMaker endpoint; the shipped model else."""
    if sum(choice is not None for choice in (model, url, endpoint)) > 1:
        raise click.UsageError("--model, --url and --endpoint exclude each other")
    if endpoint:
        return f"endpoint {endpoint}", predictors.endpoint_predictor(client("sagemaker-runtime", region), endpoint)
    if url:
        return url, predictors.url_predictor(url)
    path = model or SHIPPED_MODEL
    return path.name, predictors.onnx_predictor(path)


def measured(predictor: Predictor, staged: Path, split: str, subject: str) -> Measured:
    """Classify a split, with a progress bar."""
    with Progress(TextColumn(f"classifying {split}"), BarColumn(), MofNCompleteColumn(), console=console) as bar:
        return measure(predictor, staged, split, subject, lambda answers, count: bar.track(answers, total=count))


def show(subject: str, metrics: Metrics, recommended: Recommendation | None) -> None:
    """Print the main figures."""
    table = Table("figure", "value", "95 % interval", title=subject, title_justify="left")
    for row in summary_rows(metrics):
        table.add_row(*row)
    console.print(table)
    if recommended:
        console.print(
            f"By the validation photos, threshold {recommended.threshold:.3f} makes "
            f"{recommended.wanted_accuracy:.0%} of the accepted right (accepts {recommended.coverage:.1%})."
        )


@main.command()
@click.option("--name", default=ENDPOINT, help="The endpoint's name.")
@click.option("--job", help="A finished training job, whose model is hosted.")
@click.option("--model", type=Path, help="A local model file, instead; by default the one that ships.")
@click.option("--image", help="Our image in ECR; a job of the built-in recipe needs none.")
@click.option("--bucket", help="For the model file and the captures.")
@click.option("--role", envvar="SAGEMAKER_ROLE", help="The endpoint's role, arn:aws:iam::ACCOUNT:role/NAME.")
@click.option("--instance-type", default="ml.m5.large")
@click.option("--min-instances", type=click.IntRange(1), default=1)
@click.option("--max-instances", type=click.IntRange(1), default=2)
@click.option("--calls-per-instance", type=click.IntRange(1), default=1000, help="A minute; more add an instance.")
@click.option("--capture-percent", type=click.IntRange(0, 100), default=100, help="Of calls captured; 0: none.")
@click.option("--capture-prefix", default="captures", help="Where in the bucket.")
@click.option("--serverless", is_flag=True, help="No instance while nobody calls; no data capture.")
@click.option("--memory", type=click.Choice(["1024", "2048", "3072", "4096", "5120", "6144"]), default="2048")
@click.option("--concurrency", type=click.IntRange(1, 200), default=5, help="Calls at once, serverless.")
@click.option("--photo", type=Path, help="A PNG to try the endpoint with; by default a plain grey one.")
@click.option("--yes", is_flag=True, help="Do not ask before creating what costs money.")
@click.option("--region", help="AWS region, if not the configured one.")
def deploy(*, name: str, job: str | None, model: Path | None, region: str | None, yes: bool, **how: Any) -> None:
    """Host a model: a new endpoint, or an existing one moved to it by canary."""
    if job and model:
        raise click.UsageError("--job and --model exclude each other")
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,46}", name):
        raise UserError(f"{name} is no endpoint name: letters, digits and hyphens, 47 at most")
    role = role_arn(how["role"])
    variant = serverless_variant(how) if how["serverless"] else real_time_variant(how)
    photo = probe_photo(how["photo"])
    if isinstance(variant, endpoints.RealTime):
        console.print(cost.sentence(variant.instance_type, variant.least, variant.most))
        if not yes:
            click.confirm("Go on?", abort=True)
    clients = endpoints.Clients.connect(region)
    predictor = predictors.endpoint_predictor(client("sagemaker-runtime", region), name)
    made = (
        artifact.from_job(clients, job, how["image"])
        if job
        else artifact.from_file(clients, model or SHIPPED_MODEL, how["image"], how["bucket"])
    )
    hosting = endpoints.Hosting(name, made.image, made.uri, role, variant)
    endpoints.deploy(clients, hosting, lambda: endpoints.probe(predictor, photo, made.classes), console.print)
    console.print(f"Endpoint {name} answers. Measure it: python -m training evaluate --endpoint {name}")


def serverless_variant(how: dict[str, Any]) -> endpoints.Serverless:
    """Read the options of a serverless endpoint; capture must be off."""
    if how["capture_percent"]:
        raise UserError(
            "a serverless endpoint cannot capture data: AWS leaves capture out there, so monitoring would see "
            "nothing. Give --capture-percent 0 and watch the decisions table, or deploy without --serverless"
        )
    return endpoints.Serverless(int(how["memory"]), how["concurrency"])


def real_time_variant(how: dict[str, Any]) -> endpoints.RealTime:
    """Read the options of a real-time endpoint."""
    if how["max_instances"] < how["min_instances"]:
        raise UserError("--max-instances is less than --min-instances")
    capture = None
    if how["capture_percent"]:
        bucket = required(how["bucket"], "--bucket", "where captures go, or --capture-percent 0")
        capture = endpoints.Capture(how["capture_percent"], f"s3://{bucket}/{how['capture_prefix']}")
    return endpoints.RealTime(
        how["instance_type"], how["min_instances"], how["max_instances"], how["calls_per_instance"], capture
    )


def probe_photo(path: Path | None) -> bytes:
    """Give the PNG that a new endpoint is tried with."""
    if path is None:
        side = dataset.IMAGE_SIDE
        return predictors.encode(np.full((side, side, 3), 128, dtype=np.uint8))
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


@main.command()
@click.option("--name", default=ENDPOINT, help="The endpoint's name.")
@click.option("--region", help="AWS region, if not the configured one.")
def status(name: str, region: str | None) -> None:
    """Show an endpoint and everything that belongs to it."""
    found = inventory.status(endpoints.Clients.connect(region), name)
    if not found.exists:
        console.print(f"There is nothing of endpoint {name}.")
        return
    table = Table(show_header=False, title=f"Endpoint {name}", title_justify="left")
    for label, value in found.rows():
        table.add_row(label, value)
    console.print(table)


@main.command()
@click.option("--name", default=ENDPOINT, help="The endpoint's name.")
@click.option("--captures", is_flag=True, help="Delete its captured records in S3 too.")
@click.option("--bucket", help="Where captures are, once the endpoint's configuration is gone.")
@click.option("--capture-prefix", default="captures", help="Where in the bucket.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--region", help="AWS region, if not the configured one.")
def cleanup(
    *, name: str, captures: bool, bucket: str | None, capture_prefix: str, yes: bool, region: str | None
) -> None:
    """Delete an endpoint with its configurations, models, scaling and alarms."""
    clients = endpoints.Clients.connect(region)
    found = inventory.status(clients, name)
    uri = f"s3://{bucket}/{capture_prefix}" if bucket else found.capture_uri
    if captures and not uri and found.exists:
        raise UserError(f"endpoint {name} has no data capture configured: give --bucket to say where they are")
    keys = inventory.captures(clients, uri, name) if captures and uri else []
    if not found.exists and not keys:
        console.print(f"There is nothing of endpoint {name} to delete.")
        return
    for label, value in found.rows():
        console.print(f"{label}: {value}")
    if keys:
        console.print(f"captured records: {len(keys)} in {uri}/{name}/")
    if not yes:
        click.confirm("Delete all of it?", abort=True)
    for line in inventory.cleanup(clients, found):
        console.print(f"deleted {line}")
    if uri and keys:
        inventory.delete_captures(clients, uri, keys)
        console.print(f"deleted {len(keys)} captured records")


@main.command(name="transform")
@click.argument("photos")
@click.option("--results", required=True, help="Where SageMaker writes its answers, s3://BUCKET/PREFIX.")
@click.option("--endpoint", "name", default=ENDPOINT, help="Take the model of this endpoint.")
@click.option("--model-name", help="Or this SageMaker model.")
@click.option("--classes", callback=class_list, default=",".join(DEFAULT_CLASSES), help="In the model's order.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, help="Below it a person decides.")
@click.option("--instance-type", default="ml.c5.xlarge", help="What the job runs on.")
@click.option("--instances", type=click.IntRange(1), default=1, help="How many of them.")
@click.option("--out", type=Path, default=Path("decisions.jsonl"), help="The decisions, a line a photo.")
@click.option("--region", help="AWS region, if not the configured one.")
def transform_command(
    *,
    photos: str,
    results: str,
    name: str,
    model_name: str | None,
    classes: list[str],
    threshold: float,
    instance_type: str,
    instances: int,
    out: Path,
    region: str | None,
) -> None:
    """Send every PNG and JPEG below PHOTOS, s3://BUCKET/PREFIX, through the model, with no workflow."""
    source, target = Address.parse(photos).folder, Address.parse(results).folder
    sagemaker = client("sagemaker", region)
    model = model_name or transform.model_of(sagemaker, name)
    job = f"{name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
    transform.start(sagemaker, job, model, source, target, instance_type, instances)
    ran = transform.follow(sagemaker, job, console.print)
    counts = transform.collect(client("s3", region), source, target, classes, threshold, ran, out)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no photos"
    console.print(f"{listed}: {out}")


if __name__ == "__main__":
    main(prog_name="python -m training")
