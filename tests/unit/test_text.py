"""Readable durations."""

import numpy as np
import pytest

from loading_bay.stack.text import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.84 s"),
        (59.94, "59.9 s"),
        (np.int64(75), "1 min 15 s"),
        (np.float64(200.5), "3 min 20 s"),
        (7_200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_duration_has_its_largest_units_for_any_number(seconds: float, text: str) -> None:
    assert duration(seconds) == text
