"""The bundled recipe on this machine: train several seeds, choose one on validation, then measure it on the test."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stack.errors import UserError

from . import records
from .breakdown import Breakdown
from .container.settings import BASELINE_FILE, MODEL_FILE, RECORD_FILE
from .evaluation import Metrics, main_figures
from .measurement import measure
from .predictors import onnx_predictor
from .staging import OUTLIER_FOLDERS, Manifest, read_manifest

# The threshold was set where fewer than one in fifty other things pass: a model that lets more pass needs another one.
MOST_OUTLIERS = 0.02
EPOCH_LINE = re.compile(r"epoch=(\d+)/(\d+) ")
# Memory that a step frees is kept for the next one, not given back and asked for again: a third less time. Threads
# that wait sleep: nothing is lost alone, and a step beside other work takes half the time.
TRAINING_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2 * 10**9),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 10**9),
    "OMP_WAIT_POLICY": "PASSIVE",
}
REPOSITORY = Path(__file__).parent.parent


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
    """One trained seed: where its files are, what its record says, and how it does on the test split."""

    seed: int
    folder: Path
    record: dict[str, Any]
    test: Metrics
    parts: Breakdown

    @property
    def rank(self) -> tuple[bool, float]:
        """What seeds are compared by, the least is best; no test photo has a part in it."""
        return self.outliers_accepted > MOST_OUTLIERS, self.validation_loss

    @property
    def outliers_accepted(self) -> float:
        """The share of the validation outliers that pass the threshold."""
        return float(self.record["validation"]["outliers_accepted"])

    @property
    def validation_loss(self) -> float:
        """The loss on validation photos and outliers in nats."""
        last = self.record["history"][-1]
        return float(last["loss"] + last["outlier_loss"])

    @property
    def figures(self) -> dict[str, float]:
        """The figures on the test split, by key."""
        over_sources = {"mean_accuracy": self.parts.mean_accuracy, "worst_recall": self.parts.worst_recall}
        return {figure.key: figure.value for figure in main_figures(self.test)} | over_sources


def train(
    staged: Path, out: Path, seeds: Sequence[int], options: Sequence[str], progress: Progress
) -> tuple[Trained, list[Trained]]:
    """Train every seed, put the best one's files into `out`, and complete its record: (the best, all).

    Args:
        staged: a staged data set.
        out: gets model.onnx, record.json, baseline.json, and a folder `seed-N` for each seed.
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
    best = min(runs, key=lambda run: run.rank)
    for name in (MODEL_FILE, BASELINE_FILE):
        shutil.copyfile(best.folder / name, out / name)
    record = complete_record(best, runs)
    records.write(out / RECORD_FILE, record)
    return best, runs


def arguments(staged: Path, manifest: Manifest) -> list[str]:
    """Return container/train.py's arguments for a staged data set."""
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
    environment = os.environ | TRAINING_ENVIRONMENT
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
    return Trained(seed, folder, records.read(folder / RECORD_FILE), *on_test(folder, staged))


def complete_record(best: Trained, runs: Sequence[Trained]) -> dict[str, Any]:
    """Add to the best seed's record how every seed did on the test, mean and spread, and why it is best."""
    figures = asdict(best.test)
    # A point a photo: evaluate draws it.
    del figures["risk_coverage"]
    columns = {name: [run.figures[name] for run in runs] for name in best.figures}
    return {
        **best.record,
        "model_bytes": (best.folder / MODEL_FILE).stat().st_size,
        "threshold": best.test.threshold,
        "test": figures | asdict(best.parts),
        "seeds": {
            "why": f"seed {best.seed} has the lowest loss on validation photos and outliers, "
            f"of those that accept at most {MOST_OUTLIERS:.0%} of the outliers (of all, if none does)",
            "each": [
                {
                    "seed": run.seed,
                    "validation_loss": run.validation_loss,
                    "validation_outliers_accepted": run.outliers_accepted,
                    "test": run.figures,
                }
                for run in runs
            ],
            "test_mean": {name: float(np.mean(values)) for name, values in columns.items()},
            "test_spread": {name: float(np.std(values)) for name, values in columns.items()},
        },
    }


def on_test(folder: Path, staged: Path) -> tuple[Metrics, Breakdown]:
    """Measure the model in a folder on a staged data set's test photos and test outliers, at its own threshold."""
    threshold = float(records.read(folder / BASELINE_FILE)["threshold"])
    measured = measure(onnx_predictor(folder / MODEL_FILE), staged, "test", MODEL_FILE)
    return measured.metrics(threshold), measured.breakdown(threshold)
