"""The bundled recipe on this machine: train several seeds, choose one on validation, then measure it on the test."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stack.errors import UserError
from training import records
from training.evaluation import Metrics, evaluate
from training.measurement import THRESHOLD, measure
from training.predictors import onnx_predictor
from training.staging import OUTLIER_FOLDERS, Manifest, read_manifest

MODEL_FILE: Final = "model.onnx"
RECORD_FILE: Final = "record.json"
BASELINE_FILE: Final = "baseline.json"
EPOCH_LINE: Final = re.compile(r"epoch=(\d+)/(\d+) ")
REPOSITORY: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Epoch:
    """How far one seed is: epochs done, of how many, and what the last one measured."""

    seed: int
    number: int
    of: int
    figures: str


Progress = Callable[[Epoch], None]


@dataclass(frozen=True)
class Trained:
    """One trained seed: where its files are and what its record says."""

    seed: int
    folder: Path
    record: dict[str, Any]

    @property
    def validation_loss(self) -> float:
        """What seeds are compared by; no test photo has a part in it."""
        chosen = self.record["history"][self.record["epoch"] - 1]
        return float(chosen["loss"] + chosen["outlier_loss"])


def train(
    staged: Path, out: Path, seeds: Sequence[int], options: Sequence[str], progress: Progress
) -> tuple[Trained, list[Trained]]:
    """Train every seed, put the best one's files into ``out``, and complete its record: (the best, all).

    Args:
        staged: a staged data set.
        out: gets model.onnx, record.json, baseline.json, and a folder ``seed-N`` for each seed.
        seeds: one run for each.
        options: passed on to container/train.py.
        progress: told of every epoch.

    Raises:
        UserError: nothing is staged, PyTorch is missing, or a run failed; the message is its last line.

    """
    manifest = read_manifest(staged)
    runs = [
        _train_seed(staged, manifest, out / f"seed-{seed}", seed=seed, options=options, progress=progress)
        for seed in seeds
    ]
    best = min(runs, key=lambda run: run.validation_loss)
    for name in (MODEL_FILE, BASELINE_FILE):
        shutil.copyfile(best.folder / name, out / name)
    record = complete_record(best, runs, staged, manifest)
    records.write(out / RECORD_FILE, record)
    return best, runs


def arguments(staged: Path, manifest: Manifest) -> list[str]:
    """Give container/train.py's arguments for a staged data set."""
    return [
        *("--train", str(staged / "train")),
        *("--validation", str(staged / "validation")),
        *("--outliers", str(staged / OUTLIER_FOLDERS["train"])),
        *("--validation-outliers", str(staged / OUTLIER_FOLDERS["validation"])),
        *("--classes", ",".join(manifest.class_names)),
        *("--data-digest", manifest.digest),
    ]


def _train_seed(
    staged: Path, manifest: Manifest, folder: Path, *, seed: int, options: Sequence[str], progress: Progress
) -> Trained:
    # A process of its own: the very file that SageMaker runs, and memory that is given back between seeds.
    command = [sys.executable, "-m", "training.container.train", "--seed", str(seed), "--model-dir"]
    command += [str(folder.resolve()), *arguments(staged.resolve(), manifest), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = [""]
        try:
            for line in process.stdout or ():
                lines.append(line.strip() or lines[-1])
                if found := EPOCH_LINE.match(line):
                    progress(Epoch(seed, int(found[1]), int(found[2]), line[found.end() :].strip()))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        if "No module named" in lines[-1]:
            raise UserError(f"{lines[-1]}: install what training needs with make setup-training")
        raise UserError(f"training failed: {lines[-1]}")
    return Trained(seed, folder, json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")))


def complete_record(best: Trained, runs: Sequence[Trained], staged: Path, manifest: Manifest) -> dict[str, Any]:
    """Add to the best seed's record how every seed did on the test, mean and spread, and why it is best."""
    figures = {run.seed: on_test(run.folder / MODEL_FILE, staged) for run in runs}
    rows = {seed: main_figures(metrics) for seed, metrics in figures.items()}
    columns = {name: [row[name] for row in rows.values()] for name in rows[best.seed]}
    return {
        **best.record,
        "model_bytes": (best.folder / MODEL_FILE).stat().st_size,
        "threshold": figures[best.seed].threshold,
        "test": asdict(figures[best.seed]),
        "seeds": {
            "why": f"seed {best.seed} has the lowest loss on validation photos and outliers",
            "each": [
                {"seed": run.seed, "validation_loss": run.validation_loss, "test": rows[run.seed]} for run in runs
            ],
            "test_mean": {name: float(np.mean(values)) for name, values in columns.items()},
            "test_spread": {name: float(np.std(values)) for name, values in columns.items()},
        },
    }


def main_figures(metrics: Metrics) -> dict[str, float]:
    """Give the figures that models are compared by, as shares."""
    return {
        "accuracy": metrics.accuracy.value,
        "coverage": metrics.coverage.value,
        "selective_accuracy": metrics.selective_accuracy.value,
        "outliers_accepted": metrics.outliers_accepted.value,
        "calibration_error": metrics.calibration_error,
        "log_loss": metrics.log_loss,
    }


def on_test(model: Path, staged: Path) -> Metrics:
    """Measure a model file on a staged data set's test photos and test outliers."""
    measured = measure(onnx_predictor(model), staged, "test", model.name)
    return evaluate(
        measured.probabilities,
        measured.labels,
        measured.outlier_probabilities,
        measured.class_names,
        THRESHOLD,
    )
