"""The baseline of a model: its scores on the validation photos."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loading_bay.stack.errors import UserError


class Baseline(msgspec.Struct, frozen=True):
    """Scores on validation, shape (photos, classes), and the true share of each class among those photos.

    `threshold` is the confidence at which the model's answers are accepted, if the file has it.
    """

    class_names: list[str]
    scores: list[list[float]]
    class_balance: dict[str, float]
    threshold: float | None = None


def read_baseline(path: Path, class_names: Sequence[str] | None = None) -> Baseline:
    """Read and check the baseline; its classes must be `class_names`, if given, in this order.

    Raises:
        UserError: it is missing, damaged or for other classes; the message says how to fix it.
    """
    try:
        baseline = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UserError(f"{path} is not a baseline: {error}") from error
    if class_names is not None and baseline.class_names != list(class_names):
        raise UserError(
            f"{path} is for the classes {','.join(baseline.class_names)}, not {','.join(class_names)}: "
            "give your model's with --baseline, or use --no-baseline"
        )
    if not baseline.scores or any(
        len(scores) != len(baseline.class_names) or not math.isclose(sum(scores), 1, abs_tol=0.01)
        for scores in baseline.scores
    ):
        raise UserError(f"{path}: scores must have one probability per class for each validation photo")
    if set(baseline.class_balance) != set(baseline.class_names):
        raise UserError(f"{path}: class_balance must name each class once")
    return baseline
