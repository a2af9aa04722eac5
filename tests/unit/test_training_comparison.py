"""Two models on the same photos: significant differences, chance, and photos on which they differ."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loading_bay.model.comparison import Comparison, compare, verdict
from loading_bay.model.comparison_page import comparison_page
from loading_bay.model.dataset import Origin, Photo, encoded
from loading_bay.model.measurement import Measured
from loading_bay.model.predictors import PhotoPrediction

NAMES = ["bicycle", "motorcycle"]


def measured(right: list[float], outliers: list[float], subject: str) -> Measured:
    """Return a model that gives each photo's true class this score, and outliers these scores as bicycles."""

    def photos(count: int, kind: str) -> list[Photo]:
        return [
            Photo(f"{kind}-{k}.png", "bicycle", encoded(Image.new("RGB", (8, 8), (k, k, k)), Origin()))
            for k in range(count)
        ]

    def answers(scores: list[float]) -> list[PhotoPrediction]:
        return [PhotoPrediction([score, 1 - score], (0.1, 0.1, 0.9, 0.9)) for score in scores]

    def rows(scores: list[float]) -> np.ndarray:
        return np.array([[score, 1 - score] for score in scores]).reshape(-1, 2)

    return Measured(
        subject=subject,
        data=Path("data/staged"),
        class_names=NAMES,
        photos=photos(len(right), "photo"),
        labels=np.zeros(len(right), dtype=np.int64),
        probabilities=rows(right),
        outliers=photos(len(outliers), "outlier"),
        outlier_probabilities=rows(outliers),
        answers=answers(right),
        outlier_answers=answers(outliers),
    )


def compared(old: Measured, new: Measured) -> Comparison:
    (found,) = compare({"test": (old, new)}, 0.9)
    return found


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {figure.new.key: figure.verdict for figure in comparison.figures}


def test_a_model_that_fixes_many_mistakes_and_breaks_none_is_better() -> None:
    old = measured([0.95] * 80 + [0.05] * 20, [0.6] * 50, "old")
    new = measured([0.95] * 100, [0.6] * 50, "new")

    found = compared(old, new)

    assert verdicts(found)["accuracy"] == "better"
    assert verdict([found]) == "better"
    assert found.fixed.tolist() == list(range(80, 100))
    assert len(found.broken) == 0
    assert verdict([compared(new, old)]) == "worse"


def test_one_figure_that_is_worse_outweighs_one_that_is_better() -> None:
    old = measured([0.95] * 80 + [0.05] * 20, [0.6] * 50, "old")
    new = measured([0.95] * 100, [0.95] * 50, "new")

    found = compared(old, new)

    assert (verdicts(found)["accuracy"], verdicts(found)["outliers_accepted"]) == ("better", "worse")
    assert verdict([found]) == "worse"
    assert len(found.outliers_accepted) == 50


def test_a_difference_of_two_photos_in_a_hundred_is_not_shown() -> None:
    old = measured([0.95] * 98 + [0.45] * 2, [0.6] * 50, "old")
    new = measured([0.95] * 99 + [0.45], [0.6] * 50, "new")

    assert verdicts(compared(old, new))["accuracy"] == "no difference shown"


def test_mcnemar_s_p_is_binomial() -> None:
    old = measured([0.95] * 90 + [0.45] * 10, [], "old")
    new = measured([0.45] * 2 + [0.95] * 98, [], "new")

    (accuracy,) = (figure for figure in compared(old, new).figures if figure.new.key == "accuracy")

    # Ten fixed, two broken: binom.test(10, 12)$p.value in R.
    assert accuracy.p == pytest.approx(0.03857, abs=1e-5)


def test_the_same_model_twice_differs_in_nothing() -> None:
    model = measured([0.95, 0.2, 0.99], [0.6, 0.95], "one")

    found = compared(model, model)

    assert {figure.p for figure in found.figures} == {1.0}
    assert verdict([found]) == "no difference shown"


def test_without_outliers_their_figure_is_left_out() -> None:
    model = measured([0.95, 0.2], [], "one")

    assert "outliers_accepted" not in verdicts(compared(model, model))


def test_the_page_shows_both_models_their_figures_and_the_photos_on_which_they_differ() -> None:
    old = measured([0.95, 0.05, 0.95], [0.6, 0.95], "data/old/model.onnx")
    new = measured([0.95, 0.95, 0.05], [0.95, 0.6], "data/new/model.onnx")

    page = comparison_page([compared(old, new)])

    assert "<title>data/new/model.onnx beside data/old/model.onnx</title>" in page
    for name in ("photo-1.png", "photo-2.png", "outlier-0.png", "outlier-1.png"):
        assert name in page
    assert "photo-0.png" not in page
    assert page.count("data:image/png;base64,") == 4
    assert "McNemar" in page


def test_worse_on_another_set_outweighs_better_on_the_first() -> None:
    old, new = measured([0.95] * 80 + [0.05] * 20, [], "old"), measured([0.95] * 100, [], "new")

    assert verdict(compare({"test": (old, new), "reviewed": (old, new)}, 0.9)) == "better"
    assert verdict(compare({"test": (old, new), "reviewed": (new, old)}, 0.9)) == "worse"
