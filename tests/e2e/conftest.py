"""A checkout of its own for each test run, with the environments that are installed already."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loading_bay.stack.template import ROOT

from .browser import find_chromium

MADE_HERE = re.compile(r"\.(aws-sam|coverage|hypothesis|local|tools|venv.*|.*_cache)|data|evaluation|report")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of every file that a clone would hold; `.venv` and `.tools` are this checkout's.

    A space in its path must not matter.
    """
    folder = tmp_path_factory.mktemp("checkout") / "loading bay"
    for name in _files_of_a_clone():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for environment in (".venv", ".tools"):
        (folder / environment).symlink_to(ROOT / environment)
    for pins in ("pyproject.toml", "requirements/lock.txt", "requirements/uv.txt"):
        os.utime(folder / pins, (0, 0))  # make must not install into this checkout's environment
    yield folder
    subprocess.run(
        [".venv/bin/loading-bay", "down"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
    )


def _files_of_a_clone() -> list[str]:
    """Return what git says or, in a copy without git, all but what is made here."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    ours = [entry for entry in ROOT.iterdir() if not MADE_HERE.fullmatch(entry.name)]
    inside = [file for entry in ours for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    return [str(file.relative_to(ROOT)) for file in inside if file.is_file() and "__pycache__" not in file.parts]


@pytest.fixture(scope="session")
def run(checkout: Path) -> Run:
    """Run a command in the checkout, as a user would."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    # The environment's own installation is of this checkout; PYTHONPATH puts the copy before it.
    env |= {"PATH": f"{checkout / '.venv/bin'}:{env['PATH']}", "PYTHONPATH": str(checkout), "COLUMNS": "120"}

    def run(*command: str, **more_env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=checkout,
            env=env | more_env,
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.fixture(scope="session")
def chromium_path() -> str:
    return find_chromium()
