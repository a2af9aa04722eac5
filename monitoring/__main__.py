"""The command line: python -m monitoring."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stack.classes import parse_classes
from stack.commands import CommandLine, WritableFolder, region_option
from stack.deployed import STACK_NAME, Deployed
from stack.template import ROOT, parameter_default
from stack.text import percent, shown, whole
from stack.window import Window

from .baseline import read_baseline
from .monitored import Monitored
from .report import make_report

SHIPPED_BASELINE = ROOT / "training" / "model" / "baseline.json"


class _Moment(click.ParamType[datetime]):
    """A point in time: ISO 8601 (UTC unless it says otherwise), or how long ago."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            if ago := re.fullmatch(r"(\d{1,6})([hd])", text):
                return datetime.now(UTC) - timedelta(hours=int(ago[1]) * (24 if ago[2] == "d" else 1))
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is neither a time such as 2026-11-20T04:00 nor an age such as 24h or 7d",
                param,
                ctx,
            )
        return moment.replace(tzinfo=moment.tzinfo or UTC)


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(each.strip() for each in value.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise click.BadParameter("give two or more different names, separated by commas", ctx, param)
    return names


def _shares(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        shares = tuple(float(each) for each in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} are not numbers separated by commas", ctx, param) from error
    if not all(0 < each < 1 for each in shares) or abs(sum(shares) - 1) > 0.001:
        raise click.BadParameter("each lies between 0 and 1, and they sum to 1", ctx, param)
    return shares


def _template_classes() -> tuple[str, ...]:
    return tuple(each.name for each in parse_classes(parameter_default("VehicleClasses")))


def _template_threshold() -> float:
    return float(parameter_default("ConfidenceThreshold"))


@click.group(cls=CommandLine)
def main() -> None:
    """Report what the model has been doing, from data capture and the decisions table."""


@main.command(
    examples=[
        "--local --open",
        "--stack-name loading-bay --since 7d",
        "s3://BUCKET/captures --table DECISIONS_TABLE",
    ]
)
@click.argument("source", required=False)
@click.option("--stack-name", help="Report on this stack: its captures, decisions, classes and threshold.")
@click.option("--local", is_flag=True, help="Report on the stack of this machine.")
@region_option
@click.option("--since", type=_Moment(), help="From this time on: ISO 8601 in UTC, or an age such as 24h or 7d.")
@click.option("--until", type=_Moment(), help="Up to this time, exclusive.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Less sure than this, and a person looks.  [default: the stack's, else the baseline's]",
)
@click.option(
    "--classes",
    callback=_names,
    help="In the order of the endpoint's answer.  [default: the stack's, else the baseline's]",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Scores on validation, to compare with.  [default: those of the model that ships]",
)
@click.option("--no-baseline", is_flag=True, help="Compare with no baseline.")
@click.option(
    "--expected-shares",
    callback=_shares,
    help="Share of each class among the photos, such as 0.7,0.3.  [default: the baseline's]",
)
@click.option("--table", help="Name of the decisions table, for outcomes and latency.")
@click.option(
    "--decisions",
    "decisions_file",
    type=click.Path(path_type=Path),
    help="A file of the table's items, in place of --table: a JSON list, or one JSON object a line.",
)
@click.option(
    "--output",
    type=WritableFolder(),
    default=Path("report"),
    help="Folder to write into.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".local/capture-cache"),
    help="Keeps captures from S3, so that the next run fetches only new ones.",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
def report(
    *,
    source: str | None,
    stack_name: str | None,
    local: bool,
    region: str | None,
    since: datetime | None,
    until: datetime | None,
    threshold: float | None,
    classes: tuple[str, ...] | None,
    baseline: Path | None,
    no_baseline: bool,
    expected_shares: tuple[float, ...] | None,
    table: str | None,
    decisions_file: Path | None,
    output: Path,
    cache: Path,
    show: bool,
) -> None:
    """Write a report on a stack, or on the captures in SOURCE: a folder, a file, or s3://bucket/prefix.

    AWS_ENDPOINT_URL leads to a local AWS. What is written: report.html, metrics.json, predictions.parquet,
    skipped.jsonl and plots/*.svg.
    """
    if [source is not None, stack_name is not None, local].count(True) != 1:
        raise click.UsageError("give one of SOURCE, --stack-name and --local")
    if no_baseline and baseline is not None:
        raise click.UsageError("give --baseline or --no-baseline, not both")
    if [table is not None, decisions_file is not None, source is None].count(True) > 1:
        raise click.UsageError("give one of --table, --decisions and a stack, which has a table of its own")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must lie before --until")
    window = Window(since, until)
    if source is not None:
        monitored = Monitored.files(source, table, decisions_file, region, window)
    else:
        deployed = Deployed.local() if local else Deployed.find(stack_name or STACK_NAME, region)
        monitored = Monitored.stack(deployed, window)
    known = classes or monitored.class_names
    baseline_file = None if no_baseline else baseline or SHIPPED_BASELINE
    before = read_baseline(baseline_file, known) if baseline_file else None
    class_names = known or (tuple(before.class_names) if before else _template_classes())
    given = (threshold, monitored.threshold, before.threshold if before else None)
    sure = next((each for each in given if each is not None), _template_threshold())
    if expected_shares is not None and len(expected_shares) != len(class_names):
        raise click.UsageError(f"--expected-shares needs one number for each of {', '.join(class_names)}")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        figures = make_report(
            monitored.captures,
            output,
            window=window,
            class_names=class_names,
            threshold=sure,
            baseline=before,
            baseline_name=shown(baseline_file) if baseline_file is not None else None,
            expected_shares=expected_shares,
            decisions=monitored.decisions,
            cache=cache,
            progress=progress,
        )
    click.echo(
        f"{whole(figures.predictions)} predictions from {whole(figures.records)} records"
        + (f", {percent(figures.below_threshold.value)} below {sure:g}" if figures.below_threshold else "")
        + f"; against the baseline: {figures.verdict}"
    )
    for reason, count in (figures.skipped | figures.files.skipped).items():
        click.echo(f"  not used: {whole(count)} {reason.replace('_', ' ')}")
    page = output / "report.html"
    click.echo(f"The report is {page}")
    if show:
        click.launch(page.resolve().as_uri())


if __name__ == "__main__":
    main(prog_name="python -m monitoring")
