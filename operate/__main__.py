"""The command line of a deployed stack: python -m operate."""

import getpass
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from stack.commands import CommandLine, region_option
from stack.decisions import Decision, DecisionsTable, separated, timestamp
from stack.deployed import STACK_NAME, Deployed
from stack.reviewers import add_reviewer, remove_reviewer, reviewers
from stack.text import printable
from stack.watch import counts, state, watch
from stack.window import Window

from .batch import Batch, new_name, recent_batches
from .check import COST, Check
from .choice import Choice, with_stack
from .explain import explain
from .manifest import checked_manifest, checked_prefix
from .presign import presign
from .replay import find_undone, run_again
from .review import decide, export_reviewed, waiting_photos

console = Console(highlight=False)
messages = Console(highlight=False, stderr=True)


@click.group(cls=CommandLine)
@click.option("--local", is_flag=True, help="The stack of this machine (python -m local up).")
@click.option("--stack-name", default=STACK_NAME, envvar="LOADING_BAY_STACK", show_envvar=True, help="A stack on AWS.")
@region_option
@click.pass_context
def main(context: click.Context, local: bool, stack_name: str, region: str | None) -> None:
    """Operate a deployed stack, on AWS or (--local) on this machine."""
    context.obj = Choice(local, stack_name, region, context.command_path)


# --------------------------------------------------------------------------------------------------------- check ---

MARKS = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "not checked": "[dim]–[/]"}


@main.command(examples=["", "--json"])
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@with_stack
def check(deployed: Deployed, as_json: bool) -> None:
    """Prove that the stack works.

    Sample photos go through all of it; a line for each check, exit code 1 if one failed.
    """
    messages.print(COST)
    results = []
    for result in Check(deployed).run():
        results.append(result)
        if not as_json:
            detail = result.detail if result.status != "not checked" else f"not checked here: {result.detail}"
            line = f"{MARKS[result.status]} {result.check:<18}{result.seconds:6.1f} s  {escape(printable(detail))}"
            console.print(line, soft_wrap=True)
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    if any(result.status == "failed" for result in results):
        sys.exit(1)


# --------------------------------------------------------------------------------------------------------- watch ---


@main.command(name="watch", examples=["", "--hours 1", "--once > decisions.txt"])
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24.0, help="How far back to look.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, help="Seconds between updates.")
@click.option("--seconds", type=float, help="Stop after so many seconds.  [default: at Ctrl-C]")
@click.option("--once", is_flag=True, help="Show the current state and exit.")
@with_stack
def watch_photos(deployed: Deployed, hours: float, every: float, seconds: float | None, once: bool) -> None:
    """Show what becomes of the photos.

    The counts, the review rate and the newest decisions; in a pipe, a line for each decision.
    """
    table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
    deadline = time.monotonic() + (0 if once else seconds or float("inf"))
    decisions: list[Decision] = []

    def read() -> list[Decision]:
        window = Window(since=datetime.now(UTC) - timedelta(hours=hours))
        decisions[:] = separated(table.within(window))[0]
        return decisions

    title = f"{deployed.outputs['StackName']}, the last {hours:g} hours"
    with suppress(KeyboardInterrupt):
        watch(read, console, title=title, every=every, until=lambda _: time.monotonic() >= deadline)
    if console.is_terminal:
        console.print(state(decisions, console, title))
    else:
        messages.print(counts(decisions))


# ------------------------------------------------------------------------------------------------------- batches ---


@main.group()
def batch() -> None:
    """Classify many photos at once."""


