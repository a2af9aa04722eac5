"""Retraining: people's decisions join the data, and the new model is compared with the one in service."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import staging
from .comparison import Comparison, compare
from .dataset import VALIDATION_SHARE, Dataset, Photo, without_repeats
from .labels import Labels, chance
from .measurement import Measured, measure, measure_photos
from .predictors import onnx_predictor


def joined(staged: Path, labels: Labels) -> Dataset:
    """Return a staged data set with the learned labels added; its test split does not change.

    Near-duplicates of a test photo, or of a photo that is held out, are left out.

    Raises:
        UserError: nothing is staged there.
    """
    base = staging.read(staged)
    learned = without_repeats(labels.learned, [*base.test, *labels.held_out])
    outliers = without_repeats(labels.learned_outliers, [*base.test_outliers, *labels.held_out_outliers])
    return replace(
        base,
        train=[*base.train, *(photo for photo in learned if not _validates(photo))],
        validation=[*base.validation, *(photo for photo in learned if _validates(photo))],
        train_outliers=[*base.train_outliers, *(photo for photo in outliers if not _validates(photo))],
        validation_outliers=[*base.validation_outliers, *(photo for photo in outliers if _validates(photo))],
        dropped=base.dropped + len(labels.learned) + len(labels.learned_outliers) - len(learned) - len(outliers),
        digest=f"sha256:{hashlib.sha256(f'{base.digest} {labels.digest}'.encode()).hexdigest()}",
    )


def _validates(photo: Photo) -> bool:
    return chance(photo, "validation") < VALIDATION_SHARE


def judged(champion: Path, challenger: Path, staged: Path, labels: Labels, threshold: float) -> list[Comparison]:
    """Compare two model files on the test, and on the labels that are held out: the reviewed and the audited apart.

    The audited ones were drawn from all photos that the model in service was sure of, the reviewed ones from the rest.

    Raises:
        UserError: one of them cannot be served, or has other classes.
    """

    def both(look: Callable[[Path], Measured]) -> tuple[Measured, Measured]:
        return look(champion), look(challenger)

    def on_test(model: Path) -> Measured:
        return measure(onnx_predictor(model), staged, "test", str(model))

    def on_labels(model: Path) -> Measured:
        names = staging.read_manifest(staged).class_names
        return measure_photos(
            onnx_predictor(model), names, labels.held_out, labels.held_out_outliers, str(model), Path("people's labels")
        )

    sets = {"test": both(on_test)}
    old, new = both(on_labels)
    audited = labels.audited.keys()
    parts = {
        "held-out reviews": lambda photo: photo.name not in audited,
        "held-out audits": lambda photo: photo.name in audited,
    }
    sets |= {name: (old.chosen(part), new.chosen(part)) for name, part in parts.items()}
    return compare({name: pair for name, pair in sets.items() if pair[0].photos}, threshold)
