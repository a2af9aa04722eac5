"""The comparison of two models as one page: figures side by side, and the photos on which they differ."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loading_bay.pages.page import render
from loading_bay.pages.pictures import GalleryPhoto

from .comparison import SIGNIFICANCE, SWAPS, Comparison, verdict
from .dataset import Photo
from .evaluation import Probabilities
from .evaluation_page import framed_picture
from .predictors import PhotoPrediction

TEMPLATE = Path(__file__).parent / "comparison.html"
LONGEST_GALLERY = 24


def comparison_page(comparisons: Sequence[Comparison]) -> str:
    """Return the page of a comparison, on one set of photos or several, as HTML."""
    return render(
        TEMPLATE,
        [],
        comparisons=comparisons,
        verdict=verdict(comparisons),
        differences=[_differences(comparison) for comparison in comparisons],
        swaps=SWAPS,
        significance=SIGNIFICANCE,
    )


def _differences(comparison: Comparison) -> list[tuple[str, list[GalleryPhoto], int]]:
    """Return (heading, pictures, how many in all) for the photos and outliers on which the two models differ."""
    old, new = comparison.old, comparison.new

    def photos(chosen: NDArray[np.intp]) -> tuple[list[GalleryPhoto], int]:
        probabilities = old.probabilities, new.probabilities
        return _pictures(new.photos, *probabilities, new.answers, new.class_names, chosen), len(chosen)

    def outliers(chosen: NDArray[np.intp]) -> tuple[list[GalleryPhoto], int]:
        probabilities = old.outlier_probabilities, new.outlier_probabilities
        return _pictures(new.outliers, *probabilities, new.outlier_answers, new.class_names, chosen), len(chosen)

    return [
        ("Right before, wrong now", *photos(comparison.broken)),
        ("Wrong before, right now", *photos(comparison.fixed)),
        ("Outliers accepted only now", *outliers(comparison.outliers_accepted)),
        ("Outliers no longer accepted", *outliers(comparison.outliers_refused)),
    ]


def _pictures(
    photos: list[Photo],
    old: Probabilities,
    new: Probabilities,
    answers: list[PhotoPrediction],
    names: list[str],
    chosen: NDArray[np.intp],
) -> list[GalleryPhoto]:
    """Return the chosen photos, first those on which the two models are furthest apart."""
    order = chosen[np.argsort(-abs(new[chosen] - old[chosen]).max(axis=1), kind="stable")]
    return [
        GalleryPhoto(
            png=framed_picture(photos[row], answers[row]),
            figure=f"{new[row].max():.2f}",
            said=f"{photos[row].label}, now called {names[new[row].argmax()]}",
            notes=[f"before: {names[old[row].argmax()]} ({old[row].max():.2f})"],
            name=photos[row].name,
            place=photos[row].name,
        )
        for row in order[:LONGEST_GALLERY]
    ]
