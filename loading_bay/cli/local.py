"""Commands for the stack on this machine: up, down, status, logs, env, demo, upload, invoke."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from functions.decisions.decision import OUTCOMES, Decision
from functions.decisions.table import DecisionsTable
from loading_bay.local import photos as demo_photos
from loading_bay.local import processes
from loading_bay.local.invocation import invoke_function, run_workflow
from loading_bay.local.stack import HOME, MODEL, Options, Stack
from loading_bay.operations.watch import counts, decisions_table, reasons, watch
from loading_bay.stack.addresses import Address
from loading_bay.stack.decisions import all_decisions
from loading_bay.stack.deployed import STACK_NAME
from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import command
from loading_bay.stack.text import duration

from .commands import Command, echo_json, json_option, say
from .steps import steps

DEMO = HOME / "demo"
DEMO_SECONDS = 600  # ten times as long as a busy machine needs
FUNCTIONS = {"serialize": "SerializeFunction", "inference": "InferenceFunction", "threshold": "ThresholdFunction"}
WORKFLOWS = {"photo": "StateMachineArn", "batch": "BatchStateMachineArn"}
# Source of log lines → name of the function in the functions' log.
LOGS = {"functions": "", **{name: f"{name.title()}Function" for name in (*FUNCTIONS, "review", "driver")}}

console = Console(highlight=False)


def up_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for starting a stack; read them with `read_options`."""
    model = click.option(
        "--model",
        type=click.Path(path_type=Path, dir_okay=False),
        default=MODEL,
        help="ONNX model behind the endpoint.  [default: the shipped model]",
    )
    captured = click.option(
        "--capture-percentage",
        type=click.IntRange(0, 100),
        default=100,
        help="Percentage of the endpoint's calls to capture.",
    )
    parameters = click.option(
        "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Template parameter; repeatable."
    )
    return parameters(captured(model(command)))


def read_options(model: Path, capture_percentage: int, parameters: Sequence[str]) -> Options:
    """Return the options for starting a stack.

    Raises:
        UserError: a parameter lacks its value.
    """
    wrong = [parameter for parameter in parameters if "=" not in parameter]
    if wrong:
        raise UserError(f"--parameter needs NAME=VALUE, not {wrong[0]}")
    chosen = dict(parameter.split("=", 1) for parameter in parameters)
    return Options(model=model.resolve(), capture_percentage=capture_percentage, parameters=chosen)


@click.command(
    cls=Command,
    examples=["", "--demo", "--parameter ConfidenceThreshold=0.95", "--model data/model/model.onnx"],
)
@click.option("--demo", "with_samples", is_flag=True, help="Upload the sample photos for review, and open both pages.")
@up_options
def up(with_samples: bool, **options: Any) -> None:
    """Start the stack on this machine.

    Starts the local AWS and the endpoint, then builds and deploys the template. A running stack stays as it is.
    """
    chosen = read_options(**options)
    if with_samples:  # no photo reaches a threshold of 1, so all need review
        chosen = replace(chosen, parameters={"ConfidenceThreshold": "1", **chosen.parameters})
    with processes.locked(HOME), unwinding_at_signals():
        stack = Stack.find()
        if stack:
            click.echo(f"a local stack is already running; to start another, first run: {command('down')}")
        else:
            stack = _start(HOME, chosen)
    click.echo("\nTo use it with other AWS tools:\n")
    _print_exports(stack)
    click.echo(f"\naws s3 cp photo.jpg {stack.outputs['UploadUri']}")
    for words in (("upload", "photo.jpg"), ("watch", "--local"), ("down",)):
        click.echo(command(*words))
    if with_samples:
        samples = enumerate(demo_photos.sample_photos(), 1)
        files = {f"driver-{number}/{photo.name}": photo.data for number, photo in samples}
        _upload(stack, Address.parse(stack.outputs["UploadUri"]), files)
    for title, output, group in (("Review page", "ReviewUrl", "reviewers"), ("Drivers' page", "DriverUrl", "drivers")):
        if page := stack.outputs.get(output):
            person = stack.people[group]
            click.echo(f"\n{title}: {page}\nsign in as {person['name']} with the password {person['password']}")
            if with_samples and console.is_terminal:
                click.launch(page)


def _start(folder: Path, options: Options) -> Stack:
    began = time.monotonic()
    with steps(console) as begin:
        stack = Stack.up(folder, options, begin)
    click.echo(f"stack {STACK_NAME} is up after {duration(time.monotonic() - began)}")
    return stack


