"""The reports' statistics, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from loading_bay.statistics import (
    Kappa,
    binomial_test,
    chi_squared,
    exceeding,
    fisher_test,
    holm,
    kappa,
    kolmogorov,
    sampled_share,
    share,
)


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 40), (3, 40), (40, 40), (1, 1_000), (431_002, 999_999)])
def test_the_interval_of_a_share_matches_scipy(count: int, of: int) -> None:
    expected = stats.binomtest(count, of).proportion_ci(method="wilson")

    found = share(count, of)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("count", "of", "population"), [(0, 1, 1), (0, 50, 2_500), (3, 40, 400), (40, 40, 41), (2, 50, 50), (7, 90, 200)]
)
def test_the_interval_of_a_sampled_share_matches_scipy(count: int, of: int, population: int) -> None:
    possible = [
        wrong
        for wrong in range(count, population - of + count + 1)
        if stats.hypergeom.sf(count - 1, population, wrong, of) > 0.025
        and stats.hypergeom.cdf(count, population, wrong, of) > 0.025
    ]

    found = sampled_share(count, of, population)

    assert (found.low, found.high) == (possible[0] / population, possible[-1] / population)


def test_kappa_is_that_of_a_published_example() -> None:
    """The example of Ph. Bonnardel's program: http://kappa.perso.worldonline.fr/kappa.txt."""
    found = kappa(np.array([[25, 3, 5], [6, 32, 8], [1, 0, 20]]))

    assert found.value == pytest.approx(0.654, abs=5e-4)
    assert (found.high - found.value) / 1.96 == pytest.approx(0.062, abs=5e-4)
    assert (found.value - found.low) / 1.96 == pytest.approx(0.062, abs=5e-4)


def test_the_interval_of_kappa_holds_it_in_about_95_of_100_samples() -> None:
    chance = np.random.default_rng(0)
    shares = np.array([[0.55, 0.05, 0.02], [0.03, 0.2, 0.03], [0.01, 0.01, 0.1]])
    true = kappa(np.rint(shares * 1_000_000).astype(int)).value

    samples = [kappa(chance.multinomial(200, shares.ravel()).reshape(3, 3)) for _ in range(1_000)]

    assert np.mean([each.low <= true <= each.high for each in samples]) == pytest.approx(0.95, abs=0.02)


def test_kappa_at_its_ends() -> None:
    assert kappa(np.array([[20, 0], [0, 20]])) == Kappa(1, 1, 1)
    assert kappa(np.array([[0, 20], [20, 0]])).value == -1
    for undefined in ([[0, 0], [0, 0]], [[20, 0], [0, 0]]):
        assert np.isnan(kappa(np.array(undefined)).value)


@pytest.mark.parametrize(
    ("count", "of", "expected"),
    [
        (0, 1, 0.5),
        (9, 12, 0.5),
        (3, 3, 0.3),
        (0, 50, 0.02),
        (520, 1_000, 0.5),
        (501_900, 1_000_000, 0.5),
        (0, 7, 0),
        (1, 7, 0),
        (7, 7, 1),
    ],
)
def test_the_binomial_test_matches_scipy(count: int, of: int, expected: float) -> None:
    assert binomial_test(count, of, expected) == pytest.approx(stats.binomtest(count, of, expected).pvalue, rel=1e-8)


@pytest.mark.parametrize(
    ("count", "of", "other_count", "other_of"),
    [(0, 5, 0, 9), (5, 5, 9, 9), (8, 10, 1, 6), (30, 400, 12, 50), (3, 3, 0, 400), (100_000, 1_000_000, 62, 400)],
)
def test_the_test_of_two_shares_matches_scipy(count: int, of: int, other_count: int, other_of: int) -> None:
    expected = stats.fisher_exact([[count, of - count], [other_count, other_of - other_count]]).pvalue

    assert fisher_test(count, of, other_count, other_of) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("sizes", [(100, 400), (400, 400), (5_000, 400), (1_000_000, 1_000)])
@pytest.mark.parametrize("shift", [0, 0.05, 0.1, 0.3])
def test_the_probability_of_a_distance_matches_scipy(sizes: tuple[int, int], shift: float) -> None:
    chance = np.random.default_rng(0)
    expected = stats.ks_2samp(chance.normal(size=sizes[0]), chance.normal(shift, size=sizes[1]), method="auto")

    assert kolmogorov(expected.statistic, *sizes) == pytest.approx(expected.pvalue, abs=0.015)


@pytest.mark.parametrize("freedom", [1, 2, 5, 19])
@pytest.mark.parametrize("noncentrality", [0.5, 5, 10, 20, 100, 500])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_the_power_of_the_stability_index_matches_scipy(level: float, freedom: int, noncentrality: float) -> None:
    expected = stats.ncx2.sf(stats.chi2.isf(level, freedom), freedom, noncentrality)

    assert exceeding(chi_squared(level, freedom), freedom, noncentrality) == pytest.approx(expected, abs=0.015)


def test_p_values_are_corrected_for_multiple_tests_and_keep_their_order() -> None:
    assert holm([0.04, 0.01, 0.03, 0.9]) == pytest.approx([0.09, 0.04, 0.09, 0.9])
