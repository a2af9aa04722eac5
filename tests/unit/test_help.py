"""Every command of every command line explains itself."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from local.__main__ import main as local
from monitoring.__main__ import main as monitoring
from operate.__main__ import main as operate
from training.__main__ import main as training

LINES = {"local": local, "monitoring": monitoring, "operate": operate, "training": training}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("line", LINES)
def test_every_command_says_what_it_does_and_what_it_takes(line: str) -> None:
    found = list(commands(LINES[line]))

    assert found
    for path in found:
        explained = CliRunner().invoke(LINES[line], [*path, "--help"])
        assert explained.exit_code == 0, explained.output
        assert "Usage:" in explained.output, path
        assert len(explained.output.split()) > 12, path
