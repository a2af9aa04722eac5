"""The evaluation as one page: figures, charts and the worst mistakes, with the frame that the model looked at."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loading_bay.pages.page import render
from loading_bay.pages.pictures import GalleryPhoto, draw_frame

from .breakdown import Breakdown
from .charts import charts
from .dataset import Photo
from .evaluation import Metrics, Probabilities, Recommendation, main_figures
from .measurement import Sets
from .predictors import PhotoPrediction

TEMPLATE = Path(__file__).parent / "evaluation.html"
WORST = 12
WORST_OF_SOURCE = 6
# A picture's longest side on the page, and the frame drawn on it.
PICTURE_SIDE = 224


def evaluation_page(sets: Sets, metrics: Metrics, parts: Breakdown, recommended: Recommendation | None) -> str:
    """Return the page of an evaluation as HTML: the main set in full, the others in short."""
    measured = sets.main
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
        sets=[(name, each.metrics(metrics.threshold)) for name, each in sets.named()],
        several=sets.several,
        mistakes={
            part.name: _surest(
                measured.class_names,
                measured.photos,
                measured.probabilities,
                measured.answers,
                wrong[sources[wrong] == part.name],
                WORST_OF_SOURCE,
            )
            for part in parts.by_source
        },
        mistakes_in_all=len(wrong),
        surest_outliers=_surest(
            measured.class_names,
            measured.outliers,
            measured.outlier_probabilities,
            measured.outlier_answers,
            np.arange(len(measured.outliers)),
            WORST,
        ),
    )


def _surest(
    class_names: list[str],
    photos: list[Photo],
    probabilities: Probabilities,
    answers: list[PhotoPrediction],
    chosen: NDArray[np.intp],
    most: int,
) -> list[GalleryPhoto]:
    """Return at most `most` of the chosen photos: those that the model was surest of."""
    order = chosen[np.argsort(-probabilities[chosen].max(axis=1), kind="stable")]
    return [
        GalleryPhoto(
            png=framed_picture(photos[row], answers[row]),
            figure=f"{probabilities[row].max():.2f}",
            said=f"{photos[row].label}, called {class_names[probabilities[row].argmax()]}",
            notes=[],
            name=photos[row].name,
            place=photos[row].name,
        )
        for row in order[:most]
    ]


def framed_picture(photo: Photo, answer: PhotoPrediction) -> bytes:
    """Return a photo, reduced, as PNG, with the frame that the model looked at if the answer names one."""
    picture = Image.fromarray(photo.pixels)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    if answer.frame is not None:
        draw_frame(picture, answer.frame)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
