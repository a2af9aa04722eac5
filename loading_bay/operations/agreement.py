"""How well reviewers agree: people's blind opinions about the same photos, and where they differ."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from functions.decisions.decision import Decision
from loading_bay.statistics import Kappa, Share, kappa, share

FEWEST = 30  # photos
FEWEST_BY_CHANCE = 5  # differences that chance alone would make; with fewer, kappa says more about the photos


@dataclass(frozen=True)
class ReviewerAgreement:
    """How well two people agree, or one with all others: `same` of their photos, and kappa; None if too few to say."""

    people: tuple[str, ...]
    same: Share
    kappa: Kappa | None


@dataclass(frozen=True)
class Agreements:
    """The agreement of each pair of reviewers and of each reviewer, and the decisions that two people disputed."""

    pairs: list[ReviewerAgreement]
    reviewers: list[ReviewerAgreement]
    disputed: list[Decision]


def agreements(decisions: Sequence[Decision], answers: Sequence[str]) -> Agreements:
    """Compare the first two opinions about each photo; a third is given only about some, so it does not count.

    Args:
        decisions: those of the table, with or without opinions.
        answers: every answer of the stack; opinions with an answer of earlier are not compared.
    """
    counts: dict[tuple[str, ...], np.ndarray] = defaultdict(lambda: np.zeros((len(answers), len(answers)), int))
    for decision in decisions:
        if not decision.opinions or not {each.answer for each in decision.opinions[:2]} <= set(answers):
            continue
        one, other = sorted(decision.opinions[:2], key=lambda opinion: opinion.by)
        said = answers.index(one.answer), answers.index(other.answer)
        counts[one.by, other.by][said] += 1
        counts[one.by,][said] += 1
        counts[other.by,][said[::-1]] += 1
    found = [_agreement(people, counts[people]) for people in sorted(counts)]
    return Agreements(
        [each for each in found if len(each.people) == 2],
        [each for each in found if len(each.people) == 1],
        [each for each in decisions if each.is_disputed],
    )


def _agreement(people: tuple[str, ...], counts: np.ndarray) -> ReviewerAgreement:
    of, same = int(counts.sum()), int(np.trace(counts))
    by_chance = counts.sum(axis=0) @ counts.sum(axis=1) / of
    is_enough = of >= FEWEST and of - by_chance >= FEWEST_BY_CHANCE
    return ReviewerAgreement(people, share(same, of), kappa(counts) if is_enough else None)
