"""Options that `up` refuses before it starts anything."""

from pathlib import Path

import pytest

from loading_bay.local.checks import check_model, check_parameters
from loading_bay.local.stack import MODEL
from loading_bay.stack.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ConfidenceTreshold", "0.8", "not define a parameter ConfidenceTreshold; did you mean ConfidenceThreshold?"),
        ("Nonsense", "1", "the template does not define a parameter Nonsense; it has VehicleClasses, "),
        ("ConfidenceThreshold", "2", "ConfidenceThreshold cannot be '2': a number from 0 to 1"),
        ("ConfidenceThreshold", "high", "a number from 0 to 1"),
        ("ConfidenceThreshold", "nan", "a number from 0 to 1"),
        ("WorkflowType", "FAST", "one of STANDARD, EXPRESS"),
        ("VehicleClasses", "bicycle", "it must match"),
        ("UploadPrefix", "no-slash", "it must match"),
    ],
)
def test_a_parameter_that_the_template_does_not_take_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        check_parameters({name: value})

    assert said in refused.value.message


def test_values_within_the_bounds_pass() -> None:
    check_parameters({"ConfidenceThreshold": "0.5", "LogRetentionDays": "7", "NotificationEmail": "a@example.com"})


def test_the_model_that_ships_fits() -> None:
    check_model(MODEL, {})


def test_a_file_that_is_not_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="is not a model for this endpoint"):
        check_model(Path(__file__), {})


def test_a_model_with_other_classes_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"was trained for bicycle, motorcycle, but the stack expects motorcycle, bicycle"
    ):
        check_model(MODEL, {"VehicleClasses": "motorcycle:2:far,bicycle:1:near"})
