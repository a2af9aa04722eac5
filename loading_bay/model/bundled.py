"""The bundled recipe on this machine: train several seeds, average them, and measure all on the test."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loading_bay.stack.errors import UserError
from loading_bay.stack.hints import make
from loading_bay.stack.template import ROOT
from training.container.settings import BASELINE_FILE, MODEL_FILE, RECORD_FILE, Settings, seeds_text

from . import records
from .breakdown import breakdown
from .evaluation import main_figures
from .measurement import Measured, Sets, measure_sets
from .predictors import onnx_predictor
from .staging import DETECTOR_FOLDER, OUTLIER_FOLDERS, SEVERAL_FOLDERS, Manifest, read_manifest

# A line of progress counts the steps of the detector or of a seed; at the end of an epoch it has figures.
STEP_LINE = re.compile(r"(?:detector|seed=(\d+)) step=(\d+)/(\d+) (.*?) ?seconds=\d+$")
# A quick look: steps in an epoch at most, the detector's steps, the squares' side, and the decay of the average.
QUICK_STEPS, QUICK_DETECTOR_STEPS, QUICK_SIDE, QUICK_DECAY = 15, 20, 128, 0.9
# The allocator keeps the memory that a step frees for the next step, which saves a third of the time. Waiting threads
# sleep: this costs nothing on an idle machine, and halves the time of a step on a busy one.
TRAINING_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2 * 10**9),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 10**9),
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class TrainingStep:
    """The progress of one part: steps done, of how many, and the figures, if any; `seed` 0 is the detector."""

    seed: int
    number: int
    of: int
    figures: str


Progress = Callable[[TrainingStep], None]


@dataclass(frozen=True)
class Trained:
    """One model, of one seed or of several: the folder of its files, its record, and its results on the test split."""

    folder: Path
    record: dict[str, Any]
    threshold: float
    test: Sets

    @property
    def seeds(self) -> list[int]:
        """The seeds that it was trained from."""
        return list(self.record["settings"]["seeds"])

    @property
    def validation(self) -> dict[str, float]:
        """Share right, share for review, and share of other things accepted, on validation photos."""
        return dict(self.record["validation"])

    @property
    def figures(self) -> dict[str, float]:
        """The figures on the test split: `<set>/<key>` → value."""
        found: dict[str, float] = {}
        for name, measured in self.test.named():
            parts = breakdown(measured, self.threshold)
            over_sources = {"mean_accuracy": parts.mean_accuracy, "worst_recall": parts.worst_recall}
            figures = {figure.key: figure.value for figure in main_figures(measured.metrics(self.threshold))}
            found |= {f"{name}/{key}": value for key, value in (figures | over_sources).items()}
        return found


def train(
    staged: Path, out: Path, seeds: Sequence[int], options: Sequence[str], progress: Progress
) -> tuple[Trained, list[Trained]]:
    """Train every seed and their average, and complete its record: (the average, each seed alone).

    Args:
        staged: a staged data set.
        out: gets model.onnx, record.json, baseline.json and, with several seeds, a folder `seed-N` for each.
        seeds: one model is trained for each; a single one is not averaged.
        options: passed on to container/train.py.
        progress: called every few steps.

    Raises:
        UserError: nothing is staged, PyTorch is missing, or the run failed; the message is its last line.
    """
    manifest = read_manifest(staged)
    # A separate process runs the same file as SageMaker does, and gives its memory back.
    command = [sys.executable, "-m", "training.container.train", "--seeds", seeds_text(seeds)]
    command += ["--model-dir", str(out.resolve()), "--seeds-dir", str(out.resolve())]
    _run([*command, *arguments(staged.resolve(), manifest), *options], progress)
    made = _trained(out, staged)
    alone = [_trained(out / f"seed-{seed}", staged) for seed in seeds] if len(seeds) > 1 else [made]
    records.write(out / RECORD_FILE, complete_record(made, alone))
    return made, alone


def quick_options(manifest: Manifest) -> list[str]:
    """Return container/train.py's options for a quick look: minutes on two cores.

    An epoch sees as many squares as there are photos, up to a limit. The average follows the few steps sooner.
    """
    steps = min(QUICK_STEPS, math.ceil(manifest.counts["train"] / Settings.vehicles_per_batch))
    return [
        *("--steps-per-epoch", str(steps), "--detector-steps", str(QUICK_DETECTOR_STEPS)),
        *("--square-side", str(QUICK_SIDE), "--average-decay", str(QUICK_DECAY)),
    ]


def arguments(staged: Path, manifest: Manifest) -> list[str]:
    """Return container/train.py's arguments for a staged data set."""
    return [
        *("--train", str(staged / "train")),
        *("--validation", str(staged / "validation")),
        *("--outliers", str(staged / OUTLIER_FOLDERS["train"])),
        *("--validation-outliers", str(staged / OUTLIER_FOLDERS["validation"])),
        *("--several", str(staged / SEVERAL_FOLDERS["train"])),
        *("--detector", str(staged / DETECTOR_FOLDER)),
        *("--classes", ",".join(manifest.class_names)),
        *("--data-digest", manifest.digest),
    ]


def _run(command: Sequence[str], progress: Progress) -> None:
    environment = os.environ | TRAINING_ENVIRONMENT
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = [""]
        try:
            for line in process.stdout or ():
                lines.append(line.strip() or lines[-1])
                if found := STEP_LINE.match(line):
                    seed, number, of = (int(each or 0) for each in found.groups()[:3])
                    progress(TrainingStep(seed, number, of, found[4]))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        if "No module named" in lines[-1]:
            raise UserError(f"{lines[-1]}: install the packages for training with {make('setup-training')}")
        raise UserError(f"training failed: {lines[-1]}")


def _trained(folder: Path, staged: Path) -> Trained:
    threshold = float(records.read(folder / BASELINE_FILE)["threshold"])
    test = measure_sets(onnx_predictor(folder / MODEL_FILE), staged, "test", MODEL_FILE, threshold)
    return Trained(folder, records.read(folder / RECORD_FILE), threshold, test)


def complete_record(made: Trained, alone: Sequence[Trained]) -> dict[str, object]:
    """Return a model's record with its results on the test, and those of each seed alone, with mean and spread."""
    columns = {name: [run.figures[name] for run in alone] for name in made.figures}
    return {
        **made.record,
        "model_bytes": (made.folder / MODEL_FILE).stat().st_size,
        "threshold": made.threshold,
        "test": {name.split()[0]: test_figures(measured, made.threshold) for name, measured in made.test.named()}
        | {"several kinds accepted": asdict(made.test.several)},
        "seeds": {
            "each": [{"seeds": run.seeds, "validation": run.validation, "test": run.figures} for run in alone],
            "test_mean": {name: float(np.mean(values)) for name, values in columns.items()},
            "test_spread": {name: float(np.std(values)) for name, values in columns.items()},
        },
    }


def test_figures(measured: Measured, threshold: float) -> dict[str, object]:
    """Return all figures of one set, as the record keeps them."""
    figures = asdict(measured.metrics(threshold))
    # The curve has a point for each photo, too many for the record; `model evaluate` draws it.
    del figures["risk_coverage"]
    return figures | asdict(breakdown(measured, threshold))
