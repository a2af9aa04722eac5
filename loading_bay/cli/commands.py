"""The building blocks of every command: help with examples, shared options, and one line per error."""

import codecs
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec

from loading_bay.stack.deployed import STACK_NAME, Deployed
from loading_bay.stack.errors import AWS_ERRORS, UserError, describe
from loading_bay.stack.text import printable

AWS_VARIABLES = "Environment: AWS_PROFILE and AWS_DEFAULT_REGION select the account and region."


class Command(click.Command):
    """A command whose help ends with examples; `examples` leaves out the command's name."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*args, **more)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self._examples:
            with formatter.section("Examples"):
                for example in self._examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{ctx.command_path} {example}".rstrip() + "\n")


class Commands(click.Group):
    """A group whose commands report an AWS or file error in one clear line."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "show_default": True})
        super().__init__(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            UserError: replaces any AWS error, and the error of a file that cannot be read or written.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except AWS_ERRORS as error:
            operation = getattr(error, "operation_name", None)
            raise UserError(f"AWS refused {operation}: {describe(error)}" if operation else describe(error)) from error
        except OSError as error:
            if error.filename is None:
                raise
            raise UserError(f"{error.filename}: {error.strerror}") from error


class CommandLine(Commands):
    """The group at the top of a command line."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, epilog=AWS_VARIABLES, **more)
        show = click.version_option(version("loading-bay"), prog_name="Loading Bay", message="%(prog)s %(version)s")
        show(self)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run the command line; a terminal that lacks a character shows its closest letters."""
        codecs.register_error("closest", _closest)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="closest")
        return super().main(*args, **more)


def _closest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = unicodedata.normalize("NFKD", error.object[error.start : error.end]).encode("ascii", "ignore").decode()
    return letters or "?", error.end


class WritableFolder(click.ParamType):
    """A folder to write into, created and tested before the work begins; it is removed if it is empty afterwards."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder.

        Raises:
            click.BadParameter: the folder is not writable.
        """
        folder = Path(value)
        new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            self.fail(f"nothing can be written to {folder}: {error.strerror}", param, ctx)
        if new and ctx is not None:
            ctx.call_on_close(partial(_remove_empty, folder))
        return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty
        folder.rmdir()


region_option = click.option("--region", help="AWS region.  [default: the configured region]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def stack_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a stack: --local, --stack-name and --region."""
    stack_name = click.option(
        "--stack-name", default=STACK_NAME, envvar="LOADING_BAY_STACK", show_envvar=True, help="A stack on AWS."
    )
    local = click.option("--local", is_flag=True, help="The stack on this machine (loading-bay up).")
    return local(stack_name(region_option(command)))


def with_stack(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a stack, and pass the stack itself as the first argument."""

    @wraps(command)
    def with_found(*args: Any, local: bool, stack_name: str, region: str | None, **given: Any) -> Any:
        return command(find_stack(local, stack_name, region), *args, **given)

    return stack_options(with_found)


def find_stack(local: bool, stack_name: str, region: str | None) -> Deployed:
    """Return the stack that the options name; hints for this stack repeat the options."""
    if local:
        return replace(Deployed.local(), options=("--local",))
    named = () if stack_name == STACK_NAME else ("--stack-name", stack_name)
    placed = ("--region", region) if region else ()
    return replace(Deployed.find(stack_name, region), options=(*named, *placed))


def say(text: str, *, err: bool = False) -> None:
    """Print one line, whose text may come from outside."""
    click.echo(printable(text), err=err)


def echo_json(value: Any) -> None:
    """Print a value as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))
