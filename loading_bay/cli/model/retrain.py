"""Retrain: adds people's decisions to the data, and compares the new model with the one in service."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.table import Table

from functions.decisions.table import DecisionsTable
from loading_bay.cli.commands import Command, find_stack, stack_options
from loading_bay.endpoint import artifact, deployment, live_endpoint
from loading_bay.endpoint.hosting import Clients, Hosting
from loading_bay.model import predictors, staging
from loading_bay.model.comparison import verdict
from loading_bay.model.labels import Labels, fetch, read_labels
from loading_bay.model.retraining import joined, judged
from loading_bay.stack.addresses import Address
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.deployed import client
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.stack.labels import PREFIX
from loading_bay.stack.text import shown
from training.container.settings import MODEL_FILE

from . import options
from .evaluate import report_comparison
from .host import probe_photo
from .options import DATA, SHIPPED_MODEL, console
from .train import train_here

OUTPUT = DATA / "retrained"


@click.command(
    cls=Command, examples=["--local --dry-run", "--stack-name loading-bay --deploy", "--labels reviewed --seeds 1"]
)
@click.option("--labels", help="Photos that people decided: a folder <folder>/<class>/, or s3://BUCKET/labels/.")
@stack_options
@options.staged("The staged data set of the model in service.")
@click.option("--model", type=Path, help="The model in service.  [default: the shipped model]")
@options.output(OUTPUT, "Folder for labels, joined data, new model and comparison.")
@options.seeds
@options.quick
@click.option("--epochs", type=click.IntRange(1), help="Training epochs.  [default: the recipe's]")
@options.threshold
@click.option("--deploy", "promote", is_flag=True, help="Host the new model by canary if it is better.")
@options.endpoint
@click.option("--dry-run", is_flag=True, help="Show the plan; train and change nothing.")
@options.yes
def retrain(
    *,
    labels: str | None,
    stack_name: str,
    local: bool,
    staged: Path,
    model: Path | None,
    output: Path,
    seeds: tuple[int, ...],
    quick: bool,
    epochs: int | None,
    threshold: float,
    promote: bool,
    endpoint: str,
    dry_run: bool,
    yes: bool,
    region: str | None,
) -> None:
    """Train on people's decisions, and compare the new model with the one in service.

    Both are measured on the same test photos and on a third of the labels, which no retraining learns. --deploy
    hosts the new model only if it is worse on no figure and better on one.
    """
    if quick and promote:
        raise click.UsageError("a quick look makes no model to deploy: give --quick or --deploy")
    champion = model or SHIPPED_MODEL
    folder = label_folder(labels, stack_name, local, region, output / "labels")
    manifest = staging.read_manifest(staged)
    found = read_labels(folder, manifest.class_names)
    show_labels(found, manifest.class_names)
    clients = Clients.connect(region) if promote else None
    hosting = live_endpoint.hosting_of(clients, endpoint) if clients else None
    if hosting:
        console.print(f"If it is better, it replaces the model of endpoint {endpoint} by canary.")
    if dry_run:
        plan = "1 seed is" if quick or len(seeds) == 1 else f"{len(seeds)} seeds are"
        console.print(f"Nothing was trained or changed. Without --dry-run, {plan} trained in {output}.")
        return
    staging.write(joined(staged, found), output / "staged", staging.detector(staged))
    train_here(output / "staged", output / "model", seeds, epochs, quick)
    challenger = output / "model" / MODEL_FILE
    comparisons = judged(champion, challenger, staged, found, threshold)
    report_comparison(comparisons, output)
    if not clients or not hosting:
        return
    if verdict(comparisons) != "better":
        raise UserError(f"the new model is not deployed: {verdict(comparisons)} than {shown(champion)}")
    promote_model(clients, hosting, challenger, len(manifest.class_names), yes, region)


def label_folder(labels: str | None, stack_name: str, local: bool, region: str | None, kept: Path) -> Path:
    """Return the folder of the labels; labels in S3 are first fetched into `kept`.

    Raises:
        UserError: labels are missing, or AWS denies access.
    """
    if labels is not None and local:
        raise click.UsageError("give --labels or --local, not both")
    named = None
    if labels is not None:
        if not labels.startswith("s3://"):
            return Path(labels)
        s3, address = client("s3", region), Address.parse(labels).folder
    else:
        deployed = find_stack(local, stack_name, region)
        s3, address = deployed.client("s3"), Address(deployed.outputs["InboxBucket"], PREFIX)
        table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
        named = {each.label for each in all_decisions(table) if each.label and each.label_etag}
    count, left_out = fetch(s3, address, kept, named)
    more = f"; {left_out} other objects were left out" if left_out else ""
    console.print(f"{count} labels of {address} are in {kept}{more}.")
    return kept


def show_labels(labels: Labels, class_names: Sequence[str]) -> None:
    """Print the number of labels to learn and to hold out, and which classes have none.

    Raises:
        UserError: there are too few labels to learn from and compare by.
    """
    table = Table("label", "learned", "held out", title="Photos decided by people", title_justify="left")
    for label, learned, held_out in labels.counts():
        table.add_row(label, str(learned), str(held_out))
    console.print(table)
    labelled = {label for label, _, _ in labels.counts()}
    if without := [name for name in class_names if name not in labelled]:
        console.print(f"No labels of {', '.join(without)}: these are learned from the staged photos alone.")
    if not labels.learned or not labels.held_out:
        raise UserError("there are too few labels to train on some and compare models by the others")


def promote_model(
    clients: Clients, hosting: Hosting, model: Path, class_count: int, yes: bool, region: str | None
) -> None:
    """Move an endpoint to a model, with the same hosting as before."""
    if not yes:
        click.confirm(f"Move endpoint {hosting.endpoint} to {shown(model)}?", abort=True)
    made = artifact.from_file(clients, model, hosting.image, Address.parse(hosting.artifact).bucket)
    if hosting.image_size is not None and made.side != hosting.image_size:
        raise UserError(
            f"the new model takes pictures of {made.side} pixels, the one in service of {hosting.image_size}: "
            f"deploy it with {command('model', 'deploy')}, and the stack with its size"
        )
    predictor = predictors.endpoint_predictor(client("sagemaker-runtime", region), hosting.endpoint)
    body = probe_photo(None)
    deployment.deploy(
        clients,
        replace(hosting, artifact=made.uri),
        lambda: deployment.probe(predictor, body, class_count),
        console.print,
    )
    console.print(f"Endpoint {hosting.endpoint} serves {shown(model)}.")
