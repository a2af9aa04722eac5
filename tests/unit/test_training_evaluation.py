"""Figures of merit, on predictions with figures calculated by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loading_bay.model.evaluation import (
    calibration_error,
    evaluate,
    main_figures,
    recommend,
    reliability_bins,
    risk_coverage,
)
from loading_bay.stack.text import percent
from loading_bay.statistics import share

NAMES = ["bicycle", "motorcycle"]
NOBODY = np.empty((0, 2))


def rows(*motorcycle: float) -> np.ndarray:
    second = np.array(motorcycle)
    return np.stack([1 - second, second], axis=1)


def test_the_interval_of_195_in_200_is_the_published_one() -> None:
    found = share(195, 200)
    assert found.value == 0.975
    # Wilson's interval as R's prop.test(195, 200, correct=FALSE) prints it.
    assert (found.low, found.high) == pytest.approx((0.9428, 0.9893), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_share_and_stays_within_0_and_1(counts: tuple[int, int]) -> None:
    found = share(*counts)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_a_share_of_nothing_is_nan() -> None:
    assert math.isnan(share(0, 0).value)
    assert percent(math.nan) == "–"


def test_without_outliers_the_figure_of_outliers_says_so() -> None:
    metrics = evaluate(rows(0.1, 0.9), np.array([0, 1]), NOBODY, NAMES, 0.9)
    figure = next(each for each in main_figures(metrics) if each.key == "outliers_accepted")
    assert (figure.text, figure.note) == ("–", "nothing")


def test_figures_of_four_photos_and_two_outliers() -> None:
    metrics = evaluate(rows(0.02, 0.6, 0.95, 0.99), np.array([0, 0, 1, 0]), rows(0.93, 0.5), NAMES, 0.9)
    assert metrics.accuracy.value == 0.5
    assert metrics.coverage.value == 0.75
    assert metrics.selective_accuracy.value == pytest.approx(2 / 3)
    assert metrics.outliers_accepted.value == 0.5
    assert metrics.confusion == [[1, 2], [0, 1]]
    bicycle, motorcycle = metrics.per_class
    assert (bicycle.precision, bicycle.recall) == pytest.approx((1.0, 1 / 3))
    assert (motorcycle.precision, motorcycle.recall) == pytest.approx((1 / 3, 1.0))
    assert metrics.log_loss == pytest.approx(-np.log([0.98, 0.4, 0.95, 0.01]).mean())


def test_without_outliers_their_share_is_nan() -> None:
    metrics = evaluate(rows(0.1, 0.9), np.array([0, 1]), NOBODY, NAMES, 0.9)
    assert math.isnan(metrics.outliers_accepted.value)


def test_a_photo_at_the_threshold_is_accepted() -> None:
    metrics = evaluate(rows(0.9), np.array([1]), NOBODY, NAMES, 0.9)
    assert metrics.coverage.value == 1


def test_more_than_two_classes_are_counted() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.1, 0.7, 0.2]])
    metrics = evaluate(probabilities, np.array([0, 2, 2]), np.empty((0, 3)), ["a", "b", "c"], 0.5)
    assert metrics.confusion == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert math.isnan(metrics.per_class[1].recall)


def test_calibration_error_of_one_sure_and_wrong_half() -> None:
    bins = reliability_bins(np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, True, True, False]))
    assert [part.photos for part in bins] == [2, 2]
    assert calibration_error(bins) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)


def test_a_calibrated_model_has_little_calibration_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 100_000)
    bins = reliability_bins(confidence, generator.uniform(size=100_000) < confidence)
    assert calibration_error(bins) < 0.01


def test_confidence_1_belongs_to_the_last_bin() -> None:
    (last,) = reliability_bins(np.array([1.0]), np.array([True]))
    assert (last.low, last.high) == pytest.approx((0.9, 1.0))


def test_risk_grows_from_the_surest_photo_on() -> None:
    points = risk_coverage(np.array([0.6, 0.9, 0.8]), np.array([False, True, True]))
    assert [point.threshold for point in points] == [0.9, 0.8, 0.6]
    assert [point.coverage for point in points] == pytest.approx([1 / 3, 2 / 3, 1])
    assert [point.risk for point in points] == pytest.approx([0, 0, 1 / 3])


def test_photos_of_equal_confidence_are_accepted_together() -> None:
    (point,) = risk_coverage(np.array([0.7, 0.7]), np.array([True, False]))
    assert (point.coverage, point.risk) == (1.0, 0.5)


def test_the_recommended_threshold_keeps_the_wanted_accuracy_and_most_photos() -> None:
    probabilities = rows(0.99, 0.95, 0.9, 0.85, 0.8)
    found = recommend(probabilities, np.array([1, 1, 1, 0, 1]), rows(0.92, 0.6), 1.0)
    assert found is not None
    assert (found.threshold, found.coverage, found.accuracy) == pytest.approx((0.9, 0.6, 1.0))
    assert found.outliers_accepted == 0.5


def test_no_threshold_is_recommended_where_the_surest_photo_is_wrong() -> None:
    assert recommend(rows(0.99, 0.6), np.array([0, 1]), NOBODY, 0.9) is None
