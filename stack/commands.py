"""What every command line is made of: help with examples, -h, --version, one line for what went wrong."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .errors import AWS_ERRORS, UserError, describe
from .template import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
AWS_VARIABLES = "Environment: AWS_PROFILE and AWS_DEFAULT_REGION select the account and region."


class Command(click.Command):
    """A command whose help ends with examples, each given without the command's own name."""

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
    """A group whose commands end in one clear line where AWS or a file refuses."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "show_default": True})
        super().__init__(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            UserError: in place of any error of AWS's, and of a file that cannot be read or written.
        """
        try:
            return super().invoke(ctx)
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
        version = click.version_option(VERSION, prog_name="Loading Bay", message="%(prog)s %(version)s")
        version(self)


class WritableFolder(click.ParamType[Path]):
    """A folder to write into, made and tried before the work begins rather than after it."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder.

        Raises:
            click.BadParameter: nothing can be written there.
        """
        folder = Path(value)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            self.fail(f"nothing can be written to {folder}: {error.strerror}", param, ctx)
        return folder


region_option = click.option("--region", help="AWS region.  [default: the configured one]")
