"""The command line of a deployed stack: python -m operate."""

import getpass
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from .batch import Batch, manifest_key, recent_batches
from .deployed import Deployed
from .presign import presign
from .replay import find_undone
from .review import decide, export_reviewed, waiting_photos

console = Console(highlight=False)
messages = Console(highlight=False, stderr=True)


@click.group()
@click.option("--stack-name", default="loading-bay", show_default=True, envvar="LOADING_BAY_STACK")
@click.pass_context
def main(context: click.Context, stack_name: str) -> None:
    """Operate a deployed stack, on AWS or (python -m local operate …) on this machine."""
    if not {"--help", "-h"} & set(sys.argv):
        context.obj = Deployed.find(stack_name)


# ------------------------------------------------------------------------------------------------------- batches ---


@main.group()
def batch() -> None:
    """Classify many photos at once."""


@batch.command()
@click.option("--prefix", help="Photos under this prefix of the inbox.  [default: the stack's BatchPrefix]")
@click.option(
    "--manifest", help="A .csv or .jsonl file, here or in the inbox, or the manifest.json of an S3 Inventory."
)
@click.option("--name", help="The batch's name.  [default: made from the time]")
@click.option("--max-concurrency", type=click.IntRange(1, 1000), help="Photos at once.  [default: the stack's]")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary (or the name) as JSON.")
@click.pass_obj
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
    key = manifest_key(deployed, manifest) if manifest else None
    batch = Batch.start(deployed, prefix=prefix, manifest=key, max_concurrency=max_concurrency, name=name)
    _started(batch, wait, as_json)


@batch.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_obj
def follow(deployed: Deployed, name: str, as_json: bool) -> None:
    """Follow a batch to its end; exits with 1 if photos failed."""
    _follow(Batch(deployed, name), as_json)


@batch.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Follow it to its end.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary (or the name) as JSON.")
@click.pass_obj
def retry(deployed: Deployed, name: str, wait: bool, as_json: bool) -> None:
    """Run the photos again that failed in a batch, and only those."""
    again = Batch(deployed, name).retry()
    if again is None:
        click.echo(f"nothing failed in batch {name}", err=True)
    else:
        _started(again, wait, as_json)


@batch.command(name="list")
@click.pass_obj
def list_batches(deployed: Deployed) -> None:
    """List the last batches."""
    for each in recent_batches(deployed):
        click.echo(f"{each['startDate']:%Y-%m-%d %H:%M:%S}  {each['status']:<10} {each['name']}")


def _started(batch: Batch, wait: bool, as_json: bool) -> None:
    if wait:
        _follow(batch, as_json)
    elif as_json:
        click.echo(json.dumps({"batch_id": batch.name}))
    else:
        click.echo(f"batch {batch.name} runs; follow it with: python -m operate batch follow {batch.name}")


def _follow(batch: Batch, as_json: bool) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    try:
        with Progress(*columns, TextColumn("{task.fields[counts]}"), console=messages, transient=True) as progress:
            _show_progress(batch, progress, progress.add_task("", total=None, rate="", counts=""))
    except KeyboardInterrupt:
        click.echo(f"the batch goes on; follow it with: python -m operate batch follow {batch.name}", err=True)
        sys.exit(130)
    summary = batch.summary()
    if as_json:
        click.echo(json.dumps(summary, default=float))
    else:
        console.print(_summary_table(summary))
    if summary["failed"]:
        click.echo(f"run the failed photos again with: python -m operate batch retry {batch.name}", err=True)
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


# -------------------------------------------------------------------------------------------------------- replay ---


@main.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be done.")
@click.pass_obj
def replay(deployed: Deployed, dry_run: bool) -> None:
    """Run again what was not finished: dead-lettered events, failed photos, photos whose execution was ended."""
    undone = list(find_undone(deployed))
    for each in undone:
        click.echo(f"{each.about}\n    {each.why}")
        if not dry_run:
            each.run()
    verb = "to run again" if dry_run else "run again"
    click.echo(f"{len(undone)} {verb}")


# -------------------------------------------------------------------------------------------------------- review ---


@main.group()
def review() -> None:
    """See to the photos that the model was not sure of."""


@review.command(name="list")
@click.pass_obj
def list_waiting(deployed: Deployed) -> None:
    """List the photos that wait for a person, the oldest first."""
    waiting = list(waiting_photos(deployed))
    for decision in waiting:
        click.echo(f"{decision.attributes['claimed_at']}  {decision.key}\n    {decision.reason}")
    click.echo(f"{len(waiting)} photos wait for review")


@review.command(name="decide")
@click.argument("photo")
@click.argument("vehicle")
@click.option("--reviewer", default=getpass.getuser, help="Who decides.  [default: you]")
@click.pass_obj
def decide_photo(deployed: Deployed, photo: str, vehicle: str, reviewer: str) -> None:
    """Say that PHOTO (its key, or its full name) shows VEHICLE, or neither; it is announced as any outcome."""
    decision = decide(deployed, photo, vehicle, reviewer)
    place = f"goes to bay {decision['bay']} ({decision['order_range']})" if "bay" in decision else "is rejected"
    click.echo(f"{decision['s3_key']} {place}")


@review.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_obj
def export(deployed: Deployed, folder: Path) -> None:
    """Download what people decided into FOLDER/<vehicle or neither>/, to train on."""
    count = sum(1 for _ in export_reviewed(deployed, folder))
    click.echo(f"{count} reviewed photos are in {folder}")


main.add_command(presign)

if __name__ == "__main__":
    main(prog_name="python -m operate")
