"""Commands for batches: start, follow, show, retry, list."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from loading_bay.operations.batch import Batch, new_name, recent_batches
from loading_bay.operations.manifest import checked_keys, checked_manifest, checked_prefix, put_manifest
from loading_bay.stack.deployed import Deployed
from loading_bay.stack.text import printable

from .commands import Commands, echo_json, json_option, say, with_stack

REJECTED = 3  # the exit code of a batch in which photos were rejected, and none failed
COUNTS = ("in_review", "rejected", "failed", "already_decided")

console = Console(highlight=False)
messages = Console(highlight=False, stderr=True)


@click.group(cls=Commands)
def batch() -> None:
    """Classify many photos at once."""


@batch.command(examples=["--prefix backfill/2026/ --wait", "--manifest photos.csv --name march", "backfill/1.jpg"])
@click.argument("keys", nargs=-1)
@with_stack
@click.option("--prefix", help="Photos under this prefix of the inbox.  [default: the stack's BatchPrefix]")
@click.option(
    "--manifest", help="A .csv or .jsonl file, here or in the inbox, or the manifest.json of an S3 Inventory."
)
@click.option("--name", help="The batch's name.  [default: from the current time]")
@click.option("--max-concurrency", type=click.IntRange(1, 1000), help="Photos at a time.  [default: the stack's]")
@click.option("--wait", is_flag=True, help="Follow the batch until it ends.")
@json_option
def start(
    deployed: Deployed,
    keys: tuple[str, ...],
    prefix: str | None,
    manifest: str | None,
    name: str | None,
    max_concurrency: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start a batch over a prefix, a manifest, or the photos with these KEYS."""
    if [bool(keys), prefix is not None, manifest is not None].count(True) > 1:
        raise click.UsageError("give KEYS, --prefix or --manifest, not several of them")
    name = Batch(deployed, name or new_name()).name
    if keys:
        manifest = put_manifest(deployed, name, checked_keys(deployed, keys))
    elif manifest is not None:
        manifest = checked_manifest(deployed, manifest, name)
    else:
        prefix = checked_prefix(deployed, prefix)
    started = Batch.start(deployed, prefix=prefix, manifest=manifest, max_concurrency=max_concurrency, name=name)
    _started(started, wait, as_json)


@batch.command(examples=["march --local"])
@click.argument("name")
@with_stack
@json_option
def follow(deployed: Deployed, name: str, as_json: bool) -> None:
    """Follow a batch until it ends.

    The exit code is 1 if any photo failed, else 3 if any was rejected.
    """
    _follow(Batch(deployed, name), as_json)


@batch.command(examples=["march", "march --rejected --local"])
@click.argument("name")
@with_stack
@click.option("--rejected", is_flag=True, help="List the rejected photos, each with its reason.")
@json_option
def show(deployed: Deployed, name: str, rejected: bool, as_json: bool) -> None:
    """Show the summary of a finished batch.

    The exit code is 1 if any photo failed, else 3 if any was rejected.
    """
    found = Batch(deployed, name)
    if not rejected:
        _show(found, as_json)
    found.summary()  # which a batch that is running does not have yet
    photos = list(found.rejected())
    if as_json:
        echo_json([{"photo": photo.photo, "error": photo.error, "reason": photo.reason} for photo in photos])
    else:
        for photo in photos:
            say(photo.key)
            say(f"    {photo.why}")
        say(f"{len(photos)} rejected in batch {name}")
    sys.exit(REJECTED if photos else 0)


@batch.command(examples=["march --wait"])
@click.argument("name")
@with_stack
@click.option("--wait", is_flag=True, help="Follow the batch until it ends.")
@json_option
def retry(deployed: Deployed, name: str, wait: bool, as_json: bool) -> None:
    """Retry only the photos that failed in a batch."""
    failed = Batch(deployed, name)
    again = failed.retry()
    for row in failed.unnamed:
        say(f"left out a row without a photo: {json.dumps(row)[:120]}", err=True)
    if again is None:
        click.echo(f"nothing failed in batch {name}", err=True)
    else:
        _started(again, wait, as_json)


@batch.command(name="list", examples=["--local"])
@with_stack
@json_option
def list_batches(deployed: Deployed, as_json: bool) -> None:
    """List the last hundred batches with their counts, newest first."""
    found = list(recent_batches(deployed))
    if as_json:
        echo_json([
            {"batch_id": execution["name"], "status": execution["status"], "started_at": execution["startDate"],
             "summary": summary}
            for execution, summary in found
        ])  # fmt: skip
        return
    for execution, summary in found:
        say(f"{execution['startDate']:%Y-%m-%d %H:%M:%S}  {execution['status']:<10} {execution['name']}")
        if summary:
            click.echo(f"    {_counts(summary)}")


def _counts(summary: dict[str, Any]) -> str:
    found = {"routed": sum(summary["routed"].values())} | {name.replace("_", " "): summary[name] for name in COUNTS}
    parts = [f"{count} {name}" for name, count in found.items() if count]
    return f"{summary['photos']} photos" + (f": {', '.join(parts)}" if parts else "")


def _started(batch: Batch, wait: bool, as_json: bool) -> None:
    if wait:
        _follow(batch, as_json)
    elif as_json:
        echo_json({"batch_id": batch.name})
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
    _show(batch, as_json)


def _show(batch: Batch, as_json: bool) -> NoReturn:
    """Print the summary of a batch, and exit with the code that tells how it went."""
    summary = batch.summary()
    if as_json:
        echo_json(summary)
    else:
        reasons = Counter(photo.reason_code or photo.error or "unknown" for photo in batch.rejected())
        console.print(_summary_table(summary, reasons))
    if summary["failed"]:
        say(f"retry the failed photos with: {batch.command('retry')}", err=True)
    if summary["rejected"]:
        say(f"see why photos were rejected with: {batch.command('show', '--rejected')}", err=True)
    sys.exit(1 if summary["failed"] else REJECTED if summary["rejected"] else 0)


def _show_progress(batch: Batch, progress: Progress, task: TaskID) -> None:
    started = time.monotonic()
    while batch.status() == "RUNNING":
        asked = time.monotonic()
        now = batch.progress()
        counts = " ".join(f"{count} {status}" for status, count in now.by_status.items() if count)
        rate = f"{now.done / max(asked - started, 1):.1f}/s"
        progress.update(task, total=now.photos or None, completed=now.done, counts=counts, rate=rate)
        # Counting a large batch takes time and read units, so it gets at most a tenth of the time.
        time.sleep(max(0.5, 9 * (time.monotonic() - asked)))


def _summary_table(summary: dict[str, Any], reasons: Mapping[str, int]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=f"batch {summary['batch_id']}", title_justify="left")
    table.add_column("photos")
    table.add_column(str(summary["photos"]), justify="right")
    table.add_column("reasons")
    why = ", ".join(f"{count} {printable(code)}" for code, count in reasons.items())
    for vehicle, count in summary["routed"].items():
        table.add_row(f"routed: {escape(vehicle)}", str(count))
    for name in (*COUNTS, "seconds"):
        table.add_row(name.replace("_", " "), str(summary[name]), escape(why) if name == "rejected" else "")
    return table
