"""The evaluation as one page: figures, charts and the worst mistakes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loading_bay.pages.page import render
from loading_bay.pages.pictures import Picture

from .breakdown import Breakdown
from .charts import charts
from .dataset import Photo
from .evaluation import Metrics, Probabilities, Recommendation, main_figures
from .measurement import Measured
from .predictors import encode

TEMPLATE = Path(__file__).parent / "evaluation.html"
WORST = 12
WORST_OF_SOURCE = 6


def evaluation_page(measured: Measured, metrics: Metrics, parts: Breakdown, recommended: Recommendation | None) -> str:
    """Return the page of an evaluation as HTML."""
    wrong = np.flatnonzero(measured.probabilities.argmax(axis=1) != measured.labels)
    sources = np.array([photo.origin.source for photo in measured.photos])
    return render(
        TEMPLATE,
        charts(measured, metrics),
        measured=measured,
        metrics=metrics,
        figures=main_figures(metrics),
        parts=parts,
        recommended=recommended,
        mistakes={
            part.name: _surest(
                measured, measured.photos, measured.probabilities, wrong[sources[wrong] == part.name], WORST_OF_SOURCE
            )
            for part in parts.by_source
        },
        mistakes_in_all=len(wrong),
        surest_outliers=_surest(
            measured, measured.outliers, measured.outlier_probabilities, np.arange(len(measured.outliers)), WORST
        ),
    )


def _surest(
    measured: Measured, photos: list[Photo], probabilities: Probabilities, chosen: NDArray[np.intp], most: int
) -> list[Picture]:
    """Return the chosen photos that the model was surest of, at most so many."""
    order = chosen[np.argsort(-probabilities[chosen].max(axis=1), kind="stable")]
    return [
        Picture(
            png=encode(photos[row].pixels),
            figure=f"{probabilities[row].max():.2f}",
            said=f"{photos[row].label}, called {measured.class_names[probabilities[row].argmax()]}",
            notes=[],
            name=photos[row].name,
            place=photos[row].name,
        )
        for row in order[:most]
    ]