@batch.command(examples=["--prefix backfill/2026/ --wait", "--manifest photos.csv --name march"])
@click.option("--prefix", help="Photos under this prefix of the inbox.  [default: the stack's BatchPrefix]")
@click.option(
    "--manifest", help="A .csv or .jsonl file, here or in the inbox, or the manifest.json of an S3 Inventory."
)
@click.option("--name", help="The batch's name.  [default: from the current time]")
@click.option("--max-concurrency", type=click.IntRange(1, 1000), help="Photos at a time.  [default: the stack's]")
@click.option("--wait", is_flag=True, help="Follow the batch until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary (or the name) as JSON.")
@with_stack
def start(
    deployed: Deployed,
    prefix: str | None,
    manifest: str | None,
    name: str | None,
    max_concurrency: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a batch."""
    if prefix is not None and manifest is not None:
        raise click.UsageError("give --prefix or --manifest, not both")
    name = Batch(deployed, name or new_name()).name
    if manifest is not None:
        manifest = checked_manifest(deployed, manifest, name)
    else:
        prefix = checked_prefix(deployed, prefix)
    batch = Batch.start(deployed, prefix=prefix, manifest=manifest, max_concurrency=max_concurrency, name=name)
    _started(batch, wait, as_json)


@batch.command(examples=["march"])
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@with_stack
def follow(deployed: Deployed, name: str, as_json: bool) -> None:
    """Follow a batch until it ends.

    The exit code is 1 if any photo failed.
    """
    _follow(Batch(deployed, name), as_json)


@batch.command(examples=["march --wait"])
@click.argument("name")
@click.option("--wait", is_flag=True, help="Follow the batch until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary (or the name) as JSON.")
@with_stack
def retry(deployed: Deployed, name: str, wait: bool, as_json: bool) -> None:
    """Run again the photos that failed in a batch, and only those."""
    again = Batch(deployed, name).retry()
    if again is None:
        click.echo(f"nothing failed in batch {name}", err=True)
    else:
        _started(again, wait, as_json)


@batch.command(name="list", examples=[""])
@with_stack
def list_batches(deployed: Deployed) -> None:
    """List the last hundred batches with their counts, newest first."""
    for execution, summary in recent_batches(deployed):
        click.echo(f"{execution['startDate']:%Y-%m-%d %H:%M:%S}  {execution['status']:<10} {execution['name']}")
        if summary:
            click.echo(f"    {_counts(summary)}")


def _counts(summary: dict[str, Any]) -> str:
    found = {"routed": sum(summary["routed"].values())}
    found |= {name.replace("_", " "): summary[name] for name in ("in_review", "rejected", "failed", "already_decided")}
    parts = [f"{count} {name}" for name, count in found.items() if count]
    return f"{summary['photos']} photos" + (f": {', '.join(parts)}" if parts else "")


def _started(batch: Batch, wait: bool, as_json: bool) -> None:
    if wait:
        _follow(batch, as_json)
    elif as_json:
        click.echo(json.dumps({"batch_id": batch.name}))
    else:
        click.echo(f"batch {batch.name} has started; follow it with: {batch.command('follow')}")


def _follow(batch: Batch, as_json: bool) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    try:
        with Progress(*columns, TextColumn("{task.fields[counts]}"), console=messages, transient=True) as progress:
            _show_progress(batch, progress, progress.add_task("", total=None, rate="", counts=""))
    except KeyboardInterrupt:
        click.echo(f"the batch is still running; follow it with: {batch.command('follow')}", err=True)
        sys.exit(130)
    summary = batch.summary()
    if as_json:
        click.echo(json.dumps(summary))
    else:
        console.print(_summary_table(summary))
    if summary["failed"]:
        click.echo(f"run the failed photos again with: {batch.command('retry')}", err=True)
        sys.exit(1)


def _show_progress(batch: Batch, progress: Progress, task: TaskID) -> None:
    started = time.monotonic()
    while batch.status() == "RUNNING":
        asked = time.monotonic()
        now = batch.progress()
        counts = " ".join(f"{count} {status}" for status, count in now.by_status.items() if count)
        rate = f"{now.done / max(asked - started, 1):.1f}/s"
        progress.update(task, total=now.photos or None, completed=now.done, counts=counts, rate=rate)
        # Counting a large batch takes time and read units: a tenth of the time at most is spent on it.
        time.sleep(max(0.5, 9 * (time.monotonic() - asked)))


def _summary_table(summary: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=f"batch {summary['batch_id']}", title_justify="left")
    table.add_column("photos")
    table.add_column(str(summary["photos"]), justify="right")
    for vehicle, count in summary["routed"].items():
        table.add_row(f"routed: {escape(vehicle)}", str(count))
    for name in ("in_review", "rejected", "failed", "already_decided", "seconds"):
        table.add_row(name.replace("_", " "), str(summary[name]))
    return table


# ------------------------------------------------------------------------------------------------------- explain ---


@main.command(name="explain", examples=["uploads/driver-7/1.jpg"])
@click.argument("photo")
@with_stack
def explain_photo(deployed: Deployed, photo: str) -> None:
    """Show what happened to a photo.

    The states of the last execution of PHOTO (its key, or its full name), with times and errors.
    """
    account = explain(deployed, photo)
    decision = account.decision
    what = " ".join(filter(None, (decision.status, decision.vehicle, decision.place))) + f"  {decision.why}".rstrip()
    for line in filter(None, (decision.photo, what, decision.execution_arn)):
        click.echo(printable(line))
    for step in account.steps:
        took = "" if step.took is None else f"{step.took:.3f} s"
        errors = ", ".join(f"{name} × {count}" if count > 1 else name for name, count in step.errors.items())
        click.echo(printable(f"{step.after:9.3f} s  {step.name:<20} {took:>10}  {errors}".rstrip()))
    click.echo(account.end)


# -------------------------------------------------------------------------------------------------------- replay ---


@main.command(examples=["--dry-run", ""])
@click.option("--dry-run", is_flag=True, help="List what would run again, and start nothing.")
@with_stack
def replay(deployed: Deployed, dry_run: bool) -> None:
    """Run again what was not finished.

    Dead-lettered events, failed photos, and photos whose execution was ended.
    """
    undone = list(find_undone(deployed))
    for each in undone:
        click.echo(f"{printable(each.about)}\n    {printable(each.why)}")
    if not dry_run:
        run_again(deployed, undone)
    verb = "to run again" if dry_run else "run again"
    click.echo(f"{len(undone)} {verb}")


# -------------------------------------------------------------------------------------------------------- review ---


@main.group()
def review() -> None:
    """Decide the photos that the model was not sure of."""


@review.command(name="list", examples=[""])
@with_stack
def list_waiting(deployed: Deployed) -> None:
    """List the photos that wait for a person, oldest first."""
    waiting = list(waiting_photos(deployed))
    for decision in waiting:
        click.echo(f"{timestamp(decision.claimed_at)}  {printable(decision.key)}\n    {printable(decision.why)}")
    click.echo(f"{len(waiting)} waiting for review")


@review.command(name="decide", examples=["uploads/driver-7/1.jpg motorcycle", "uploads/driver-7/2.jpg neither"])
@click.argument("photo")
@click.argument("vehicle")
@click.option("--reviewer", default=getpass.getuser, help="Who decides.  [default: you]")
@with_stack
def decide_photo(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> None:
    """Say which VEHICLE a PHOTO shows, or neither.

    PHOTO is its key, or its full name in the decisions table. The outcome is announced like any other.
    """
    record = decide(deployed, photo, vehicle, reviewer)
    place = f"goes to bay {record['bay']} ({record['order_range']})" if "bay" in record else "is rejected"
    click.echo(f"{printable(record['s3_key'])} {place}; that is announced in a moment")


@review.command(examples=["reviewed"])
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@with_stack
def export(deployed: Deployed, folder: Path) -> None:
    """Download what people decided, to train on.

    Photos go into FOLDER/VEHICLE, or FOLDER/neither.
    """
    labels = list(export_reviewed(deployed, folder))
    missing = [label for label in labels if label.path is None]
    for label in missing:
        click.echo(f"left out: {printable(label.photo)}: {label.why}", err=True)
    click.echo(f"{len(labels) - len(missing)} reviewed photos are in {folder}; {len(missing)} left out")


# ----------------------------------------------------------------------------------------------------- reviewers ---


@main.group(name="reviewers")
def reviewers_group() -> None:
    """Say who may sign in to the review page."""


@reviewers_group.command(name="add", examples=["ana ana@example.com"])
@click.argument("name")
@click.argument("email")
@with_stack
def add(deployed: Deployed, name: str, email: str) -> None:
    """Let NAME sign in; Cognito mails a temporary password to EMAIL."""
    added = add_reviewer(deployed, name, email)
    where = deployed.outputs["ReviewUrl"]
    told = f"with the password {added.password}" if added.password else f"with the password mailed to {email}"
    click.echo(f"{name} can sign in at {where} {told}")


@reviewers_group.command(name="list", examples=[""])
@with_stack
def list_reviewers(deployed: Deployed) -> None:
    """List who may sign in."""
    for each in reviewers(deployed):
        click.echo(f"{each.name:<24}{each.email:<40}{each.status}")


@reviewers_group.command(name="remove", examples=["ana"])
@click.argument("name")
@with_stack
def remove(deployed: Deployed, name: str) -> None:
    """Let NAME sign in no more; who is signed in is out after 15 minutes."""
    remove_reviewer(deployed, name)
    click.echo(f"{name} can no longer sign in")


main.add_command(presign)

if __name__ == "__main__":
    main(prog_name="python -m operate")
