"""The click group that every command line is made of."""

from typing import Any

import click

from .errors import AWS_ERRORS, UserError, describe


class Commands(click.Group):
    """A group whose commands end in one clear line when AWS refuses a call."""

    group_class = type

    def __init__(self, *args: Any, **more: Any) -> None:
        more.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "show_default": True})
        super().__init__(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            UserError: in place of any error of AWS's.
        """
        try:
            return super().invoke(ctx)
        except AWS_ERRORS as error:
            operation = getattr(error, "operation_name", None)
            raise UserError(f"AWS refused {operation}: {describe(error)}" if operation else describe(error)) from error
