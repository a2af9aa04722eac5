"""Drift: a change is noticed, no change is not, and few records give neither verdict."""

import numpy as np
import pytest

from loading_bay.report.baseline import Baseline
from loading_bay.report.drift import PSI_THRESHOLD, DriftCheck, Floats, compare, histogram, overall, stability_index

NAMES = ("bicycle", "motorcycle")
THRESHOLD = 0.9


def scores(n: int, seed: int, *, bicycles: float = 0.5, sure: float = 0.05) -> Floats:
    """Return n pairs of scores like a good model's: near 1 for its class; a lower `sure` brings them nearer."""
    chance = np.random.default_rng(seed)
    own = 1 - chance.beta(sure, 1, size=n)
    first = np.where(chance.random(n) < bicycles, own, 1 - own)
    return np.stack([first, 1 - first], axis=1)


def baseline(n: int = 1000, seed: int = 99) -> Baseline:
    return Baseline(list(NAMES), scores(n, seed).tolist(), dict.fromkeys(NAMES, 0.5))


def check(now: Floats, before: Baseline | None = None) -> list[DriftCheck]:
    return compare(now, NAMES, THRESHOLD, before or baseline(), [0.5, 0.5])


def test_forty_records_without_a_change_are_too_few_to_say_anything() -> None:
    checks = check(scores(40, 1))

    assert len(checks) == 4
    assert {each.verdict for each in checks} == {"too few records to say"}
    assert overall(checks) == "too few records to say"


def test_five_thousand_records_without_a_change_are_fine() -> None:
    checks = check(scores(5000, 1))

    assert {each.verdict for each in checks} == {"fine"}
    assert overall(checks) == "fine"


def test_forty_records_suffice_for_a_change_nobody_could_miss() -> None:
    checks = check(scores(40, 1, bicycles=0.0))

    assert overall(checks) == "look"


def test_a_less_sure_model_changes_the_review_rate_but_not_the_class_balance() -> None:
    verdicts = {each.name: each.verdict for each in check(scores(3000, 1, sure=0.4))}

    assert verdicts["review rate"] == "look"
    assert verdicts["class balance, bicycle"] == "fine"


def test_a_change_of_the_fleet_changes_the_class_balance_but_not_the_review_rate() -> None:
    verdicts = {each.name: each.verdict for each in check(scores(3000, 1, bicycles=0.75))}

    assert verdicts["class balance, bicycle"] == "look"
    assert verdicts["review rate"] == "fine"


def test_among_a_million_records_a_real_but_tiny_change_does_not_cry_wolf() -> None:
    checks = check(scores(1_000_000, 1, bicycles=0.51))

    balance = next(each for each in checks if each.name.startswith("class balance"))
    assert balance.p < 1e-6
    assert overall(checks) == "fine"


def test_a_baseline_that_is_too_small_differs_from_too_few_records() -> None:
    review = check(scores(100_000, 1), baseline(30))[-1]

    assert (review.verdict, review.needed) == ("too few records to say", None)


@pytest.mark.parametrize("more", [1.1, 4])
def test_with_the_needed_records_there_is_a_verdict(more: float) -> None:
    few = check(scores(40, 1))
    needed = max(each.needed or 0 for each in few)

    assert {each.verdict for each in check(scores(int(needed * more), 2))} == {"fine"}
    assert needed > 40


@pytest.mark.long
def test_reports_without_a_change_say_look_in_fewer_than_one_of_twenty() -> None:
    alarms = sum(overall(check(scores(400, seed), baseline(400, 10_000 + seed))) == "look" for seed in range(200))

    assert alarms <= 10


@pytest.mark.long
def test_a_noticeable_change_is_noticed() -> None:
    """The power behind a verdict equals the detection rate of simulated shifts of exactly that size."""
    before = baseline(1000)
    expected = check(scores(300, 0), before)[2]
    noticed = sum(check(scores(300, seed, bicycles=0.625, sure=0.001), before)[2].p < 0.05 for seed in range(200))

    assert noticed / 200 >= expected.power - 0.05


def test_rounding_in_the_baseline_is_not_a_change() -> None:
    """Nearly all scores of a sure model lie above 0.999995, which a baseline of five decimals keeps as 1."""
    now = scores(2000, 1, sure=0.02)
    before = Baseline(list(NAMES), scores(2000, 2, sure=0.02).round(5).tolist(), dict.fromkeys(NAMES, 0.5))

    assert overall(check(now, before)) == "fine"


def test_the_stability_index_is_the_textbook_one() -> None:
    now, before = np.array([3000, 7000]), np.array([5000, 5000])

    assert stability_index(now, before) == pytest.approx(0.2 * np.log(0.5 / 0.3) + 0.2 * np.log(0.7 / 0.5), rel=1e-3)


def test_an_empty_bin_leaves_the_index_finite() -> None:
    assert PSI_THRESHOLD < stability_index(np.array([0, 100]), np.array([100, 0])) < np.inf


def test_certainty_belongs_to_the_last_bin() -> None:
    assert histogram(np.array([0.0, 1.0])).tolist() == [1, *[0] * 18, 1]


def test_p_values_are_corrected_for_the_number_of_questions() -> None:
    alone = compare(scores(500, 3, bicycles=0.56), NAMES, THRESHOLD, None, [0.5, 0.5])[0]
    among = check(scores(500, 3, bicycles=0.56))[2]

    assert alone.p < among.p <= 4 * alone.p


def test_each_of_three_classes_is_tested() -> None:
    chance = np.random.default_rng(0)
    now = chance.dirichlet([0.1, 0.1, 0.1], size=500)
    names = ("bicycle", "motorcycle", "van")
    before = Baseline(list(names), chance.dirichlet([0.1, 0.1, 0.1], size=500).tolist(), dict.fromkeys(names, 1 / 3))

    checks = compare(now, names, THRESHOLD, before, [1 / 3] * 3)

    assert len(checks) == 10
    assert sum("van" in each.name for each in checks) == 3


def test_nothing_to_compare_with_gives_no_verdict() -> None:
    assert compare(scores(100, 1), NAMES, THRESHOLD, None, None) == []
    assert compare(scores(0, 1), NAMES, THRESHOLD, baseline(), [0.5, 0.5]) == []
    assert overall([]) == "too few records to say"
