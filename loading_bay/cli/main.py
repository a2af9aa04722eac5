"""All commands by name; the module of a command is imported when the command runs."""

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import make

from .commands import CommandLine

# Section of the help → command → module and line of help.
SECTIONS = {
    "The stack on this machine": {
        "up": ("local", "Start the stack on this machine."),
        "down": ("local", "Stop everything on this machine."),
        "status": ("local", "Show the stack on this machine, and count its photos by outcome."),
        "logs": ("local", "Print the last log lines of the functions, the endpoint or the local AWS."),
        "env": ("local", "Print the variables that point other AWS tools at the stack on this machine."),
        "demo": ("local", "Start the stack, classify sample photos, show the outcomes, stop the stack."),
        "upload": ("local", "Upload photos to the inbox on this machine: files, and every photo in folders."),
        "invoke": ("local", "Run a function or a workflow on this machine with a sample event, and print the result."),
    },
    "Any stack": {
        "watch": ("operate", "Show the newest decisions, live."),
        "explain": ("operate", "Explain the outcome of a photo."),
        "batch": ("batch", "Classify many photos at once."),
        "replay": ("operate", "Run unfinished photos and messages again."),
        "review": ("review", "Decide the photos that the model was unsure of."),
        "reviewers": ("review", "Manage who may sign in to the review page."),
        "drivers": ("review", "Manage who may sign in to the drivers' page."),
        "presign": ("operate", "Sign an upload of one photo by DRIVER, and print its curl command."),
        "check": ("operate", "Prove that the stack works."),
        "erase": ("operate", "Erase the photos of DRIVER, and everything that was kept because of them."),
        "report": (
            "report",
            "Report on a stack, or on the captures in SOURCE: a folder, a file, or s3://bucket/prefix.",
        ),
    },
    "The model": {
        "model": ("model.group", "Train a model, evaluate it, and host it on a SageMaker endpoint."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyCommandLine(CommandLine):
    """A group that imports a command's module only when that command is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command.

        Raises:
            UserError: a package that it needs is not installed.
        """
        if cmd_name not in COMMANDS:
            return None
        try:
            module = import_module(f"loading_bay.cli.{COMMANDS[cmd_name][0]}")
        except ModuleNotFoundError as error:
            raise UserError(
                f"loading-bay {cmd_name} needs {error.name}, which is not installed: run {make('setup')}"
            ) from error
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, without importing them."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in section.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name, without importing it, or an option of the group."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        if names:
            return [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=LazyCommandLine)
def main() -> None:
    """Classify every delivery driver's photo as bicycle or motorcycle the moment it lands in S3.

    \b
    Shell completion, here for bash (or zsh_source, fish_source):
      eval "$(_LOADING_BAY_COMPLETE=bash_source loading-bay)"
    """  # noqa: D301 - click wants the backspace
