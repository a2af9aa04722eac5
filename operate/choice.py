"""Which stack a command is for: the one named on the command line, looked up when the command runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import click

from stack.deployed import STACK_NAME, Deployed


@dataclass(frozen=True)
class Choice:
    """The stack of this machine, or one on AWS by name."""

    local: bool
    stack_name: str
    region: str | None
    # The command line as it was typed, up to where the stack is chosen.
    command: str

    def find(self) -> Deployed:
        """Look the stack up."""
        if self.local:
            return replace(Deployed.local(), command=f"{self.command} --local")
        chosen = "" if self.stack_name == STACK_NAME else f" --stack-name {self.stack_name}"
        chosen += f" --region {self.region}" if self.region else ""
        return replace(Deployed.find(self.stack_name, self.region), command=self.command + chosen)


def with_stack(command: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the chosen stack to a command as its first argument."""

    @click.pass_obj
    @wraps(command)
    def with_found(choice: Choice, *args: Any, **given: Any) -> Any:
        return command(choice.find(), *args, **given)

    return with_found
