"""The command line of the local stack: python -m local."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from stack.addresses import Address
from stack.commands import CommandLine
from stack.decisions import OUTCOMES, Decision, DecisionsTable
from stack.deployed import STACK_NAME
from stack.errors import UserError
from stack.watch import counts, decisions_table, reasons, watch

from . import photos as demo_photos
from . import processes
from .invocation import invoke_function, run_workflow
from .stack import HOME, MODEL, Options, Stack

DEMO = HOME / "demo"

console = Console(highlight=False)
FUNCTIONS = {"serialize": "SerializeFunction", "inference": "InferenceFunction", "threshold": "ThresholdFunction"}
WORKFLOWS = {"photo": "StateMachineArn", "batch": "BatchStateMachineArn"}
TARGETS = [*FUNCTIONS, *WORKFLOWS]
LOGS = {name: f"/aws/lambda/{STACK_NAME}-{name}" for name in (*FUNCTIONS, "review")}


def _up_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--model", type=click.Path(path_type=Path, dir_okay=False), default=MODEL,
                     help="ONNX model behind the endpoint.  [default: the one that ships]"),
        click.option("--capture-percentage", type=click.IntRange(0, 100), default=100,
                     help="Share of the endpoint's calls that is captured."),
        click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
                     help="Template parameter; may be given several times."),
    ):  # fmt: skip
        command = option(command)
    return command


def _options(model: Path, capture_percentage: int, parameters: tuple[str, ...]) -> Options:
    wrong = [parameter for parameter in parameters if "=" not in parameter]
    if wrong:
        raise UserError(f"--parameter wants NAME=VALUE, not {wrong[0]}")
    chosen = dict(parameter.split("=", 1) for parameter in parameters)
    return Options(model=model.resolve(), capture_percentage=capture_percentage, parameters=chosen)


@click.group(cls=CommandLine)
def main() -> None:
    """Run the whole stack on this machine: the real template, a local AWS, the real model."""


@main.command(examples=["", "--demo", "--parameter ConfidenceThreshold=0.95", "--model data/model/model.onnx"])
@click.option(
    "--demo", "with_samples", is_flag=True, help="Upload the sample photos, all for a person, and open the page."
)
@_up_options
def up(with_samples: bool, **options: Any) -> None:
    """Start the local AWS and the endpoint, then build and deploy the template; say what runs if it runs already."""
    chosen = _options(**options)
    if with_samples:  # no model is sure enough for a threshold of 1
        chosen = replace(chosen, parameters={"ConfidenceThreshold": "1", **chosen.parameters})
    with processes.locked(HOME), _ended_in_order():
        stack = Stack.find()
        if stack:
            click.echo("a local stack is running already; to bring up another: python -m local down")
        else:
            stack = Stack.up(HOME, chosen, click.echo)
    click.echo("\nTo use it with AWS's own tools:\n")
    _print_exports(stack)
    click.echo(f"\naws s3 cp photo.jpg {stack.outputs['UploadUri']}")
    click.echo("python -m local upload photo.jpg; python -m operate --local watch; python -m local down")
    if with_samples:
        _upload(
            stack,
            Address.parse(stack.outputs["UploadUri"]),
            [
                (f"driver-{number}/{photo.name}", photo.data)
                for number, photo in enumerate(demo_photos.sample_photos(), 1)
            ],
        )
    if page := stack.outputs.get("ReviewUrl"):
        who = stack.reviewer
        click.echo(f"\nReview page: {page}\nsign in as {who['name']} with the password {who['password']}")
        if with_samples and console.is_terminal:
            click.launch(page)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let a closed terminal and a request to end unwind the block, as Ctrl-C does, so that nothing is left behind."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)  # a shell that ends may send more than one
        sys.exit(128 + number)

    ours = (signal.SIGHUP, signal.SIGTERM)
    handled = {each: signal.signal(each, end) for each in ours if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def _exports(stack: Stack) -> dict[str, str]:
    return stack.environment() | {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": stack.endpoint_url}


def _print_exports(stack: Stack) -> None:
    for name, value in _exports(stack).items():
        click.echo(f"export {name}={value}")


@main.command(examples=["", "--unset"])
@click.option("--unset", is_flag=True, help="Print what takes these variables away again.")
def env(unset: bool) -> None:
    """Print what to export so that AWS's own tools use the local stack: eval "$(python -m local env)"."""
    if unset:
        click.echo(f"unset {' '.join(_exports(Stack(HOME)))}")
    else:
        _print_exports(Stack.load())


