"""make demo in a fresh clone, and everything that can end it early."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loading_bay.local import processes
from loading_bay.model.dataset import read_cifar

from .conftest import Run, Running

LOADING_BAY = "loading-bay"


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of processes that run in a folder, or name it."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if f"{folder}/.local" in line or f"{folder}/functions" in line]


def assert_nothing_is_left(checkout: Path) -> None:
    assert processes_in(checkout) == []
    assert not (checkout / ".local/demo/run").exists()
    assert not (checkout / ".local/demo/stack.json").exists()


def test_the_demo_classifies_every_sample_as_expected_and_leaves_nothing_behind(run: Run, checkout: Path) -> None:
    done = run("make", "demo")  # with test images too, where CIFAR100_ARCHIVE names an archive

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every sample ended as expected" in done.stdout
    expected = json.loads((checkout / "events" / "photos" / "expected.json").read_text())
    decisions = json.loads((checkout / ".local" / "decisions.json").read_text())
    by_name = {Path(decision["s3_key"]).name: decision for decision in decisions}
    assert set(expected) <= set(by_name)
    assert len(decisions) == len(expected) + (12 if "CIFAR100_ARCHIVE" in os.environ else 0)
    if "CIFAR100_ARCHIVE" in os.environ:
        test = read_cifar(Path(os.environ["CIFAR100_ARCHIVE"]), ("bicycle", "motorcycle")).test
        labels = {photo.name: photo.label for photo in test if photo.name in by_name}
        wrong = [name for name, label in labels.items() if by_name[name].get("vehicle") not in (label, None)]
        assert f"of 12 test images the model sent {len(wrong) or 'none'} to the wrong bay" in done.stdout
    for name, outcome in expected.items():
        assert by_name[name]["status"] in outcome["statuses"]
        assert name in done.stdout
    routed = [decision for decision in decisions if decision["status"] == "ROUTED"]
    assert {decision["vehicle"] for decision in routed} == {"bicycle", "motorcycle"}
    for decision in routed:
        assert decision["bay"] == {"bicycle": "1", "motorcycle": "2"}[decision["vehicle"]]
        assert decision["confidence"] >= 0.9
    asked = [decision for decision in decisions if "probabilities" in decision]
    captured = [line for file in (checkout / ".local/demo/capture").rglob("*.jsonl") for line in file.open()]
    assert len(captured) == len(asked)
    traced = {json.loads(line)["eventMetadata"]["inferenceId"] for line in captured}
    assert traced == {decision["claim"] for decision in asked}
    report = (checkout / ".local/report/report.html").read_text()
    assert "What has the model been doing?" in report
    unsure = min(asked, key=lambda decision: decision["confidence"])
    assert f">{unsure['s3_key']}</p>" in report  # the gallery names the photo, not only its capture
    assert_nothing_is_left(checkout)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_ctrl_c_a_closed_terminal_or_a_request_to_end_leaves_nothing_behind(
    running: Running, checkout: Path, number: signal.Signals, code: int
) -> None:
    with running(LOADING_BAY, "demo", until="sam build") as demo:
        # Like a terminal: to the command and its children.
        os.killpg(demo.pid, number)
        assert demo.wait(timeout=120) == code

    assert_nothing_is_left(checkout)


def test_down_stops_the_remains_of_a_killed_demo_and_no_other_process(
    run: Run, running: Running, checkout: Path
) -> None:
    with running(LOADING_BAY, "demo", until="sam build") as demo:
        demo.kill()
    folder = checkout / ".local"
    command = [sys.executable, "-c", "input()", str(folder / "aws.log")]
    stranger = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE)
    (folder / "stack.json").write_text(f'{{"pids": {{"aws": {stranger.pid}, "endpoint": {stranger.pid}}}}}')
    assert processes.of_stack(folder / "demo")
    try:
        assert "stopped" in run(LOADING_BAY, "down").stdout

        assert psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        stranger.communicate(b"")
    assert_nothing_is_left(checkout)


def test_make_clean_stops_everything_and_removes_generated_files(run: Run, running: Running, checkout: Path) -> None:
    with running(LOADING_BAY, "up", until="sam build") as up:
        up.kill()
    assert processes.of_stack(checkout / ".local")
    installed = {name: (checkout / name).readlink() for name in (".venv", ".tools")}
    try:
        done = run("make", "clean")

        assert done.returncode == 0, done.stdout + done.stderr
        assert processes_in(checkout) == []
        assert not [name for name in (".local", ".aws-sam", *installed) if (checkout / name).exists()]
    finally:
        for name, target in installed.items():
            (checkout / name).unlink(missing_ok=True)
            (checkout / name).symlink_to(target)


def test_a_folder_that_cannot_be_written_gets_one_line(run: Run, checkout: Path) -> None:
    (checkout / ".local").mkdir(exist_ok=True)
    (checkout / ".local").rename(checkout / ".elsewhere")
    (checkout / ".local").touch()
    try:
        up = run(LOADING_BAY, "up")
    finally:
        (checkout / ".local").unlink()
        (checkout / ".elsewhere").rename(checkout / ".local")

    assert up.returncode == 1
    assert f"the local stack is kept in {checkout}/.local, which cannot be written" in up.stderr
    assert "Traceback" not in up.stderr
