"""The settings of a training run, and the files that it leaves; imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

MODEL_FILE = "model.onnx"
RECORD_FILE = "record.json"
BASELINE_FILE = "baseline.json"
# The template's default; the template is not available inside SageMaker.
THRESHOLD = 0.9


@dataclass(frozen=True)
class Settings:
    """The settings of a training run; the defaults made the model that ships."""

    seeds: tuple[int, ...] = (1, 2, 3)
    threads: int = 2
    # The detector: a batch is the frames of one step; this many of its first parts are not trained.
    detector_steps: int = 250
    detector_batch: int = 16
    detector_learning_rate: float = 6e-4
    detector_frozen: int = 3
    # The classifier. Its squares are drawn at random: an epoch is a number of steps, and ends with a measurement.
    epochs: int = 5
    steps_per_epoch: int = 60
    vehicles_per_batch: int = 44
    others_per_batch: int = 28
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    average_decay: float = 0.98
    square_side: int = 160


def seeds_text(seeds: Sequence[int]) -> str:
    """Write seeds as `1,2,3`."""
    return ",".join(str(seed) for seed in seeds)


class SeedList(click.ParamType):
    """An option that takes seeds as `1,2,3`."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse the seeds."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value} is not a list of seeds: write whole numbers, 1,2,3", param, ctx)
