"""A checkout of its own for each test run, with the environments that are installed already."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.template import ROOT

from .browser import find_chromium

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of every file that a clone would hold; `.venv` and `.tools` are this checkout's.

    A space in its path must not matter.
    """
    folder = tmp_path_factory.mktemp("checkout") / "loading bay"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for environment in (".venv", ".tools"):
        (folder / environment).symlink_to(ROOT / environment)
    yield folder
    subprocess.run([".venv/bin/python", "-m", "local", "down"], cwd=folder, check=False, capture_output=True)


@pytest.fixture(scope="session")
def run(checkout: Path) -> Run:
    """Run a command in the checkout, as a user would."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    env |= {"PATH": f"{checkout / '.venv/bin'}:{env['PATH']}", "COLUMNS": "120"}

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