@main.command(examples=["photo.jpg", "events/photos", "--prefix backfill/2026/ folder/"])
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--prefix", help="Where in the inbox. Elsewhere than below the default, photos wait for a batch.  "
              "[default: the stack's UploadPrefix]")  # fmt: skip
def upload(paths: tuple[Path, ...], prefix: str | None) -> None:
    """Put photos into the inbox: files, and of folders all that is named like a photo."""
    stack = Stack.load()
    photos, skipped = demo_photos.photos_below(paths)
    watched = Address.parse(stack.outputs["UploadUri"])
    place = watched if prefix is None else Address(watched.bucket, prefix).folder
    is_watched = place.prefix.startswith(watched.prefix)
    _upload(stack, place, [(name, path.read_bytes()) for name, path in photos], at_once=not is_watched)
    click.echo(f"{len(photos)} of {len(photos) + skipped} files are in {place}")
    if skipped:
        click.echo("the others are not named as photos and were left out")
    if is_watched:
        click.echo("see what becomes of them with: python -m operate --local watch")
    else:
        click.echo(f"classify them with: python -m operate --local batch start --prefix {place.prefix}")


def _upload(stack: Stack, place: Address, files: list[tuple[str, bytes]], *, at_once: bool = False) -> None:
    """Put photos there, no faster than this machine classifies them (each takes three processes) unless `at_once`."""
    s3, table = stack.client("s3"), _table(stack)
    in_hand = len(files) if at_once else max(8, 4 * (os.cpu_count() or 1))
    waiting: dict[str, float] = {}  # a photo's id in the table, and until when it is waited for
    with Progress(console=console, transient=True) as progress:
        for name, data in progress.track(files, description="uploading"):
            while len(waiting) >= in_hand:
                time.sleep(0.05)
                now = time.monotonic()
                waiting = {
                    photo: until for photo, until in waiting.items() if now < until and not _is_decided(table, photo)
                }
            key = place.prefix + name
            etag = s3.put_object(Bucket=place.bucket, Key=key, Body=data)["ETag"].strip('"')
            waiting[f"s3://{place.bucket}/{key}#{etag}"] = time.monotonic() + 60


def _table(stack: Stack) -> DecisionsTable:
    return DecisionsTable(stack.client("dynamodb"), stack.outputs["DecisionsTable"])


def _is_decided(table: DecisionsTable, photo: str) -> bool:
    decision = table.get(photo)
    return decision is not None and decision.status in OUTCOMES


def _read(stack: Stack) -> list[Decision]:
    return _table(stack).all()


@main.command(examples=[""])
def status() -> None:
    """Say what runs, where, and how many photos have which outcome."""
    stack = Stack.load()
    click.echo(f"local AWS   {stack.aws_url}\nendpoint    {stack.endpoint_url}")
    for name, value in sorted(stack.outputs.items()):
        click.echo(f"{name:<24}{value}")
    console.print(counts(_read(stack)))


