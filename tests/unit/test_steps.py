"""The steps of a long command, in a terminal and in a pipe."""

import io
import re

from rich.console import Console

from loading_bay.cli.steps import steps


def shown(console: Console, clock: list[float]) -> str:
    with steps(console) as begin:
        begin("sam build")
        clock[0] += 3
        begin("sam deploy")
        clock[0] += 4
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


def test_a_terminal_shows_each_step_and_how_long_it_took() -> None:
    clock = [0.0]

    text = shown(Console(file=io.StringIO(), force_terminal=True, width=60, get_time=lambda: clock[0]), clock)

    assert re.findall(r"\+ sam build\s+(\d+\.\d+ s)", text)[-1] == "3.0 s"
    assert re.findall(r"\+ sam deploy\s+(\d+\.\d+ s)", text)[-1] == "4.0 s"


def test_a_pipe_gets_one_line_per_step() -> None:
    assert shown(Console(file=io.StringIO()), [0.0]) == "sam build\nsam deploy\n"
