"""Every command of the project under one name: loading-bay, from any folder."""

from importlib import import_module

import click

from stack.commands import CommandLine
from stack.errors import UserError

# Room → what its commands are for; a room is imported when one of its commands is asked for.
ROOMS = {
    "local": "The whole stack on this machine.",
    "operate": "A deployed stack: watch, batches, replay, review.",
    "training": "The model: from labelled photos to a monitored endpoint.",
    "monitoring": "What the model has been doing: a report.",
}


class Rooms(CommandLine):
    """The groups of commands, one a room."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the rooms' names."""
        return list(ROOMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a room's group of commands.

        Raises:
            UserError: what the room needs is not installed.
        """
        if cmd_name not in ROOMS:
            return None
        try:
            room: click.Command = import_module(f"{cmd_name}.__main__").main
        except ModuleNotFoundError as error:
            raise UserError(f"{cmd_name} needs {error.name}, which is not installed: run make setup") from error
        return room

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the rooms with what they are for, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(ROOMS.items()))


@click.group(cls=Rooms)
def main() -> None:
    """Classify every delivery driver's photo as bicycle or motorcycle the moment it lands in S3.

    \b
    Completion in your shell, here bash (or zsh_source, fish_source):
      eval "$(_LOADING_BAY_COMPLETE=bash_source loading-bay)"
    """  # noqa: D301 - click wants the backspace


if __name__ == "__main__":
    main(prog_name="loading-bay")
