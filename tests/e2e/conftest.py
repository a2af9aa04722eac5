"""A separate checkout for each test run, with the environments that are already installed."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from loading_bay.stack.template import ROOT

from .browser import MISSING, find_chromium

MADE_HERE = re.compile(r"\.(aws-sam|coverage|hypothesis|local|tools|venv.*|.*_cache)|data|evaluation|report")
Run = Callable[..., subprocess.CompletedProcess[str]]
Running = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]
SECONDS = 600  # more than the slowest command takes on a busy machine


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of every file in a clone; `.venv` and `.tools` are those of this checkout.

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
    """Return the files that git knows or, in a copy without git, all files except generated ones."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    ours = [entry for entry in ROOT.iterdir() if not MADE_HERE.fullmatch(entry.name)]
    inside = [file for entry in ours for file in (entry.rglob("*") if entry.is_dir() else [entry])]
    return [str(file.relative_to(ROOT)) for file in inside if file.is_file() and "__pycache__" not in file.parts]


@pytest.fixture(scope="session")
def environment(checkout: Path) -> dict[str, str]:
    """Return the variables of a user of the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    # The environment has this checkout installed; PYTHONPATH puts the copy before it.
    return env | {"PATH": f"{checkout / '.venv/bin'}:{env['PATH']}", "PYTHONPATH": str(checkout), "COLUMNS": "120"}


@pytest.fixture(scope="session")
def run(checkout: Path, environment: dict[str, str]) -> Run:
    """Run a command in the checkout, as a user would."""

    def run(*command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=checkout,
            env=environment | more,
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    return run


@pytest.fixture(scope="session")
def running(checkout: Path, environment: dict[str, str]) -> Running:
    """Run a command in its own session, and enter the block when a line of its output matches."""

    @contextmanager
    def running(*command: str, until: str) -> Iterator["subprocess.Popen[str]"]:
        # A shell's background job ignores SIGINT, a job under nohup SIGHUP, and children inherit that.
        inherited = {
            each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
        }
        process = subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for each, handler in inherited.items():
            signal.signal(each, handler)
        assert process.stdout
        said = ""
        too_late = threading.Timer(SECONDS, process.kill)
        too_late.start()
        try:
            for line in process.stdout:
                said += line
                if re.search(until, line):
                    break
            else:
                pytest.fail(f"{command} never said {until!r}:\n{said}")
            yield process
        finally:
            too_late.cancel()
            if process.poll() is None:
                process.kill()
            process.communicate()

    return running


@pytest.fixture(scope="session")
def chromium_path() -> str:
    return find_chromium()


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    # Chromium does not run its sandbox as root.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def contexts(browser: Browser) -> Iterator[list[BrowserContext]]:
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        context.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End with the number of tests without a browser, and the command that installs one."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = [each for each in reporter.stats.get("skipped", []) if MISSING in str(each.longrepr)] if reporter else []
    if skipped:
        print(f"{len(skipped)} tests were skipped: {MISSING}")
