"""The loop: photos that fool the model in service, decided by people, make a model that is right on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from training import bundled, history, staging
from training.__main__ import main
from training.commands import retrain
from training.commands.options import console
from training.dataset import Dataset, Photo, Pixels

NAMES = ["bicycle", "motorcycle"]
OPTIONS = ["--epochs", "2", "--steps-per-epoch", "30", "--network-side", "32", "--threads", "2"]


def picture(label: str, look: str, generator: np.random.Generator) -> Pixels:
    """Draw waves: upright for a bicycle, level for a motorcycle; in the new look, rays and rings."""
    y, x = np.mgrid[0:32, 0:32]
    width, phase = 2 * np.pi / generator.uniform(6, 9), generator.uniform(0, 6)
    if look == "new":
        dx, dy = x - generator.uniform(12, 20), y - generator.uniform(12, 20)
        rays = np.arctan2(dy, dx) * generator.integers(6, 10)
        wave = np.sin((rays if label == "bicycle" else np.hypot(dx, dy) * width) + phase)
    else:
        angle = np.deg2rad((0 if label == "bicycle" else 90) + generator.uniform(-8, 8))
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * width + phase)
    shades = generator.uniform(60, 120, 3) + (wave[..., None] + 1) * generator.uniform(50, 90)
    pixels: Pixels = np.clip(shades + generator.normal(0, 8, (32, 32, 3)), 0, 255).astype(np.uint8)
    return pixels


def photos(count: int, seed: int, look: str = "known") -> list[Photo]:
    generator = np.random.default_rng(seed)
    return [
        Photo(f"{seed}-{label}-{k}.png", label, picture(label, look, generator))
        for label in NAMES
        for k in range(count)
    ]


def others(count: int, seed: int) -> list[Photo]:
    noise = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [Photo(f"{seed}-{k}.png", "cat", image) for k, image in enumerate(noise)]


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a staged data set and the model that was trained on it."""
    folder = tmp_path_factory.mktemp("champion")
    data = Dataset(
        NAMES, photos(60, 1), photos(16, 2), photos(30, 3), others(24, 4), others(16, 5), others(20, 6), 0, "d", 1
    )
    staging.write(data, folder / "staged")
    bundled.train(folder / "staged", folder / "model", [1], OPTIONS, lambda epoch: None)
    return folder


def test_a_retrained_model_is_better_on_what_fooled_the_one_before(
    champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for photo in photos(60, 7, "new"):
        path = tmp_path / "labels" / photo.label / photo.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo.pixels).save(path)

    def quickly(staged: Path, output: Path, seeds: Sequence[int], epochs: int | None) -> None:
        bundled.train(staged, output, seeds, OPTIONS, lambda epoch: None)

    monkeypatch.setattr(retrain, "train_here", quickly)
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    monkeypatch.setattr(console, "width", 200)
    model, data = str(champion / "model/model.onnx"), str(champion / "staged")
    arguments = ["--labels", str(tmp_path / "labels"), "--model", model, "--data", data]

    result = CliRunner().invoke(main, ["retrain", *arguments, "--output", str(tmp_path / "out"), "--threshold", "0.5"])

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    test, reviewed = found["sets"]
    (accuracy,) = (figure for figure in reviewed["figures"] if figure["key"] == "accuracy")
    assert accuracy["old"] < 0.5 < accuracy["new"]
    assert accuracy["verdict"] == "better"
    assert len(reviewed["mended"]) > len(reviewed["broken"])
    assert {"McNemar"} == {figure["test"] for figure in test["figures"] if figure["key"] in {"accuracy", "coverage"}}
    # What judged the two models taught neither.
    learned = {path.name for path in (tmp_path / "out/staged").rglob("7-*.png")}
    judged = set(reviewed["mended"]) | set(reviewed["broken"])
    assert judged
    assert not judged & learned
