"""What can be chosen about a training run, and the files that it leaves; imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

MODEL_FILE = "model.onnx"
RECORD_FILE = "record.json"
BASELINE_FILE = "baseline.json"
# The template's default, which is not at hand inside SageMaker.
THRESHOLD = 0.9


@dataclass(frozen=True)
class Settings:
    """What can be chosen about a training run; the defaults made the model that ships."""

    seeds: tuple[int, ...] = (1, 2, 3)
    threads: int = 2
    # The detector: frames a step, and how many of its first parts stay as they were published.
    detector_steps: int = 250
    detector_batch: int = 16
    detector_learning_rate: float = 6e-4
    detector_frozen: int = 3
    # The classifier. Squares are drawn, not gone through: an epoch is when it is measured.
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
        """Read them."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value} is not a list of seeds: write whole numbers, 1,2,3", param, ctx)