@contextmanager
def unwinding_at_signals() -> Iterator[None]:
    """Let SIGHUP and SIGTERM unwind the block like Ctrl-C, so everything is cleaned up."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)  # a shell that ends may send more than one
        sys.exit(128 + number)

    wanted = (signal.SIGHUP, signal.SIGTERM)
    handled = {each: signal.signal(each, end) for each in wanted if signal.getsignal(each) != signal.SIG_IGN}
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


@click.command(cls=Command, examples=["", "--unset"])
@click.option("--unset", is_flag=True, help="Print the command that removes these variables again.")
@json_option
def env(unset: bool, as_json: bool) -> None:
    """Print the variables that point other AWS tools at the stack on this machine.

    In a shell: eval "$(loading-bay env)".
    """
    if unset:
        click.echo(f"unset {' '.join(_exports(Stack(HOME)))}")
    elif as_json:
        echo_json(_exports(Stack.load()))
    else:
        _print_exports(Stack.load())


@click.command(cls=Command, examples=["photo.jpg", "events/photos", "--prefix backfill/2026/ folder/"])
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--prefix",
    help="Prefix in the inbox; outside the default, photos wait for a batch.  [default: the stack's UploadPrefix]",
)
def upload(paths: tuple[Path, ...], prefix: str | None) -> None:
    """Upload photos to the inbox on this machine: files, and every photo in folders.

    Photos are recognised by content or suffix; hidden and empty files are left out.
    """
    stack = Stack.load()
    photos, left_out = demo_photos.photos_below(paths)
    watched = Address.parse(stack.outputs["UploadUri"])
    place = watched if prefix is None else Address(watched.bucket, prefix).folder
    is_watched = place.prefix.startswith(watched.prefix)
    _upload(stack, place, photos, at_once=not is_watched)
    click.echo(f"{len(photos)} of {len(photos) + left_out.total()} files are in {place}")
    if left_out:
        click.echo("left out: " + ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()))
    if is_watched:
        click.echo(f"watch the outcomes with: {command('watch', '--local')}")
    else:
        click.echo(f"classify them with: {command('batch', 'start', '--local', '--prefix', place.prefix)}")


def _upload(stack: Stack, place: Address, files: Mapping[str, Path | bytes], *, at_once: bool = False) -> None:
    """Upload photos at the pace of this machine, or all `at_once`: each photo in flight starts more processes."""
    s3, table = stack.client("s3"), _table(stack)
    in_hand = len(files) if at_once else max(2, os.cpu_count() or 1)
    waiting: dict[str, float] = {}  # a photo's name in the table, and the end of the wait for it
    with Progress(console=console, transient=True) as progress:
        for name, file in progress.track(files.items(), description="uploading"):
            while len(waiting) >= in_hand:
                time.sleep(0.1)
                now = time.monotonic()
                waiting = {
                    photo: until for photo, until in waiting.items() if now < until and not _is_decided(table, photo)
                }
            key, data = place.prefix + name, file.read_bytes() if isinstance(file, Path) else file
            etag = s3.put_object(Bucket=place.bucket, Key=key, Body=data)["ETag"].strip('"')
            waiting[f"s3://{place.bucket}/{key}#{etag}"] = time.monotonic() + 60


def _table(stack: Stack) -> DecisionsTable:
    return DecisionsTable(stack.client("dynamodb"), stack.outputs["DecisionsTable"])


def _is_decided(table: DecisionsTable, photo: str) -> bool:
    decision = table.get(photo)
    return decision is not None and decision.status in OUTCOMES


@click.command(cls=Command, examples=["", "--json"])
@json_option
def status(as_json: bool) -> None:
    """Show the stack on this machine, and count its photos by outcome."""
    stack = Stack.load()
    decisions = all_decisions(_table(stack))
    if as_json:
        tally = {name: sum(decision.status == name for decision in decisions) for name in sorted(OUTCOMES)}
        echo_json({"aws": stack.aws_url, "endpoint": stack.endpoint_url, "outputs": stack.outputs, "photos": tally})
        return
    click.echo(f"local AWS   {stack.aws_url}\nendpoint    {stack.endpoint_url}")
    for name, value in sorted(stack.outputs.items()):
        click.echo(f"{name:<24}{value}")
    console.print(counts(decisions))


@click.command(cls=Command, examples=["serialize events/serialize.json", "photo events/classify_photo.json"])
@click.argument("target", type=click.Choice([*FUNCTIONS, *WORKFLOWS]))
@click.argument("event", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def invoke(target: str, event: Path) -> None:
    """Run a function or a workflow on this machine with a sample event, and print the result.

    The bucket amzn-s3-demo-bucket stands for the inbox. Only the detail of an EventBridge event is passed on, as by the
    rule.
    """
    stack = Stack.load()
    try:
        given = json.loads(event.read_text().replace("amzn-s3-demo-bucket", stack.outputs["InboxBucket"]))
    except ValueError as damage:
        raise UserError(f"{event} is not a sample event in JSON: {damage}") from damage
    if isinstance(given, dict) and "detail" in given:
        given = given["detail"]
    if target in FUNCTIONS:
        result, error = invoke_function(stack, FUNCTIONS[target], given)
    else:
        result, error = run_workflow(stack, WORKFLOWS[target], given)
    if error:
        raise UserError(error)
    click.echo(json.dumps(result, indent=2))


@click.command(cls=Command, examples=["inference", "aws --lines 200", "endpoint --follow"])
@click.argument("source", type=click.Choice([*LOGS, "aws", "endpoint"]), default="functions")
@click.option("--lines", type=click.IntRange(1), default=50, help="Number of lines.")
@click.option("--follow", is_flag=True, help="Keep printing new lines until Ctrl-C.")
def logs(source: str, lines: int, follow: bool) -> None:
    """Print the last log lines of the functions, the endpoint or the local AWS."""
    stack = Stack.load()
    text = _log(stack, source)
    for line in text[-lines:]:
        say(line)
    with suppress(KeyboardInterrupt):
        while follow:
            time.sleep(0.5)
            seen, text = len(text), _log(stack, source)
            for line in text[seen:]:
                say(line)


def _log(stack: Stack, source: str) -> list[str]:
    if source not in LOGS:
        return (stack.folder / f"{source}.log").read_text(errors="replace").rstrip("\n").split("\n")
    group = stack.outputs["FunctionLogs"]
    pages = stack.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"].rstrip() for page in pages for event in page["events"] if LOGS[source] in event["message"]]


@click.command(cls=Command, examples=[""])
def down() -> None:
    """Stop everything on this machine.

    The inbox and the decisions are deleted; logs and captures stay in .local.
    """
    any_ran = False
    for folder in (HOME, DEMO):  # and remains of a demo that was killed
        with processes.locked(folder):
            if Stack(folder).down():
                any_ran = True
                click.echo(f"stopped the stack in {folder} and deleted its inbox and decisions")
    if not any_ran:
        click.echo("nothing was running")


@click.command(cls=Command, examples=["", "--archive cifar-100-python.tar.gz"])
@click.option(
    "--archive",
    envvar="CIFAR100_ARCHIVE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    show_envvar=True,
    help="CIFAR-100 archive with test images.",
)
@up_options
def demo(archive: Path | None, **options: Any) -> None:
    """Start the stack, classify sample photos, show the outcomes, stop the stack."""
    photos = demo_photos.sample_photos()
    images = demo_photos.find_archive(archive)
    if images:
        photos += demo_photos.cifar_photos(images)
    else:
        click.echo("no CIFAR-100 archive found: the demo uses the bundled samples (CIFAR100_ARCHIVE=FILE adds images)")
    chosen = read_options(**options)
    with processes.locked(DEMO), unwinding_at_signals():
        decisions = sorted(_run_demo(chosen, photos), key=lambda decision: decision.key)
    _show_demo(decisions)
    outcomes = {Path(decision.key).name: (decision.status, decision.vehicle or "") for decision in decisions}
    if wrong := demo_photos.judge(photos, outcomes):
        raise UserError("unexpected: " + "; ".join(wrong))
    if images:
        click.echo(demo_photos.misrouted_test_images(photos, outcomes))
    click.echo("every sample ended as expected")


def _run_demo(options: Options, photos: Sequence[demo_photos.DemoPhoto]) -> list[Decision]:
    shutil.rmtree(DEMO / "capture", ignore_errors=True)  # from an earlier demo
    stack = _start(DEMO, options)
    try:
        began = time.monotonic()
        place = Address.parse(stack.outputs["UploadUri"])
        _upload(stack, place, {photo.name: photo.data for photo in photos})

        def is_over(decisions: Sequence[Decision]) -> bool:
            decided = sum(decision.status in OUTCOMES for decision in decisions)
            return decided >= len(photos) or time.monotonic() > began + DEMO_SECONDS

        read = partial(all_decisions, _table(stack))
        decisions = watch(read, console, title="the demo's photos", every=0.2, until=is_over)
        click.echo(f"{len(decisions)} photos are classified after {duration(time.monotonic() - began)}")
        return decisions
    finally:
        with steps(console) as begin:
            begin("stop")
            stack.down()


def _show_demo(decisions: Sequence[Decision]) -> None:
    console.print(decisions_table(decisions, console.width))
    for line in reasons(decisions):
        click.echo(line)
    console.print(counts(decisions))
    click.echo(f"{command('up', '--demo')} opens the pages where drivers send photos and reviewers decide")
    file = HOME / "decisions.json"
    file.write_text(json.dumps(msgspec.to_builtins(decisions), indent=2) + "\n")
    click.echo(f"decisions are in {file}, captured predictions in {DEMO / 'capture'}")
