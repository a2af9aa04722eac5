"""Options that several commands share, and how what a user types is read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from functions.decisions.classes import parse_classes
from loading_bay.cli.commands import WritableFolder, region_option
from loading_bay.stack.errors import UserError
from loading_bay.stack.template import ROOT, parameter_default
from training.container.settings import MODEL_FILE, SeedList, Settings, seeds_text

# What the pipeline asks of the model, as the template has it.
CLASSES = tuple(parse_classes(parameter_default("VehicleClasses")))
THRESHOLD = float(parameter_default("ConfidenceThreshold"))
ENDPOINT = parameter_default("EndpointName")
DATA = Path("data")
STAGED = DATA / "staged"
SHIPPED_MODEL = ROOT / "training" / "model" / MODEL_FILE
DATASET_PREFIX = "loading-bay/dataset"
CAPTURE_PREFIX = "captures"

console = Console()

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def class_list(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    """Read a comma-separated option."""
    return [name.strip() for name in value.split(",") if name.strip()]


region: Decorator = region_option
classes: Decorator = click.option(
    "--classes", callback=class_list, default=",".join(CLASSES), help="In the order of the model's answers."
)
threshold: Decorator = click.option(
    "--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, help="From this confidence on a photo is accepted."
)
endpoint: Decorator = click.option("--endpoint", default=ENDPOINT, help="The endpoint's name.")
seeds: Decorator = click.option(
    "--seeds",
    type=SeedList(),
    default=seeds_text(Settings.seeds),
    help="What is trained; the model is the average of several.",
)
yes: Decorator = click.option("--yes", is_flag=True, help="Do not ask.")


def role(whose: str) -> Decorator:
    """Return the option `--role` for the job or the endpoint."""
    return click.option(
        "--role", envvar="SAGEMAKER_ROLE", show_envvar=True, help=f"The {whose}'s role, arn:aws:iam::ACCOUNT:role/NAME."
    )


def staged(why: str) -> Decorator:
    """Return the option `--data`."""
    return click.option("--data", "staged", type=click.Path(path_type=Path), default=STAGED, help=why)


def output(default: Path, what: str) -> Decorator:
    """Return the option `--output`, a folder."""
    return click.option("--output", type=WritableFolder(), default=default, help=what)


def progress(*more: ProgressColumn) -> Progress:
    """Return a progress bar that fits 80 columns: what is done, how much of it, the time that is left."""
    counted = more or (MofNCompleteColumn(),)
    return Progress(TextColumn("{task.description}"), BarColumn(20), *counted, TimeRemainingColumn(), console=console)


def required(value: str | None, option: str, meaning: str) -> str:
    """Return an option's value.

    Raises:
        UserError: it was not given; the message says what it is for.
    """
    if not value:
        raise UserError(f"give {option}, {meaning}")
    return value


def role_arn(value: str | None) -> str:
    """Return a role's ARN.

    Raises:
        UserError: no role was given, or not as an ARN.
    """
    arn = required(value, "--role", "an IAM role that SageMaker may assume (docs/training.md shows how to make it)")
    if not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+", arn):
        raise UserError(f"{arn} is not a role ARN: write arn:aws:iam::ACCOUNT:role/NAME")
    return arn
