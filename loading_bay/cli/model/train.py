"""Train: runs the bundled recipe here or as a job, or the built-in algorithm as a job."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import TextColumn
from rich.table import Table

from loading_bay.cli.commands import Command
from loading_bay.model import bundled, jobs, staging
from loading_bay.stack.deployed import client
from loading_bay.stack.hints import command
from loading_bay.stack.text import duration, percent
from training.container.settings import MODEL_FILE, RECORD_FILE, Settings, seeds_text

from . import options
from .options import DATA, DATASET_PREFIX, console

JOB_INSTANCES = {"builtin": "ml.g4dn.xlarge", "bundled": "ml.c5.2xlarge"}
BUILTIN_EPOCHS = 60


@click.command(cls=Command, examples=["", "--quick", "--recipe builtin --bucket BUCKET --role ROLE --spot"])
@click.option("--recipe", type=click.Choice(list(JOB_INSTANCES)), default="bundled")
@click.option("--on-sagemaker", is_flag=True, help="Run the bundled recipe as a SageMaker job, not here.")
@options.staged("A staged data set.")
@options.output(DATA / "model", "Folder for a model that is trained here.")
@options.seeds
@options.quick
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help=f"Training epochs.  [default: {BUILTIN_EPOCHS} for builtin, {Settings.epochs} for bundled]",
)
@click.option("--batch", type=click.IntRange(1), default=32, help="Photos per batch of the built-in recipe.")
@click.option("--bucket", help="Bucket that stage uploaded the images to, for a job.")
@click.option("--prefix", default=DATASET_PREFIX, help="Prefix of the images in the bucket.")
@options.role("job")
@click.option(
    "--instance-type",
    help=f"[default: {', '.join(f'{kind} for {recipe}' for recipe, kind in JOB_INSTANCES.items())}]",
)
@click.option("--spot", is_flag=True, help="Use spot instances, which are cheaper but may have to wait.")
@click.option("--max-minutes", type=click.IntRange(1), default=120, help="Stop the job after this many minutes.")
@options.region
def train(
    *,
    recipe: str,
    on_sagemaker: bool,
    staged: Path,
    output: Path,
    seeds: tuple[int, ...],
    quick: bool,
    epochs: int | None,
    batch: int,
    bucket: str | None,
    prefix: str,
    role: str | None,
    instance_type: str | None,
    spot: bool,
    max_minutes: int,
    region: str | None,
) -> None:
    """Train a model, here or as a SageMaker job."""
    if recipe == "bundled" and not on_sagemaker:
        train_here(staged, output, seeds, epochs, quick)
        return
    if quick:
        raise click.UsageError("--quick trains the bundled recipe on this machine: leave out the options of a job")
    manifest = staging.read_manifest(staged)
    settings = jobs.JobSettings(
        bucket=options.required(bucket, "--bucket", "the bucket that stage uploaded to"),
        prefix=prefix,
        role=options.role_arn(role),
        region=region,
        instance_type=instance_type or JOB_INSTANCES[recipe],
        spot=spot,
        max_seconds=60 * max_minutes,
    )
    if recipe == "builtin":
        trainer = jobs.builtin_trainer(settings, manifest, epochs or BUILTIN_EPOCHS, batch)
    else:
        chosen = {"seeds": seeds_text(seeds)} | ({"epochs": str(epochs)} if epochs else {})
        trainer = jobs.bundled_trainer(settings, manifest, chosen)
    name = jobs.start(trainer)
    console.print(f"Job {name} started on {settings.instance_type}.")
    description = jobs.wait_for(client("sagemaker", settings.region), name, console.print)
    console.print(f"Model: {description['ModelArtifacts']['S3ModelArtifacts']}")
    console.print(f"Next: {command('model', 'deploy', '--job', name)}")


def train_here(staged: Path, output: Path, seeds: Sequence[int], epochs: int | None, quick: bool) -> None:
    """Train every seed, each with a progress bar, average them, and print the results; `quick` trains the first."""
    arguments = ["--epochs", str(epochs)] if epochs else []
    if quick:
        seeds, arguments = seeds[:1], [*arguments, *bundled.quick_options(staging.read_manifest(staged))]
    with options.progress(TextColumn("{task.completed} of {task.total}")) as bars:
        # The detector learns only from photos that say where their vehicle is.
        tasks = {0: bars.add_task("detector", total=None, visible=False)}
        tasks |= {seed: bars.add_task(f"seed {seed}", total=None) for seed in seeds}

        def progress(step: bundled.TrainingStep) -> None:
            task = tasks[step.seed]
            bars.update(task, completed=step.number, total=step.of, visible=True)
            left = bars.tasks[task].time_remaining
            if step.figures or not console.is_terminal:
                line = f"{bars.tasks[task].description}, step {step.number} of {step.of}"
                line += f", {duration(left)} left" if left else ""
                console.print(f"{line}: {step.figures}" if step.figures else line, highlight=False)

        made, alone = bundled.train(staged, output, seeds, arguments, progress)
    table = Table("seed", "right", "for review", "others accepted", title="On validation", title_justify="left")
    for run in [*alone, made] if len(alone) > 1 else alone:
        on = run.validation
        name = str(run.seeds[0]) if len(run.seeds) == 1 else "average"
        table.add_row(name, *(percent(on[key]) for key in ("accuracy", "review_rate", "outliers_accepted")))
    console.print(table)
    if quick:
        console.print("This was a quick look, not a model to deploy: without --quick, every seed trains in full.")
    console.print(f"The model: {output / MODEL_FILE}")
    console.print(f"Its record: {output / RECORD_FILE}")
