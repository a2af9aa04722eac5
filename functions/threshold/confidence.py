"""Decides whether the model is sure enough to route a driver."""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.decisions.classes import VehicleClass


class LowConfidence(Exception):
    """No class reaches the threshold: a person decides. Never retried."""


@dataclass(frozen=True)
class Choice:
    """The likeliest vehicle and its probability."""

    vehicle: VehicleClass
    confidence: float


def choose_vehicle(inferences: Sequence[float], classes: Sequence[VehicleClass], threshold: float) -> Choice:
    """Pick the likeliest class; `inferences` holds one probability per class, in order.

    Raises:
        LowConfidence: the likeliest class is below `threshold`; the message lists every score.
        ValueError: the number of probabilities is not the number of classes.
    """
    names = [each.name for each in classes]
    if len(inferences) != len(names):
        raise ValueError(f"{len(inferences)} probabilities for {len(names)} classes ({', '.join(names)})")
    best = max(range(len(names)), key=inferences.__getitem__)
    if inferences[best] < threshold:
        listed = ", ".join(f"{name} {score:.4f}" for name, score in zip(names, inferences, strict=True))
        raise LowConfidence(f"{listed}: none reaches {threshold:g}")
    return Choice(classes[best], inferences[best])
