"""The local stack's functions run with the deployed versions."""

import re
from pathlib import Path

import pytest

from loading_bay.stack.template import ROOT


def pins(lock: Path) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[\w.]+", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "code",
    ["functions/serialize", "functions/inference", "functions/threshold", "functions/review", "training/container"],
)
def test_deployed_packages_match_the_local_environment(code: str) -> None:
    required = pins(ROOT / code / "requirements.txt")

    assert required
    assert required <= pins(ROOT / "requirements" / "lock.txt")
