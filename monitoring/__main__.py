"""The command line: python -m monitoring."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stack.commands import Commands
from stack.decisions import Decision, DecisionsTable, SkippedDecision, decisions_in_file
from stack.deployed import client
from stack.text import percent, whole
from stack.window import Window

from .report import make_report

DEFAULT_BASELINE = Path("training/model/baseline.json")


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


def _names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
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


@click.group(cls=Commands)
def main() -> None:
    """What has the model been doing? Reads data capture and the decisions table."""


@main.command()
@click.argument("source")
@click.option("--since", type=_Moment(), help="From this time on: ISO 8601 in UTC, or an age such as 24h or 7d.")
@click.option("--until", type=_Moment(), help="Up to this time, exclusive.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.9,
    help="Less sure than this, and a person looks.",
)
@click.option(
    "--class-names",
    callback=_names,
    default="bicycle,motorcycle",
    help="In the order of the endpoint's answer.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help=f"Scores on validation, to compare with.  [default: {DEFAULT_BASELINE} where it exists]",
)
@click.option("--no-baseline", is_flag=True, help="Compare with no baseline, even where there is one.")
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
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    help="Folder to write into.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".local/capture-cache"),
    help="Keeps captures from S3, so that the next run fetches only new ones.",
)
def report(
    *,
    source: str,
    since: datetime | None,
    until: datetime | None,
    threshold: float,
    class_names: tuple[str, ...],
    baseline: Path | None,
    no_baseline: bool,
    expected_shares: tuple[float, ...] | None,
    table: str | None,
    decisions_file: Path | None,
    output: Path,
    cache: Path,
) -> None:
    """Write a report on the captures in SOURCE: a folder, a file, or s3://bucket/prefix.

    AWS_ENDPOINT_URL leads to a local AWS. What is written: report.html, metrics.json, predictions.parquet,
    skipped.jsonl and plots/*.svg.
    """
    if no_baseline and baseline is not None:
        raise click.UsageError("give --baseline or --no-baseline, not both")
    if table is not None and decisions_file is not None:
        raise click.UsageError("give --table or --decisions, not both")
    if baseline is None and not no_baseline and DEFAULT_BASELINE.exists():
        baseline = DEFAULT_BASELINE
    if expected_shares is not None and len(expected_shares) != len(class_names):
        raise click.UsageError("--expected-shares needs one number for each of --class-names")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must lie before --until")
    window = Window(since, until)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    decisions: Iterable[Decision | SkippedDecision] | None = None
    if table is not None:
        decisions = DecisionsTable(client("dynamodb"), table).within(window)
    elif decisions_file is not None:
        decisions = decisions_in_file(decisions_file, window)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        figures = make_report(
            source,
            output,
            window=window,
            class_names=class_names,
            threshold=threshold,
            baseline=baseline,
            expected_shares=expected_shares,
            decisions=decisions,
            cache=cache,
            progress=progress,
        )
    click.echo(
        f"{whole(figures.predictions)} predictions from {whole(figures.records)} records"
        + (f", {percent(figures.below_threshold.value)} below {threshold:g}" if figures.below_threshold else "")
        + f"; against the baseline: {figures.verdict}"
    )
    for reason, count in (figures.skipped | figures.files.skipped).items():
        click.echo(f"  not used: {whole(count)} {reason.replace('_', ' ')}")
    click.echo(f"The report is {output / 'report.html'}")


if __name__ == "__main__":
    main(prog_name="python -m monitoring")
