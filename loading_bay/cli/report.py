"""The command that reports on captured predictions and decisions."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from functions.decisions.classes import parse_classes
from loading_bay.report.baseline import read_baseline
from loading_bay.report.figures import Figures, Question
from loading_bay.report.monitored import Monitored
from loading_bay.report.report import make_report
from loading_bay.stack.template import parameter_default
from loading_bay.stack.text import percent, shown, whole
from loading_bay.stack.window import Window

from .commands import Command, WritableFolder, echo_json, find_stack, stack_options


class _Moment(click.ParamType):
    """A point in time: ISO 8601 (UTC by default), or an age."""

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
        raise click.BadParameter("each must be between 0 and 1, and all must sum to 1", ctx, param)
    return shares


def _pattern(ctx: click.Context, param: click.Parameter, value: str | None) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}", ctx, param) from error


def _template_classes() -> tuple[str, ...]:
    return tuple(parse_classes(parameter_default("VehicleClasses")))


def _template_threshold() -> float:
    return float(parameter_default("ConfidenceThreshold"))


@click.command(cls=Command, examples=["--local --open", "--since 7d", "s3://BUCKET/captures --table DECISIONS_TABLE"])
@click.argument("source", required=False)
@stack_options
@click.option("--since", type=_Moment(), help="Start, inclusive: ISO 8601 in UTC, or an age such as 24h or 7d.")
@click.option("--until", type=_Moment(), help="End, exclusive.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Predictions below this confidence need review.  [default: the stack's, else the baseline's]",
)
@click.option(
    "--classes",
    callback=_names,
    help="Class names, in the order of the endpoint's scores.  [default: the stack's, else the baseline's]",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Validation scores to compare with.  [default: those of the stack's model]",
)
@click.option("--no-baseline", is_flag=True, help="Do not compare with a baseline.")
@click.option(
    "--expected-shares",
    callback=_shares,
    help="Expected share of each class, such as 0.7,0.3.  [default: the baseline's]",
)
@click.option(
    "--group-by",
    callback=_pattern,
    metavar="REGEX",
    help="Also show the errors by this part of the driver's name, such as '^([^-]+)-' for a depot, or '.+'.",
)
@click.option("--table", help="Name of the decisions table, for outcomes and latency.")
@click.option(
    "--decisions",
    "decisions_file",
    type=click.Path(path_type=Path),
    help="A file of the table's items, in place of --table: a JSON list, or one JSON object per line.",
)
@click.option("--output", type=WritableFolder(), default=Path("report"), help="Folder to write into.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".local/capture-cache"),
    help="Folder that keeps captures from S3, so the next run fetches only new ones.",
)
@click.option("--open", "show", is_flag=True, help="Open the report in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Also print the figures (metrics.json).")
def report(
    *,
    source: str | None,
    local: bool,
    stack_name: str,
    region: str | None,
    since: datetime | None,
    until: datetime | None,
    threshold: float | None,
    classes: tuple[str, ...] | None,
    baseline: Path | None,
    no_baseline: bool,
    expected_shares: tuple[float, ...] | None,
    group_by: re.Pattern[str] | None,
    table: str | None,
    decisions_file: Path | None,
    output: Path,
    cache: Path,
    show: bool,
    as_json: bool,
) -> None:
    """Report on a stack, or on the captures in SOURCE: a folder, a file, or s3://bucket/prefix.

    AWS_ENDPOINT_URL points at a local AWS. Writes report.html, metrics.json, predictions.parquet, skipped.jsonl and
    plots/*.svg.
    """
    if source is not None and local:
        raise click.UsageError("give SOURCE or --local, not both")
    if no_baseline and baseline is not None:
        raise click.UsageError("give --baseline or --no-baseline, not both")
    given = [each for each in (table, decisions_file) if each is not None]
    if len(given) > 1 or (given and source is None):
        raise click.UsageError("give SOURCE with --table or --decisions, or neither: a stack has its own table")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    window = Window(since, until)
    if source is not None:
        monitored = Monitored.files(source, table, decisions_file, region, window)
    else:
        monitored = Monitored.stack(find_stack(local, stack_name, region), window)
    baseline_file = None if no_baseline else baseline or monitored.baseline
    question = ask(monitored, window, classes, threshold, baseline_file, expected_shares, group_by)
    with progress_bar(Console(stderr=True)) as progress:
        figures = make_report(monitored.captures, output, question, monitored.decisions, cache, progress)
    if as_json:
        echo_json(figures)
    _summarize(figures, question, output, err=as_json)
    if show:
        click.launch((output / "report.html").resolve().as_uri())


def ask(
    monitored: Monitored,
    window: Window,
    classes: tuple[str, ...] | None,
    threshold: float | None,
    baseline_file: Path | None,
    expected_shares: tuple[float, ...] | None,
    group_by: re.Pattern[str] | None,
) -> Question:
    """Return the report's question, from the options, else the stack, else the baseline, else the template."""
    known = classes or monitored.class_names
    baseline = read_baseline(baseline_file, known) if baseline_file else None
    class_names = known or (tuple(baseline.class_names) if baseline else _template_classes())
    if expected_shares is not None and len(expected_shares) != len(class_names):
        raise click.UsageError(f"--expected-shares needs one number for each of {', '.join(class_names)}")
    thresholds = (threshold, monitored.threshold, baseline.threshold if baseline else None, _template_threshold())
    return Question(
        window=window,
        class_names=class_names,
        threshold=next(each for each in thresholds if each is not None),
        baseline=baseline,
        baseline_name=shown(baseline_file) if baseline_file else None,
        expected_shares=expected_shares,
        group_by=group_by,
    )


def progress_bar(console: Console) -> Progress:
    """Return a progress bar that is silent in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _summarize(figures: Figures, question: Question, output: Path, *, err: bool) -> None:
    below = figures.below_threshold
    click.echo(
        f"{whole(figures.predictions)} predictions from {whole(figures.records)} records"
        + (f", {percent(below.value)} below {question.threshold:g}" if below else "")
        + f"; against the baseline: {figures.verdict}",
        err=err,
    )
    for reason, count in (figures.skipped | figures.files.skipped).items():
        click.echo(f"  skipped: {whole(count)} {reason.replace('_', ' ')}", err=err)
    click.echo(f"The report is {output / 'report.html'}", err=err)
