"""The bundled recipe on this machine: seeds are trained, averaged, and measured on the test split."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loading_bay.model import bundled, staging
from loading_bay.model.dataset import Dataset, Photo
from loading_bay.stack.errors import UserError
from tests.training.pictures import NAMES, noise, scene, small

MODEL = Path("training/model/model.onnx")
OPTIONS = ["--epochs", "1", "--steps-per-epoch", "16", "--square-side", "32", "--threads", "1"]
OPTIONS += ["--detector-steps", "1"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np  # noqa: PLC0415

    generator = np.random.default_rng(1)

    def photos(count: int) -> list[Photo]:
        crops = [small(label, f"{number}.png", generator) for label in NAMES for number in range(count)]
        return [*crops, *(scene(label, f"scene-{number}.jpg", generator) for label in NAMES for number in range(2))]

    def others(count: int) -> list[Photo]:
        return [noise(f"{number}.png", generator) for number in range(count)]

    folder = tmp_path_factory.mktemp("data") / "staged"
    data = Dataset(NAMES, photos(48), photos(12), photos(10), others(9), others(8), others(7), 0, "d", 1)
    crops = [small(label, f"crop-{number}.png", generator) for label in NAMES for number in range(3)]
    several = [scene("bicycle", "both.jpg", generator)]
    staging.write(replace(data, test_crops=crops, test_several=several), folder, MODEL)
    return folder


def test_seeds_are_averaged_and_the_record_has_each_of_them(staged: Path, tmp_path: Path) -> None:
    steps: list[bundled.TrainingStep] = []
    made, alone = bundled.train(staged, tmp_path, [1, 2], OPTIONS, steps.append)
    # Seed 0 is the detector, which both seeds share.
    counted = [(0, 1, 1), *((seed, number, 16) for seed in (1, 2) for number in (5, 10, 15, 16))]
    assert [(step.seed, step.number, step.of) for step in steps] == counted
    assert [bool(step.figures) for step in steps] == [True, *[False, False, False, True] * 2]
    assert made.seeds == [1, 2]
    assert [run.seeds for run in alone] == [[1], [2]]
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["data_digest"] == "d"
    test = record["test"]
    assert (test["whole"]["photos"], test["crops"]["photos"]) == (4, 6)
    assert (test["small"]["photos"], test["small"]["outliers"]) == (20, 7)
    assert test["several kinds accepted"]["of"] == 1
    assert record["settings"]["seeds"] == [1, 2]
    assert [(row["seed"], row["epoch"]) for row in record["history"]] == [(1, 1), (2, 1)]
    each = [row["test"]["small pictures/accuracy"] for row in record["seeds"]["each"]]
    assert record["seeds"]["test_mean"]["small pictures/accuracy"] == pytest.approx(sum(each) / 2)
    models = {(folder / "model.onnx").read_bytes() for folder in (tmp_path, tmp_path / "seed-1", tmp_path / "seed-2")}
    assert len(models) == 3


def test_one_seed_is_the_model_itself(staged: Path, tmp_path: Path) -> None:
    made, alone = bundled.train(staged, tmp_path, [2], OPTIONS, lambda epoch: None)
    assert alone == [made]
    assert list(tmp_path.glob("seed-*")) == []


def test_a_failing_run_ends_in_its_last_line(staged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training failed: Error: .*multiple of 32"):
        bundled.train(staged, tmp_path, [1], ["--square-side", "33"], lambda epoch: None)


def test_an_unstaged_folder_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="loading-bay model stage"):
        bundled.train(tmp_path, tmp_path, [1], [], lambda epoch: None)
