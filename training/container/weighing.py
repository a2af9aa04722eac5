"""The weights of the two networks' answers: a few numbers, set on validation photos as they are served.

The answer should be right for a photo with a vehicle, and unsure for other things: the loss is the cross-entropy to
the true class, and from the uniform distribution. A single temperature (Guo et al., 2017,
https://arxiv.org/abs/1706.04599) is the special case without the detector.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .examples import Example, validation_weights
from .looking import Found, Model, Scores, Weights, cut, log_scores, looked_at, scores_of, without_nothing

# The share of other things in the loss: fewer of them arrive than vehicles (40 in 236 requests to public endpoints of
# this kind), but one that is accepted costs more than a vehicle that goes to review.
OUTLIER_SHARE = 1 / 3
STEPS, RATE = 400, 0.05


@dataclass(frozen=True)
class Looked:
    """Both networks' answers for photos: logits [N, classes + 1], and the detector's scores if it searched them."""

    examples: list[Example]
    logits: NDArray[np.float64]
    scores: list[Scores | None]

    def probabilities(self, weights: Weights) -> NDArray[np.float64]:
        """Return the probabilities that are served [N, classes]."""
        rows = [
            without_nothing(weights.shares(row, scores)) for row, scores in zip(self.logits, self.scores, strict=True)
        ]
        return np.array(rows).reshape(-1, self.logits.shape[1] - 1)


def first_found(model: Model, examples: Sequence[Example]) -> list[Found | None]:
    """Return the most prominent vehicle found in each photo."""
    found = []
    for example in examples:
        everything = model.find(example.pixels)
        found.append(everything[0] if everything else None)
    return found


def squares_of(examples: Sequence[Example], found: Sequence[Found | None], side: int) -> NDArray[np.uint8]:
    """Cut out the classifier's squares: uint8 [N, side, side, 3]."""
    squares = np.empty((len(examples), side, side, 3), np.uint8)
    for number, (example, place) in enumerate(zip(examples, found, strict=True)):
        pixels = example.pixels
        squares[number] = cut(pixels, looked_at(pixels, place), side)
    return squares


def look(
    model: Model, examples: Sequence[Example], found: Sequence[Found | None], squares: NDArray[np.uint8]
) -> Looked:
    """Run the exported classifier on squares, one by one as it is served."""
    classes = len(model.class_names)
    rows = [model.logits([square])[0] for square in squares]
    scores = [scores_of(each.pixels, place, classes) for each, place in zip(examples, found, strict=True)]
    return Looked(list(examples), np.array(rows).reshape(-1, classes + 1), scores)


def weigh(vehicles: Looked, others: Looked | None) -> Weights:
    """Find the weights with the least loss on validation photos."""
    known = _Weighed(vehicles)
    unknown = _Weighed(others) if others and others.examples else None
    share = OUTLIER_SHARE if unknown else 0.0

    def loss(numbers: Tensor) -> Tensor:
        total = (1 - share) * known.loss(numbers)
        return total + share * unknown.sureness(numbers) if unknown else total

    return _weights(_least(loss))


class _Weighed:
    """The same as tensors, for a loss with a gradient."""

    def __init__(self, looked: Looked) -> None:
        self.logits = torch.from_numpy(looked.logits)
        self.labels = torch.tensor([example.label for example in looked.examples])
        self.importance = validation_weights(looked.examples)
        self.searched = torch.tensor([scores is not None for scores in looked.scores])
        unasked = (1.0,) * (self.logits.shape[1] - 1)
        rows = [log_scores(unasked if scores is None else scores) for scores in looked.scores]
        self.scores = torch.from_numpy(np.array(rows).reshape(self.logits.shape))

    def answers(self, numbers: Tensor) -> Tensor:
        """Return the logarithms of the served probabilities [N, classes], as `Weights.shares` computes them."""
        classifier, detector, nothing, small, small_nothing = numbers
        last = functional.one_hot(torch.tensor(self.logits.shape[1] - 1), self.logits.shape[1])
        searched = classifier.exp() * self.logits + detector.exp() * self.scores + nothing * last
        unsearched = small.exp() * self.logits + small_nothing * last
        shares = torch.where(self.searched[:, None], searched, unsearched).softmax(dim=1)
        classes = shares.shape[1] - 1
        return (shares[:, :-1] + shares[:, -1:] / classes).clamp_min(1e-12).log()

    def loss(self, numbers: Tensor) -> Tensor:
        """Return the cross-entropy to the true classes in nats."""
        losses = functional.nll_loss(self.answers(numbers), self.labels, reduction="none")
        return self.importance @ losses

    def sureness(self, numbers: Tensor) -> Tensor:
        """Return the cross-entropy from the uniform distribution in nats, 0 when quite unsure."""
        answers = self.answers(numbers)
        return self.importance @ (-answers.mean(dim=1) - math.log(answers.shape[1]))


def _least(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Minimise the loss, from the weights of a well-trained network: its logits as they are, the detector's half."""
    numbers = torch.tensor([0.0, math.log(0.5), 0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([numbers], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        value: Any = loss(numbers)
        value.backward()
        optimizer.step()
        schedule.step()
    return numbers.detach()


def _weights(numbers: Tensor) -> Weights:
    classifier, detector, nothing, small, small_nothing = numbers.tolist()
    return Weights(
        classifier=round(math.exp(classifier), 4),
        detector=round(math.exp(detector), 4),
        nothing=round(nothing, 4),
        small=round(math.exp(small), 4),
        small_nothing=round(small_nothing, 4),
    )
