"""Every command of the pages that needs no AWS account runs, in their order, against one local stack."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loading_bay.stack.template import ROOT

from .conftest import Run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What brings the stack up and down, which is the fixture's part, what stays until Ctrl-C, and what other tests run.
LEFT_OUT = re.compile(r"loading-bay (up|down|demo|check|model|report)\b")
# Commands for any stack; the others are for this machine alone.
ANY_STACK = re.compile(r"loading-bay (watch|explain|replay|presign|(batch|review|reviewers) [a-z]+)")
STANDS_FOR = {
    "PHOTO": "uploads/photos/bicycle-road.jpg",
    "KEY": "uploads/photos/bicycle-road.jpg",
    "VEHICLE": "bicycle",
    "DRIVER": "driver-7",
    "NAME": "march",
    "--stack-name loading-bay-prod": "",
    " --follow": "",
    "loading-bay watch": "loading-bay watch --once",
}


def shown() -> dict[str, str]:
    """Return each command of ours that a page shows, with what the page says after it."""
    found: dict[str, str] = {}
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command, _, comment = line.partition("#")
                if command.startswith("loading-bay ") and not LEFT_OUT.search(command):
                    found.setdefault(command.strip(), comment.strip())
    return found


@pytest.fixture(scope="module")
def stack(run: Run, checkout: Path) -> Iterator[None]:
    """Bring a stack up with all that the pages speak of: photos here and in the inbox, a batch, a list of photos."""
    up = run("loading-bay", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    shutil.copy(checkout / "events/photos/bicycle-road.jpg", checkout / "photo.jpg")
    shutil.copytree(checkout / "events/photos", checkout / "folder", dirs_exist_ok=True)
    (checkout / "photos.csv").write_text("s3_key\nbackfill/2026/photo.jpg\n")
    assert run("loading-bay", "upload", "--prefix", "backfill/2026/", "photo.jpg").returncode == 0
    assert run("loading-bay", "upload", "events/photos").returncode == 0
    for _ in range(60):  # the last of the samples is decided
        if len(run("loading-bay", "watch", "--local", "--once").stdout.splitlines()) >= 11:
            break
    batch = "loading-bay batch start --local --manifest photos.csv --name march --wait"
    assert run(*batch.split()).returncode == 0
    yield
    run("loading-bay", "down")


@pytest.mark.parametrize(("command", "comment"), shown().items(), ids=shown())
@pytest.mark.usefixtures("stack")
def test_a_command_of_the_pages_works(run: Run, command: str, comment: str) -> None:
    for word, meant in STANDS_FOR.items():
        command = command.replace(word, meant)
    if "--local" not in command:
        command = ANY_STACK.sub(r"\g<0> --local", command, count=1)

    done = run("sh", "-c", command)

    fails = re.match(r"fails: (\w+)", comment)
    assert (done.returncode != 0) == bool(fails), done.stdout + done.stderr
    assert fails is None or fails[1] in done.stderr
    assert "Traceback" not in done.stderr
    assert "ALREADY_CLAIMED" not in done.stdout


def test_the_pages_show_commands() -> None:
    assert len(shown()) > 15
