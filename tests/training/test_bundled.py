"""The bundled recipe on this machine: seeds trained, one chosen by validation, all measured on the test."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stack.errors import UserError
from tests.training.test_train import draw
from training import bundled, staging
from training.dataset import Dataset, Photo

OPTIONS = ["--epochs", "1", "--steps-per-epoch", "16", "--network-side", "32", "--threads", "1"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np  # noqa: PLC0415

    generator = np.random.default_rng(1)

    def photos(count: int) -> list[Photo]:
        return [
            Photo(f"{number}.png", label, np.asarray(draw(label, generator)))
            for label in ("bicycle", "motorcycle")
            for number in range(count)
        ]

    def others(count: int) -> list[Photo]:
        noise = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return [Photo(f"{number}.png", "cat", image) for number, image in enumerate(noise)]

    folder = tmp_path_factory.mktemp("data") / "staged"
    staging.write(
        Dataset(
            ["bicycle", "motorcycle"], photos(48), photos(12), photos(10), others(9), others(8), others(7), 0, "d", 1
        ),
        folder,
    )
    return folder


def test_the_best_seed_by_validation_is_kept_with_the_record_of_all(staged: Path, tmp_path: Path) -> None:
    epochs: list[bundled.Epoch] = []
    best, runs = bundled.train(staged, tmp_path, [1, 2], OPTIONS, epochs.append)
    assert [(epoch.seed, epoch.number, epoch.of) for epoch in epochs] == [(1, 1, 1), (2, 1, 1)]
    assert best.rank == min(run.rank for run in runs)
    assert (tmp_path / "model.onnx").read_bytes() == (best.folder / "model.onnx").read_bytes()
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["data_digest"] == "d"
    assert record["test"]["photos"] == 20
    assert record["test"]["outliers"] == 7
    each = [row["test"]["accuracy"] for row in record["seeds"]["each"]]
    assert record["seeds"]["test_mean"]["accuracy"] == pytest.approx(sum(each) / 2)
    assert record["settings"]["seed"] == best.seed

    def accepting(share: float, loss: float) -> bundled.Trained:
        history, validation = [{"loss": loss, "outlier_loss": 0.0}], {"outliers_accepted": share}
        return replace(best, record=best.record | {"history": history, "validation": validation})

    too_many, cautious, better = accepting(0.03, 0.1), accepting(0.02, 0.3), accepting(0.01, 0.2)
    assert sorted([too_many, cautious, better], key=lambda run: run.rank) == [better, cautious, too_many]


def test_a_failing_run_ends_in_its_last_line(staged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training failed: Error: .*multiple of 32"):
        bundled.train(staged, tmp_path, [1], ["--network-side", "33"], lambda epoch: None)


def test_an_unstaged_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m training stage"):
        bundled.train(tmp_path, tmp_path, [1], [], lambda epoch: None)
