"""Commands for any stack: check, watch, explain, replay, presign, erase."""

import sys
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from functions.decisions.decision import Decision, separated
from functions.decisions.table import DecisionsTable
from functions.decisions.uploads import CONTENT_TYPES
from loading_bay.operations.check import COST, CheckRun
from loading_bay.operations.definitions import validate
from loading_bay.operations.erase import Erasure
from loading_bay.operations.explain import explain as explain_photo
from loading_bay.operations.presign import curl, presign_upload
from loading_bay.operations.replay import find_unfinished, run_again
from loading_bay.operations.result import CheckResult
from loading_bay.operations.watch import counts, state
from loading_bay.operations.watch import watch as watch_photos
from loading_bay.stack.captures import capture_source
from loading_bay.stack.decisions import decisions_in_table
from loading_bay.stack.deployed import Deployed, client
from loading_bay.stack.errors import UserError
from loading_bay.stack.text import printable
from loading_bay.stack.window import Window

from .commands import Command, echo_json, find_stack, json_option, say, stack_options, with_stack

MARKS = {"ok": "[green]✓[/]", "failed": "[red]✗[/]", "not checked": "[dim]–[/]"}

console = Console(highlight=False)
messages = Console(highlight=False, stderr=True)


@click.command(cls=Command, examples=["", "--local --json", "--definitions"])
@stack_options
@click.option("--definitions", is_flag=True, help="Only let AWS validate the workflows, without a stack.")
@json_option
def check(local: bool, stack_name: str, region: str | None, definitions: bool, as_json: bool) -> None:
    """Prove that the stack works.

    Sends sample photos through the whole stack. Prints one line per check; the exit code is 1 if one failed.
    """
    if definitions:
        results = _shown(validate(client("stepfunctions", region)), as_json)
    else:
        proof = CheckRun(find_stack(local, stack_name, region))
        messages.print(COST)
        try:
            with closing(proof.run()) as run:
                results = _shown(run, as_json)
        except KeyboardInterrupt:
            for each in proof.left:
                messages.print(f"left: {escape(printable(each))}", soft_wrap=True)
            raise
    if any(result.status == "failed" for result in results):
        sys.exit(1)


def _shown(results: Iterable[CheckResult], as_json: bool) -> list[CheckResult]:
    """Print each result as soon as it is known, or all results as JSON at the end."""
    shown = []
    for result in results:
        shown.append(result)
        if not as_json:
            detail = result.detail if result.status != "not checked" else f"not checked here: {result.detail}"
            line = f"{MARKS[result.status]} {result.check:<18}{result.seconds:6.1f} s  {escape(printable(detail))}"
            console.print(line, soft_wrap=True)
    if as_json:
        echo_json(shown)
    return shown


