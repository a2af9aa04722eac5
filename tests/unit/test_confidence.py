"""Choosing a vehicle: the likeliest class, if it is likely enough."""

import pytest

from functions.decisions.chance import is_drawn
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


PHOTOS = [f"uploads/driver-{number % 50}/{number}.jpg#{number:032x}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_the_chosen_share_of_photos_is_drawn(share: float) -> None:
    chosen = [photo for photo in PHOTOS if is_drawn(photo, share, "salt")]

    assert len(chosen) / len(PHOTOS) == pytest.approx(share, rel=0.1)
    assert chosen == [photo for photo in PHOTOS if is_drawn(photo, share, "salt")]
    assert {photo for photo in PHOTOS if is_drawn(photo, share, "another salt")} != set(chosen)


@pytest.mark.parametrize(("share", "count"), [(0, 0), (1, len(PHOTOS))])
def test_none_or_all_photos_are_audited(share: float, count: int) -> None:
    assert sum(is_drawn(photo, share, "salt") for photo in PHOTOS) == count
