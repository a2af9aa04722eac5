"""How well reviewers agree, and where they differ, as the command says it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from functions.decisions.decision import timestamp
from loading_bay.cli.main import main

from .test_decisions import NOW, put
from .test_operate import deployed  # noqa: F401 - fixture


def opine(table: Any, number: int, *opinions: tuple[str, str], **more: Any) -> None:
    """Put the record of a photo with these opinions, each the name of a person and the answer."""
    given = [{"id": f"{number} {by}", "by": by, "answer": answer, "at": timestamp(NOW)} for by, answer in opinions]
    record = {"reviewed_by": opinions[0][0], "vehicle": opinions[0][1], "opinions": given}
    put(table, f"{number}.jpg", "ROUTED", timedelta(minutes=number), **record | more)


def found(*options: str) -> str:
    done = CliRunner().invoke(main, ["review", "agreement", *options])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.usefixtures("deployed")
def test_the_agreement_of_pairs_and_of_reviewers_and_the_disputed_photos(table: Any) -> None:
    # Cells of a pair: 20 bicycles and 15 others alike, 5 and 2 different; in either order of the two people
    cells = [("bicycle", "bicycle")] * 20 + [("neither",) * 2] * 15 + [("bicycle", "neither")] * 5
    for number, (anas, bens) in enumerate([*cells, *[("neither", "bicycle")] * 2]):
        opinions = [("ana", anas), ("ben", bens)]
        opine(table, number, *opinions[:: 1 - 2 * (number % 2)])
    opine(table, 100, ("ana", "bicycle"), ("cem", "neither"), ("ben", "bicycle"))
    opine(table, 101, ("ana", "bicycle"), ("cem", "neither"), queue="SECOND#0", due_at=1)
    opine(table, 102, ("ana", "bicycle"), ("cem", "a class of earlier"))
    put(table, "other.jpg", "ROUTED", timedelta(minutes=200))

    answer = json.loads(found("--json"))

    pairs = {tuple(each["people"]): each for each in answer["pairs"]}
    assert set(pairs) == {("ana", "ben"), ("ana", "cem")}
    # By hand: 35 of 42 agree, chance makes (25 · 22 + 17 · 20) / 42² = 0.5045
    assert (pairs["ana", "ben"]["same"]["count"], pairs["ana", "ben"]["same"]["of"]) == (35, 42)
    assert pairs["ana", "ben"]["kappa"]["value"] == pytest.approx((35 / 42 - 890 / 1764) / (1 - 890 / 1764))
    assert (pairs["ana", "cem"]["same"]["of"], pairs["ana", "cem"]["kappa"]) == (2, None)
    reviewers = {each["people"][0]: each["same"]["of"] for each in answer["reviewers"]}
    assert reviewers == {"ana": 44, "ben": 42, "cem": 2}  # a third opinion does not count
    assert len(answer["disputed"]) == 10
    output = found()
    assert "100.jpg: bicycle (ana), neither (cem), bicycle (ben); recorded as bicycle\n" in output
    assert "101.jpg: bicycle (ana), neither (cem); recorded as bicycle; waits for a third person\n" in output
    assert "too few to say" in output
    assert "10 disputed" in output


@pytest.mark.usefixtures("deployed")
def test_with_one_answer_only_agreement_says_nothing_beyond_chance(table: Any) -> None:
    for number in range(60):
        opine(table, number, ("ana", "bicycle"), ("ben", "bicycle"))

    (pair,) = json.loads(found("--json"))["pairs"]

    assert (pair["same"]["value"], pair["kappa"]) == (1, None)
