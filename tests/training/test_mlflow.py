"""MLflow gets every run where it is set up, and is never required."""

from pathlib import Path

import pytest

from training import history

mlflow = pytest.importorskip("mlflow")


def test_a_run_reaches_mlflow_with_its_settings_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    history.remember("train", "a.onnx", "sha256:1", {"seed": 3}, {"accuracy": 0.97, "outliers_accepted": float("nan")})
    history.remember("retrain", "b.onnx", "sha256:2", {}, {"held-out labels/accuracy": 0.9})

    found = mlflow.search_runs(experiment_names=[history.EXPERIMENT], order_by=["start_time"], output_format="list")
    assert [run.data.params["model"] for run in found] == ["a.onnx", "b.onnx"]
    assert found[0].data.params["seed"] == "3"
    assert found[0].data.metrics == {"accuracy": 0.97}
    assert len(history.runs()) == 2


def test_an_mlflow_that_does_not_answer_costs_one_line_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    history.remember("train", "a.onnx", "sha256:1", {}, {"accuracy": 0.97})

    assert [run.model for run in history.runs()] == ["a.onnx"]
    assert "\nMLflow was not told: " in capsys.readouterr().err
