"""Every command reports an error in one line, and works from any folder."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)
from click.testing import CliRunner

from loading_bay.cli.commands import Commands, WritableFolder
from loading_bay.cli.main import COMMANDS, main
from loading_bay.stack.errors import AWS_ERRORS
from loading_bay.stack.template import ROOT


def refusal(code: str, message: str = "no") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Query")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            refusal("AccessDeniedException", "user/kim may not"),
            "AWS refused Query: AccessDeniedException: user/kim may",
        ),
        (refusal("ThrottlingException"), "try again in a minute"),
        (refusal("ExpiredTokenException"), "sign in again"),
        (NoCredentialsError(), "run aws configure, or set AWS_PROFILE"),
        (NoRegionError(), "give --region or set AWS_DEFAULT_REGION"),
        (ProfileNotFound(profile="work"), "aws configure list-profiles"),
        (EndpointConnectionError(endpoint_url="https://x"), "check the network and the region"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1/"), "start the local stack with: loading-bay up"),
        (ConnectTimeoutError(endpoint_url="https://x"), "Connect timeout"),
        (PermissionError(13, "Permission denied", "/srv/report"), "/srv/report: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "gone.json"), "gone.json: No such file"),
    ],
)
def test_a_refusal_is_explained_in_one_line(error: Exception, said: str) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        """A group of one command."""

    @group.command()
    def work() -> None:
        """Fail."""
        raise error

    done = CliRunner().invoke(group, ["work"])

    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def test_a_bug_is_not_reported_as_a_user_error() -> None:
    assert not issubclass(ValueError, AWS_ERRORS)


def test_an_unwritable_folder_is_noticed_before_the_work(tmp_path: Path) -> None:
    worked = []

    @click.command()
    @click.option("--output", type=WritableFolder())
    def work(output: Path) -> None:
        worked.append(output)

    (tmp_path / "file").write_text("in the way")
    refused = CliRunner().invoke(work, ["--output", str(tmp_path / "file" / "report")])
    taken = CliRunner().invoke(work, ["--output", str(tmp_path / "new" / "report")])

    assert "nothing can be written to" in refused.output
    assert taken.exit_code == 0
    assert worked == [tmp_path / "new" / "report"]
    assert not (tmp_path / "new" / "report").exists()  # nothing was written


def test_a_folder_that_was_written_to_or_was_there_before_stays(tmp_path: Path) -> None:
    @click.command()
    @click.option("--output", type=WritableFolder())
    def work(output: Path) -> None:
        if output.name == "written":
            (output / "file").touch()
        raise click.ClickException("failed")

    (tmp_path / "before").mkdir()
    for name in ("written", "before"):
        CliRunner().invoke(work, ["--output", str(tmp_path / name)])

    assert [each.name for each in sorted(tmp_path.iterdir())] == ["before", "written"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("watch", "aws configure list-profiles"),
        ("model status", "aws configure list-profiles"),
        ("report s3://bucket/captures", "aws configure list-profiles"),
        ("report nothing", "nothing does not exist"),
        ("report events --decisions README.md", "is not a list of decisions"),
        ("report events --baseline README.md", "is not a baseline"),
        ("model stage --archive README.md", "not CIFAR-100's Python archive"),
        ("model stage --folder README.md", "is not a folder"),
        ("model evaluate --data README.md", "run loading-bay model stage first"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.chdir(tmp_path)
    for name in ("README.md", "events"):
        (tmp_path / name).symlink_to(ROOT / name)

    done = CliRunner(mix_stderr=False).invoke(main, arguments.split())

    assert done.exit_code == 1, done.output
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def lines(arguments: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("loading-bay")), *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False)


def test_one_command_works_from_any_folder(tmp_path: Path) -> None:
    helped = lines(["batch", "start", "-h"], tmp_path)

    assert helped.returncode == 0, helped.stderr
    assert "loading-bay batch start --manifest photos.csv" in helped.stdout
    assert re.fullmatch(r"Loading Bay \d+\.\d+\.\d+\n", lines(["--version"], tmp_path).stdout)


def test_the_help_lists_every_command_without_importing_it() -> None:
    steps = ["import sys", "from loading_bay.cli.main import main", "main(['-h'], standalone_mode=False)"]
    steps.append("print(*sys.modules)")
    command = [sys.executable, "-c", "; ".join(steps)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True)

    *helped, loaded = done.stdout.splitlines()
    assert all(re.search(rf"^  {name} ", "\n".join(helped), re.MULTILINE) for name in COMMANDS)
    assert not {f"loading_bay.cli.{module}" for module, _ in COMMANDS.values()} & set(loaded.split())
    assert not {"matplotlib", "numpy"} & set(loaded.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_and_a_commands_help_agree(name: str) -> None:
    command = main.get_command(click.Context(main), name)

    assert command
    assert COMMANDS[name][1] == str(command.help).partition("\n")[0]


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str, last: int) -> list[str]:
        env = {"_LOADING_BAY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(last)}
        return [each.partition(",")[2] for each in lines([], tmp_path, **env).stdout.splitlines()]

    assert completed("loading-bay ", 1) == list(COMMANDS)
    assert "evaluate" in completed("loading-bay model ", 2)
    assert "--manifest" in completed("loading-bay batch start --m", 3)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


EVERY = commands(main)


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) for path, _ in EVERY])
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    helped: Any = CliRunner(mix_stderr=False).invoke(main, [*path, "-h"], prog_name="loading-bay", terminal_width=100)

    assert helped.exit_code == 0, helped.output
    assert "Examples:" in helped.output
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar:
            assert f"env var: {option.envvar}" in " ".join(helped.output.split())


def test_one_thing_has_one_name_in_every_command() -> None:
    """Options under names that differ from other commands."""
    other_names = {"--out", "--class-names", "--region-name", "--endpoint-name", "--folder-out", "--dest"}
    for path, command in EVERY:
        names = {name for param in command.params for name in param.opts}
        assert not names & other_names, path


ASCII_ONLY = """
import click
from rich.console import Console
from loading_bay.cli.commands import CommandLine
@click.group(cls=CommandLine)
def main(): pass
@main.command()
def work(): Console().print("Z\u00fcrich \u2026 38\u00a0% \u2713")
main(["work"])
"""


def test_a_terminal_of_ascii_alone_shows_the_closest_letters() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    done = subprocess.run(
        [sys.executable, "-c", ASCII_ONLY], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("Zurich ... 38 % ?\n", "")
