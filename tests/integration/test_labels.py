"""From photos that the model was unsure of to what a retraining learns: decided, kept as labels, fetched."""

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from operate.review import decide
from tests.integration.bay import Bay, picture, wait_for
from training.__main__ import main


def kept(bay: Bay, key: str) -> bool:
    return bool(bay.outcome(key).label)


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """Return a small staged data set, as a retraining adds to."""
    for label, colour in (("bicycle", "red"), ("motorcycle", "blue")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            size = (40 + number, 40)
            (tmp_path / "photos" / label / f"{number}.jpg").write_bytes(picture(colour, size=size))
    stage = ["stage", "--folder", str(tmp_path / "photos"), "--image-size", "32", "--output", str(tmp_path / "staged")]
    assert CliRunner().invoke(main, stage).exit_code == 0
    return tmp_path / "staged"


def test_what_people_decide_is_what_a_retraining_learns(
    bay: Bay, staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bay.stack.environment().items():
        monkeypatch.setenv(name, value)
    decided = {
        bay.upload(picture("grey", "PNG", size=(90, 60 + number)), f"loop/{number}.png"): label
        for number, label in enumerate(["bicycle", "motorcycle", "neither"] * 4)
    }
    for key, label in decided.items():
        wait_for(partial(bay.waits, key))
        decide(bay.stack.deployed, key, label, "ana")
    for key in decided:
        wait_for(partial(kept, bay, key))
    for label in ("bicycle", "motorcycle", "neither"):
        keys = [bay.outcome(key).label or "" for key in decided if decided[key] == label]
        assert all(key.startswith(f"labels/{label}/") for key in keys)

    labels = f"s3://{bay.bucket}/labels/"
    arguments = ["--data", str(staged), "--output", str(tmp_path / "retrained"), "--dry-run"]
    result = CliRunner().invoke(main, ["retrain", "--labels", labels, *arguments])

    assert result.exit_code == 0, result.output
    assert "Nothing was trained or changed" in " ".join(result.output.split())
    fetched = tmp_path / "retrained/labels"
    learned = {path.read_bytes() for path in (fetched / "motorcycle").iterdir()}
    uploaded = {picture("grey", "PNG", size=(90, 60 + number)) for number in range(12) if number % 3 == 1}
    assert uploaded <= learned
