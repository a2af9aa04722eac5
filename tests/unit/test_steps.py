"""The steps of a long command, in a terminal and in a pipe."""

import io
import re

from rich.console import Console

from loading_bay.cli.steps import steps


def shown(console: Console) -> str:
    with steps(console) as begin:
        begin("sam build")
        begin("sam deploy")
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_terminal_shows_each_step_and_how_long_it_took() -> None:
    text = shown(Console(file=io.StringIO(), force_terminal=True, width=60))

    assert re.search(r"\+ sam build\s+\d+\.\d+ s", text)
    assert re.search(r"\+ sam deploy\s+\d+\.\d+ s", text)


def test_a_pipe_gets_one_line_per_step() -> None:
    assert shown(Console(file=io.StringIO())) == "sam build\nsam deploy\n"
