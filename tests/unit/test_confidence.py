"""Choosing a vehicle: the likeliest class, if it is likely enough."""

import pytest

from functions.decisions.classes import VehicleClass, parse_classes
from functions.threshold.confidence import LowConfidence, choose_vehicle

CLASSES = tuple(parse_classes("bicycle:1:near,motorcycle:2:far").values())


@pytest.mark.parametrize(
    ("inferences", "vehicle", "confidence"),
    [([0.95, 0.05], "bicycle", 0.95), ([0.0073, 0.9927], "motorcycle", 0.9927), ([0.9, 0.1], "bicycle", 0.9)],
)
def test_the_likeliest_class_is_chosen(inferences: list[float], vehicle: str, confidence: float) -> None:
    choice = choose_vehicle(inferences, CLASSES, 0.9)

    assert (choice.vehicle.name, choice.confidence) == (vehicle, confidence)


@pytest.mark.parametrize("inferences", [[0.52, 0.48], [0.1001, 0.8999], [0.5, 0.5]])
def test_below_the_threshold_a_person_decides_and_sees_every_score(inferences: list[float]) -> None:
    with pytest.raises(LowConfidence) as caught:
        choose_vehicle(inferences, CLASSES, 0.9)

    assert str(caught.value) == (f"bicycle {inferences[0]:.4f}, motorcycle {inferences[1]:.4f}: none reaches 0.9")


def test_any_number_of_classes_can_be_chosen_from() -> None:
    classes = (*CLASSES, VehicleClass("scooter", "3", "far"))

    assert choose_vehicle([0.01, 0.02, 0.97], classes, 0.9).vehicle == classes[2]


def test_scores_and_classes_must_match() -> None:
    with pytest.raises(ValueError, match=r"3 probabilities for 2 classes \(bicycle, motorcycle\)"):
        choose_vehicle([0.01, 0.02, 0.97], CLASSES, 0.9)
