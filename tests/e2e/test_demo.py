"""make demo, as somebody who has just cloned the repository runs it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from loading_bay.model.dataset import read_cifar

from .conftest import Run


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of processes that work in a folder, or name it."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if f"{folder}/.local" in line or f"{folder}/functions" in line]


def assert_nothing_is_left(checkout: Path) -> None:
    assert processes_in(checkout) == []
    assert not (checkout / ".local/demo/run").exists()
    assert not (checkout / ".local/demo/stack.json").exists()
    assert not list(checkout.glob(".template.*"))


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


def test_ctrl_c_while_the_demo_runs_leaves_nothing_behind(checkout: Path) -> None:
    # A shell's background job ignores SIGINT, and its children inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(
        [str(checkout / ".venv/bin/loading-bay"), "demo"],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, inherited)
    assert demo.stdout
    for line in demo.stdout:
        if "sam build" in line:
            break
    time.sleep(1)

    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to the command and to what runs in its foreground

    assert demo.wait(timeout=30) != 0
    assert_nothing_is_left(checkout)
