"""Options that several commands share, and their parsers."""

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

# The pipeline's requirements of the model, from the template.
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
    "--classes", callback=class_list, default=",".join(CLASSES), help="Class names, in the order of the model's scores."
)
threshold: Decorator = click.option(
    "--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, help="Lowest confidence of accepted photos."
)
endpoint: Decorator = click.option("--endpoint", default=ENDPOINT, help="Name of the endpoint.")
seeds: Decorator = click.option(
    "--seeds",
    type=SeedList(),
    default=seeds_text(Settings.seeds),
    help="Seeds to train; the model is the average of all.",
)
quick: Decorator = click.option(
    "--quick", is_flag=True, help="Only look whether it learns: one seed, few steps, minutes; not a model to deploy."
)
yes: Decorator = click.option("--yes", is_flag=True, help="Skip the confirmation.")


def role(whose: str) -> Decorator:
    """Return the option `--role` for the job or the endpoint."""
    return click.option(
        "--role",
        envvar="SAGEMAKER_ROLE",
        show_envvar=True,
        help=f"Role of the {whose}: arn:aws:iam::ACCOUNT:role/NAME.",
    )


def staged(why: str) -> Decorator:
    """Return the option `--data`."""
    return click.option("--data", "staged", type=click.Path(path_type=Path), default=STAGED, help=why)


def output(default: Path, help: str) -> Decorator:
    """Return the option `--output`, a folder."""
    return click.option("--output", type=WritableFolder(), default=default, help=help)


def progress(*more: ProgressColumn) -> Progress:
    """Return a progress bar that fits 80 columns: the task, its progress, the remaining time."""
    counted = more or (MofNCompleteColumn(),)
    return Progress(TextColumn("{task.description}"), BarColumn(20), *counted, TimeRemainingColumn(), console=console)


def required(value: str | None, option: str, meaning: str) -> str:
    """Return an option's value.

    Raises:
        UserError: it was not given; the message explains its purpose.
    """
    if not value:
        raise UserError(f"give {option}, {meaning}")
    return value


def role_arn(value: str | None) -> str:
    """Return a role's ARN.

    Raises:
        UserError: the role is missing, or is not an ARN.
    """
    arn = required(value, "--role", "an IAM role that SageMaker may assume (docs/deploy.md shows how to create it)")
    if not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]+", arn):
        raise UserError(f"{arn} is not a role ARN: write arn:aws:iam::ACCOUNT:role/NAME")
    return arn
