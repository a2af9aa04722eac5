"""Every command line ends in one line where something refuses, and is one command from any folder."""

import os
import subprocess
import sys
from importlib import import_module
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

from loading_bay import main
from stack.commands import Commands, WritableFolder
from stack.errors import AWS_ERRORS
from stack.template import ROOT


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
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1/"), "start the local stack with: python -m local up"),
        (ConnectTimeoutError(endpoint_url="https://x"), "Connect timeout"),
        (PermissionError(13, "Permission denied", "/srv/report"), "/srv/report: Permission denied"),
        (FileNotFoundError(2, "No such file or directory", "gone.json"), "gone.json: No such file"),
    ],
)
def test_what_refuses_is_explained_in_one_line(error: Exception, said: str) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        """Hold a command."""

    @group.command()
    def work() -> None:
        """Fail."""
        raise error

    done = CliRunner().invoke(group, ["work"])

    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert said in done.output
    assert len(done.output.splitlines()) == 1


def test_a_mistake_of_our_own_is_not_explained_away() -> None:
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
    assert not list((tmp_path / "new" / "report").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("operate watch", "aws configure list-profiles"),
        ("training status", "aws configure list-profiles"),
        ("monitoring report s3://bucket/captures", "aws configure list-profiles"),
        ("monitoring report nothing", "nothing does not exist"),
        ("monitoring report events --decisions README.md", "is not a list of decisions"),
        ("monitoring report events --baseline README.md", "is not a baseline"),
        ("training stage --archive README.md", "not CIFAR-100's Python archive"),
        ("training stage --folder README.md", "is not a folder"),
        ("training evaluate --data README.md", "run python -m training stage first"),
        ("training transform nope --results s3://a/b", "is not an S3 address"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.chdir(tmp_path)
    for name in ("README.md", "events"):
        (tmp_path / name).symlink_to(ROOT / name)

    done = CliRunner().invoke(main, arguments.split())

    assert done.exit_code == 1, done.output
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def lines(arguments: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "loading_bay.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False)


def test_one_command_holds_every_room_from_any_folder(tmp_path: Path) -> None:
    helped = lines(["operate", "batch", "start", "-h"], tmp_path)

    assert helped.returncode == 0, helped.stderr
    assert "operate batch start --manifest photos.csv" in helped.stdout
    assert lines(["--version"], tmp_path).stdout == "Loading Bay 1.0.0\n"


@pytest.mark.parametrize("room", ["benchmarks", "local", "monitoring", "operate", "training"])
def test_every_room_s_own_command_says_what_it_does_and_which_version_it_is(room: str) -> None:
    command = import_module(f"{room}.__main__").main

    helped, version = (CliRunner().invoke(command, [option]) for option in ("-h", "--version"))

    assert (helped.exit_code, version.exit_code) == (0, 0)
    assert "Commands:" in helped.output
    assert version.output == "Loading Bay 1.0.0\n"


def test_make_installs_the_command_wherever_the_checkout_lies(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / "installed").touch()
    (checkout / "loading_bay.py").symlink_to(ROOT / "loading_bay.py")
    make = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/installed", ".venv/bin/loading-bay"]

    subprocess.run(make, cwd=checkout, check=True, capture_output=True)
    done = subprocess.run(
        [checkout / ".venv/bin/loading-bay", "--version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stdout == "Loading Bay 1.0.0\n", done.stderr


def test_a_room_is_loaded_only_when_it_is_asked_for(tmp_path: Path) -> None:
    program = "import sys, loading_bay; loading_bay.main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )

    loaded = set(done.stdout.split())
    assert {"local", "operate", "training", "monitoring"} <= loaded  # named in the help,
    assert not {"local.__main__", "operate.__main__", "training.__main__", "matplotlib", "numpy"} & loaded


def test_the_shell_completes_rooms_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str, last: int) -> list[str]:
        env = {"_LOADING_BAY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(last)}
        return [each.partition(",")[2] for each in lines([], tmp_path, **env).stdout.splitlines()]

    assert completed("loading-bay ", 1) == ["local", "operate", "training", "monitoring"]
    assert "watch" in completed("loading-bay operate ", 2)
    assert "--manifest" in completed("loading-bay operate batch start --m", 4)


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
    helped: Any = CliRunner().invoke(main, [*path, "-h"], prog_name="loading-bay", terminal_width=100)

    assert helped.exit_code == 0, helped.output
    assert "Examples:" in helped.output
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar:
            assert f"env var: {option.envvar}" in " ".join(helped.output.split())


def test_one_thing_has_one_name_in_every_command() -> None:
    """Options that other commands call differently."""
    other_names = {"--out", "--class-names", "--region-name", "--endpoint-name", "--folder-out", "--dest"}
    for path, command in EVERY:
        names = {name for param in command.params for name in param.opts}
        assert not names & other_names, path