@main.command(examples=["serialize events/serialize.json", "photo events/classify_photo.json"])
@click.argument("target", type=click.Choice(TARGETS))
@click.argument("event", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def invoke(target: str, event: Path) -> None:
    """Hand the sample EVENT to a function or a workflow, and print what comes out.

    The bucket amzn-s3-demo-bucket stands for the inbox; of an EventBridge event its detail is taken, as the rule does.
    """
    stack = Stack.load()
    try:
        given = json.loads(event.read_text().replace("amzn-s3-demo-bucket", stack.outputs["InboxBucket"]))
    except ValueError as damage:
        raise UserError(f"{event} is not a sample event in JSON: {damage}") from damage
    if "detail" in given:
        given = given["detail"]
    if target in FUNCTIONS:
        result, error = invoke_function(stack, FUNCTIONS[target], given)
    else:
        result, error = run_workflow(stack, WORKFLOWS[target], given)
    if error:
        raise UserError(error)
    click.echo(json.dumps(result, indent=2))


@main.command(examples=["inference", "aws --lines 200", "endpoint --follow"])
@click.argument("source", type=click.Choice([*LOGS, "aws", "endpoint"]), default="serialize")
@click.option("--lines", type=click.IntRange(1), default=50)
@click.option("--follow", is_flag=True, help="Go on printing what is logged, until Ctrl-C.")
def logs(source: str, lines: int, follow: bool) -> None:
    """Print the last log lines of a function, of the endpoint or of the local AWS."""
    stack = Stack.load()
    text = _log(stack, source)
    for line in text[-lines:]:
        click.echo(line)
    with suppress(KeyboardInterrupt):
        while follow:
            time.sleep(0.5)
            seen, text = len(text), _log(stack, source)
            for line in text[seen:]:
                click.echo(line)


def _log(stack: Stack, source: str) -> list[str]:
    if source not in LOGS:
        return (stack.folder / f"{source}.log").read_text().splitlines()
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(logGroupName=LOGS[source])
    return [event["message"].rstrip() for page in pages for event in page["events"]]


@main.command(examples=[""])
def down() -> None:
    """Stop everything. The inbox and the decisions are gone with it; logs and captures stay in .local."""
    any_ran = False
    for folder in (HOME, DEMO):  # and what a demonstration left that was killed
        with processes.locked(folder):
            if Stack(folder).down():
                any_ran = True
                click.echo(f"stopped the stack in {folder}; its inbox and decisions are gone")
    if not any_ran:
        click.echo("nothing was running")


@main.command(examples=["", "--archive cifar-100-python.tar.gz"])
@click.option("--archive", envvar="CIFAR100_ARCHIVE", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              show_envvar=True,
              help="CIFAR-100 archive to take test images from.")  # fmt: skip
@_up_options
def demo(archive: Path | None, **options: Any) -> None:
    """Bring the stack up, classify photos, show what became of each, and take the stack down."""
    photos = demo_photos.sample_photos()
    found = demo_photos.find_archive(archive)
    if found:
        photos += demo_photos.cifar_photos(found)
    else:
        click.echo("no CIFAR-100 archive at hand, so only the bundled samples; CIFAR100_ARCHIVE=FILE adds test images")
    chosen = _options(**options)
    with processes.locked(DEMO), _ended_in_order():
        shutil.rmtree(DEMO / "capture", ignore_errors=True)  # an earlier demonstration's
        stack = Stack.up(DEMO, chosen, click.echo)
        try:
            _upload(stack, Address.parse(stack.outputs["UploadUri"]), [(photo.name, photo.data) for photo in photos])
            deadline = time.monotonic() + 120
            decisions = watch(
                lambda: _read(stack),
                console,
                title="the demonstration's photos",
                every=0.2,
                until=lambda found: _all_decided(found, len(photos)) or time.monotonic() > deadline,
            )
        finally:
            stack.down()
    decisions.sort(key=lambda decision: decision.key)
    console.print(decisions_table(decisions, console.width))
    for line in reasons(decisions):
        click.echo(line)
    console.print(counts(decisions))
    if any(decision.status == "REVIEW" for decision in decisions):
        click.echo("some need a person: python -m local up --demo opens the page on which one decides")
    report = HOME / "decisions.json"
    report.write_text(json.dumps(msgspec.to_builtins(decisions), indent=2) + "\n")
    click.echo(f"decisions are in {report}, captured predictions in {DEMO / 'capture'}")
    outcomes = dict.fromkeys((photo.name for photo in photos), ("no outcome", ""))
    outcomes |= {Path(decision.key).name: (decision.status, decision.vehicle or "") for decision in decisions}
    wrong = [
        f"{photo.name}: {' '.join(outcomes[photo.name]).strip()}"
        for photo in photos
        if not photo.is_as_expected(*outcomes[photo.name])
    ]
    if wrong:
        raise UserError("not as expected: " + "; ".join(wrong))
    if found:
        click.echo(demo_photos.line_on_test_images(photos, outcomes))
    click.echo("every sample ended as expected")


def _all_decided(decisions: Sequence[Decision], expected: int) -> bool:
    return sum(decision.status in OUTCOMES for decision in decisions) >= expected


if __name__ == "__main__":
    main(prog_name="python -m local")
