"""Decides whether the model is sure enough to send a driver on its word."""

from collections.abc import Sequence
from dataclasses import dataclass


class LowConfidence(Exception):
    """No class reaches the threshold: a person decides. Never retried."""


@dataclass(frozen=True)
class Choice:
    """The likeliest vehicle and its probability."""

    vehicle: str
    confidence: float


def choose_vehicle(inferences: Sequence[float], class_names: Sequence[str], threshold: float) -> Choice:
    """Pick the likeliest class; `inferences` holds one probability per class, in order.

    Raises:
        LowConfidence: the likeliest class is below `threshold`; the message holds every score.
    """
    scores = dict(zip(class_names, inferences, strict=True))
    vehicle = max(scores, key=scores.__getitem__)
    if scores[vehicle] < threshold:
        listed = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
        raise LowConfidence(f"{listed}: none reaches {threshold:g}")
    return Choice(vehicle, scores[vehicle])
