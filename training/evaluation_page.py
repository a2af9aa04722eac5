"""The evaluation as one page: figures, charts and the worst mistakes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pages.page import render
from pages.pictures import Picture

from .charts import charts
from .dataset import Photo
from .evaluation import Metrics, Probabilities, Recommendation, main_figures
from .measurement import Measured
from .predictors import encode

TEMPLATE = Path(__file__).parent / "evaluation.html"
WORST = 12


def evaluation_page(measured: Measured, metrics: Metrics, recommended: Recommendation | None) -> str:
    """Return the page of an evaluation as HTML."""
    wrong = np.flatnonzero(measured.probabilities.argmax(axis=1) != measured.labels)
    return render(
        TEMPLATE,
        charts(measured, metrics),
        measured=measured,
        metrics=metrics,
        figures=main_figures(metrics),
        recommended=recommended,
        mistakes=_surest(measured, measured.photos, measured.probabilities, wrong),
        mistakes_in_all=len(wrong),
        surest_outliers=_surest(
            measured, measured.outliers, measured.outlier_probabilities, np.arange(len(measured.outliers))
        ),
    )


def _surest(
    measured: Measured, photos: list[Photo], probabilities: Probabilities, chosen: NDArray[np.intp]
) -> list[Picture]:
    """Return the chosen photos that the model was surest of, at most WORST."""
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
        for row in order[:WORST]
    ]
