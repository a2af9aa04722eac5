"""Every run leaves a line, and the lines can be read again."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from stack.errors import UserError
from training import history
from training.__main__ import main
from training.commands.options import console


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(history, "HISTORY", tmp_path / "data/history.jsonl")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(console, "width", 120)
    return tmp_path / "data/history.jsonl"


def test_runs_come_back_in_their_order() -> None:
    history.remember("train", "a.onnx", "sha256:1", {"seed": 1}, {"accuracy": 0.9})
    history.remember("evaluate", "b.onnx", "sha256:2", {}, {"accuracy": 0.95})

    assert [(run.command, run.model, run.figures["accuracy"]) for run in history.runs()] == [
        ("train", "a.onnx", 0.9),
        ("evaluate", "b.onnx", 0.95),
    ]


def test_what_is_no_number_is_written_as_nothing(place: Path) -> None:
    history.remember("evaluate", "a.onnx", "sha256:1", {}, {"outliers_accepted": math.nan})

    assert json.loads(place.read_text(), parse_constant=pytest.fail)["figures"] == {"outliers_accepted": None}


def test_a_damaged_line_is_named(place: Path) -> None:
    history.remember("evaluate", "a.onnx", "sha256:1", {}, {})
    place.write_text(place.read_text() + "half a li")

    with pytest.raises(UserError, match=r"history\.jsonl, line 2, is not a run"):
        history.runs()


def test_the_command_lists_runs_with_their_figures() -> None:
    assert "Nothing yet" in CliRunner().invoke(main, ["history"]).output
    history.remember("evaluate", "a.onnx", "sha256:0123456789", {}, {"accuracy": 0.975, "coverage": None})  # type: ignore[dict-item]

    listed = CliRunner().invoke(main, ["history"])
    assert listed.exit_code == 0, listed.output
    assert "01234567" in listed.output
    assert "97.5" in listed.output
    assert json.loads(CliRunner().invoke(main, ["history", "--json"]).output)["model"] == "a.onnx"
