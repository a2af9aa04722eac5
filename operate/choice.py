"""Which stack a command is for: the one named on the command line, looked up when the command runs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from stack.deployed import Deployed


@dataclass(frozen=True)
class Choice:
    """The stack of this machine, or one on AWS by name."""

    local: bool
    stack_name: str
    region: str | None

    def find(self) -> Deployed:
        """Look the stack up."""
        return Deployed.local() if self.local else Deployed.find(self.stack_name, self.region)


def with_stack(command: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the chosen stack to a command as its first argument."""

    @click.pass_obj
    @wraps(command)
    def with_found(choice: Choice, *args: Any, **given: Any) -> Any:
        return command(choice.find(), *args, **given)

    return with_found