@click.command(cls=Command, examples=["--local", "--driver driver-7 --hours 1", "--once > decisions.txt"])
@with_stack
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=24.0, help="How far back to look.")
@click.option("--driver", help="Show the photos of one driver only.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, help="Seconds between updates.")
@click.option("--seconds", type=float, help="Stop after this many seconds.  [default: at Ctrl-C]")
@click.option("--once", is_flag=True, help="Show the current state and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the current decisions as JSON and exit.")
def watch(
    deployed: Deployed,
    hours: float,
    driver: str | None,
    every: float,
    seconds: float | None,
    once: bool,
    as_json: bool,
) -> None:
    """Show the newest decisions, live.

    Shows the counts, the review rate and the newest decisions; in a pipe, one line per decision.
    """
    table = DecisionsTable(deployed.client("dynamodb"), deployed.outputs["DecisionsTable"])
    deadline = time.monotonic() + (0 if once else seconds or float("inf"))
    decisions: list[Decision] = []

    def read() -> list[Decision]:
        window = Window(since=datetime.now(UTC) - timedelta(hours=hours))
        found = separated(decisions_in_table(table, window))[0]
        decisions[:] = [decision for decision in found if driver in {None, decision.driver}]
        return decisions

    if as_json:
        echo_json(read())
        return
    title = ", ".join(filter(None, (deployed.outputs["StackName"], driver, f"the last {hours:g} hours")))
    with suppress(KeyboardInterrupt):
        watch_photos(read, console, title=title, every=every, until=lambda _: time.monotonic() >= deadline)
    if console.is_terminal:
        console.print(state(decisions, console, title))
    else:
        messages.print(counts(decisions))


@click.command(cls=Command, examples=["uploads/driver-7/1.jpg --local"])
@click.argument("photo")
@with_stack
@json_option
def explain(deployed: Deployed, photo: str, as_json: bool) -> None:
    """Explain the outcome of a photo.

    Lists the states of the last execution of PHOTO (its key or its full name), with times and errors.
    """
    account = explain_photo(deployed, photo)
    if as_json:
        echo_json(account)
        return
    decision = account.decision
    outcome = " ".join(filter(None, (decision.status, decision.vehicle, decision.place))) + f"  {decision.why}".rstrip()
    for line in filter(None, (decision.photo, decision.whose, outcome, decision.execution_arn)):
        say(line)
    for step in account.steps:
        took = "" if step.took is None else f"{step.took:.3f} s"
        errors = ", ".join(f"{name} × {count}" if count > 1 else name for name, count in step.errors.items())
        say(f"{step.after:9.3f} s  {step.name:<20} {took:>10}  {errors}".rstrip())
    say(account.end)


@click.command(cls=Command, examples=["--local --dry-run", ""])
@with_stack
@click.option("--dry-run", is_flag=True, help="List unfinished photos and messages without starting them.")
@json_option
def replay(deployed: Deployed, dry_run: bool, as_json: bool) -> None:
    """Run unfinished photos and messages again.

    These are dead-lettered events, failed photos, and photos whose execution was stopped.
    """
    unfinished = list(find_unfinished(deployed))
    if as_json:
        echo_json(unfinished)
    else:
        for each in unfinished:
            say(each.about)
            say(f"    {each.why}")
    if not dry_run:
        run_again(deployed, unfinished)
    click.echo(f"{len(unfinished)} {'to run again' if dry_run else 'run again'}", err=as_json)


@click.command(cls=Command, examples=["driver-7 --order 4711 --local", "driver-7 --content-type image/heic --json"])
@click.argument("driver")
@with_stack
@click.option("--order", help="The photo's order, which becomes part of the signed upload.")
@click.option("--content-type", type=click.Choice(list(CONTENT_TYPES)), default="image/jpeg", help="Type of the photo.")
@click.option(
    "--max-bytes", type=click.IntRange(1, 104_857_600), help="Largest upload.  [default: the stack's MaxPhotoBytes]"
)
@click.option("--seconds", type=click.IntRange(1, 3600), default=300, help="How long the upload stays valid.")
@json_option
def presign(
    deployed: Deployed,
    driver: str,
    order: str | None,
    content_type: str,
    max_bytes: int | None,
    seconds: int,
    as_json: bool,
) -> None:
    """Sign an upload of one photo by DRIVER, and print its curl command."""
    upload = presign_upload(deployed, driver, content_type, order=order, max_bytes=max_bytes, seconds=seconds)
    if as_json:
        echo_json(upload)
        return
    say(f"# one photo, until {upload.expires_at}, as s3://…/{upload.key}")
    say(curl(upload))


@click.command(cls=Command, examples=["driver-7 --local --dry-run", "driver-7 --exported reviewed"])
@click.argument("driver")
@with_stack
@click.option("--dry-run", is_flag=True, help="Count what would be erased, and erase nothing.")
@click.option("--captures", help="Folder or s3://bucket/prefix of captures.  [default: the endpoint's]")
@click.option("--no-captures", is_flag=True, help="The endpoint never captured anything.")
@click.option(
    "--exported",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Folder of exported labels; give it as often as there are folders.",
)
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the receipt.  [default: erasure-TIME.json]",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def erase(
    deployed: Deployed,
    driver: str,
    *,
    dry_run: bool,
    captures: str | None,
    no_captures: bool,
    exported: tuple[Path, ...],
    receipt: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase the photos of DRIVER, and everything that was kept because of them.

    DRIVER is a folder below the upload prefix. After an interruption, run the same command again.
    """
    if captures is None and not no_captures:
        try:
            captures = capture_source(deployed)
        except UserError as error:
            raise UserError(f"{error.message}; give --captures, or --no-captures") from error
    erasure = Erasure(deployed, driver, captures=captures, exported=exported)
    if not (dry_run or yes):
        click.confirm(f"Erase the photos of {printable(driver)} for good?", abort=True, err=True)
    done = erasure.run(dry_run=dry_run)
    receipt = receipt or Path(f"erasure-{done.erased_at.replace(':', '')}.json")
    if not dry_run:
        receipt.write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=2) + b"\n")
    if as_json:
        echo_json(done)
        return
    for store, count in done.erased.items():
        say(f"{count:8} {store}")
    for each in done.out_of_reach:
        say(f"out of reach: {each}")
    say("Nothing was erased." if dry_run else f"Erased; the receipt is {receipt}")
