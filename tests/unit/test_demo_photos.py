"""The outcomes that the demo expects, and its sentence about the model's test images."""

import dataclasses

from loading_bay.local.photos import DemoPhoto, misrouted_test_images, sample_photos

TESTED = DemoPhoto("tested.png", b"", frozenset({"ROUTED", "REVIEW"}), "bicycle", is_test=True)


def test_a_sample_that_goes_to_the_wrong_bay_is_unexpected() -> None:
    sample = next(photo for photo in sample_photos() if photo.name == "bicycle-road.jpg")

    assert sample.is_as_expected("ROUTED", "bicycle")
    assert not sample.is_as_expected("ROUTED", "motorcycle")


def test_a_models_error_is_not_a_fault_of_the_stack_but_a_missing_outcome_is() -> None:
    assert TESTED.is_as_expected("ROUTED", "motorcycle")
    assert TESTED.is_as_expected("REVIEW", "")
    assert not TESTED.is_as_expected("REJECTED", "")
    assert not TESTED.is_as_expected("no outcome", "")


def test_test_images_in_the_wrong_bay_are_counted_and_named() -> None:
    photos = [*sample_photos(), TESTED, dataclasses.replace(TESTED, name="other.png")]
    outcomes = {photo.name: ("ROUTED", "motorcycle") for photo in photos}  # the samples' outcomes do not matter here

    assert misrouted_test_images(photos, outcomes | {"other.png": ("REVIEW", "")}) == (
        "of 2 test images the model sent 1 to the wrong bay: tested.png (bicycle)"
    )
    assert misrouted_test_images(photos, dict.fromkeys(outcomes, ("ROUTED", "bicycle"))) == (
        "of 2 test images the model sent none to the wrong bay"
    )
