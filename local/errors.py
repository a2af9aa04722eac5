"""What can go wrong on this machine, said in one line that tells what to do."""

import click


class LocalError(click.ClickException):
    """A failure that the user can mend; the message says how."""
