"""container/train.py, run like a user and SageMaker: on a small data set, in seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional

from training.container import train
from training.container.examples import read_outliers
from training.container.network import EfficientNetLite0
from training.container.settings import THRESHOLD, Settings

ARGUMENTS = ["--seeds", "1", "--epochs", "2", "--steps-per-epoch", "16", "--network-side", "32", "--threads", "1"]


def draw(label: str, generator: np.random.Generator) -> Image.Image:
    """Draw two wheels, joined by a thin frame or a thick body: the essence of the task."""
    image = Image.new("RGB", (32, 32), tuple(int(value) for value in generator.integers(120, 255, 3)))
    pen = ImageDraw.Draw(image)
    x, y = (int(value) for value in generator.integers(0, 5, 2))
    for left in (x, x + 16):
        pen.ellipse((left, 14 + y, left + 11, 25 + y), outline="black", width=1 if label == "bicycle" else 3)
    if label == "motorcycle":
        pen.rectangle((x + 6, 8 + y, x + 22, 17 + y), fill="darkred")
    return image


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged")
    generator = np.random.default_rng(0)
    for split, count in (("train", 48), ("validation", 16)):
        for label in ("bicycle", "motorcycle"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                draw(label, generator).save(folder / split / label / f"{number}.png")
        (folder / "outliers" / split / "cat").mkdir(parents=True)
        for number in range(12):
            noise = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "outliers" / split / "cat" / f"{number}.png")
    return folder


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.container.train", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def options(staged: Path, out: Path) -> list[str]:
    return [
        *("--train", str(staged / "train"), "--validation", str(staged / "validation")),
        *("--outliers", str(staged / "outliers/train"), "--validation-outliers", str(staged / "outliers/validation")),
        *("--model-dir", str(out), "--classes", "bicycle,motorcycle", "--data-digest", "sha256:0"),
        *ARGUMENTS,
    ]


@pytest.fixture(scope="module")
def trained(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    done = run(options(staged, out))
    assert done.returncode == 0, done.stderr
    assert "seed=1 epoch=2/2 train_loss=" in done.stdout
    return out


def record(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "record.json").read_text())
    return content


def test_a_run_leaves_a_model_that_the_server_serves(trained: Path) -> None:
    from training.container.serve import create_app  # noqa: PLC0415

    app = create_app(trained / "model.onnx")
    assert app.state.class_names == ["bicycle", "motorcycle"]
    assert app.state.input_size == 32


def test_the_record_describes_the_training_and_its_data(trained: Path) -> None:
    found = record(trained)
    assert found["data_digest"] == "sha256:0"
    assert found["photos"] == {"train": 96, "validation": 32, "train_outliers": 12, "validation_outliers": 12}
    assert isinstance(found["settings"], dict)
    assert found["settings"]["epochs"] == 2
    assert isinstance(found["history"], list)
    assert len(found["history"]) == 2
    assert isinstance(found["versions"], dict)
    assert found["versions"]["torch"] == torch.__version__


def test_the_baseline_describes_the_scores_on_validation(trained: Path) -> None:
    baseline = json.loads((trained / "baseline.json").read_text())
    assert baseline["class_names"] == ["bicycle", "motorcycle"]
    assert baseline["photos"] == 32
    assert baseline["class_balance"] == {"bicycle": 0.5, "motorcycle": 0.5}
    assert len(baseline["histogram"]["edges"]) == 21
    for shares in baseline["histogram"]["scores"].values():
        assert len(shares) == 20
        assert sum(shares) == pytest.approx(1)
    assert len(baseline["scores"]) == 32
    confident = sum(max(row) >= 0.9 for row in baseline["scores"])
    assert baseline["review_rate"] == pytest.approx(1 - confident / 32)


def test_the_same_seed_gives_the_same_figures_in_sagemakers_way_too(
    staged: Path, trained: Path, tmp_path: Path
) -> None:
    """SageMaker names channels, hyperparameters and the model's folder in the environment."""
    done = run(
        [],
        SM_CHANNEL_TRAIN=str(staged / "train"),
        SM_CHANNEL_VALIDATION=str(staged / "validation"),
        SM_CHANNEL_OUTLIERS_TRAIN=str(staged / "outliers/train"),
        SM_CHANNEL_OUTLIERS_VALIDATION=str(staged / "outliers/validation"),
        SM_MODEL_DIR=str(tmp_path),
        SM_HP_CLASSES="bicycle,motorcycle",
        SM_HP_DATA_DIGEST="sha256:0",
        SM_HP_SEEDS="1",
        SM_HP_EPOCHS="2",
        SM_HP_STEPS_PER_EPOCH="16",
        SM_HP_NETWORK_SIDE="32",
        SM_HP_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    first, second = record(trained), record(tmp_path)
    for found in (first, second):
        del found["training_seconds"], found["training_processor_seconds"]
    assert first == second
    assert (trained / "model.onnx").read_bytes() == (tmp_path / "model.onnx").read_bytes()


def test_a_job_keeps_the_model_of_each_seed_beside_the_average(staged: Path, tmp_path: Path) -> None:
    """The files in SM_OUTPUT_DATA_DIR become the job's output.tar.gz."""
    model, kept = tmp_path / "model", tmp_path / "output"
    quick = ["--epochs", "1", "--steps-per-epoch", "2"]
    done = run([*options(staged, model), *quick, "--seeds", "2,3"], SM_OUTPUT_DATA_DIR=str(kept))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in kept.iterdir()) == ["seed-2", "seed-3"]
    files = {"baseline.json", "model.onnx", "record.json"}
    assert [{path.name for path in folder.iterdir()} for folder in (model, kept / "seed-2")] == [files, files]


def test_the_record_says_how_many_others_pass_the_threshold(staged: Path, trained: Path) -> None:
    held = read_outliers(staged / "outliers/validation")
    assert held
    passing = (train.run_exported(trained / "model.onnx", held.pixels).max(axis=1) >= THRESHOLD).sum()
    validation = record(trained)["validation"]
    assert isinstance(validation, dict)
    assert validation["outliers_accepted"] == passing / 12


def test_it_trains_without_outliers_too(staged: Path, tmp_path: Path) -> None:
    arguments = options(staged, tmp_path)
    at = arguments.index("--outliers")
    done = run(arguments[:at] + arguments[at + 4 :])
    assert done.returncode == 0, done.stderr
    assert record(tmp_path)["photos"] == {
        "train": 96,
        "validation": 32,
        "train_outliers": 0,
        "validation_outliers": 0,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--classes", "bicycle,tram"], "tram holds no PNG images: stage the data set first"),
        (["--train", "/nonexistent"], "holds no PNG images"),
        (["--network-side", "100"], "must be a multiple of 32"),
    ],
)
def test_an_error_is_one_line(staged: Path, tmp_path: Path, change: list[str], message: str) -> None:
    done = run([*options(staged, tmp_path), *change])
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def scored(probabilities: np.ndarray, labels: torch.Tensor) -> train.Scored:
    rows = torch.from_numpy(probabilities).double()
    return train.Scored(rows.log(), labels, torch.full((len(rows),), 1 / len(rows), dtype=torch.float64))


def test_calibration_finds_the_temperature_that_was_taken_away() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 2, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)[:, 0]
    overconfident = torch.softmax(logits * 2, dim=1).numpy()
    assert train.calibrate(scored(overconfident, labels), None) == pytest.approx(2, rel=0.05)


def test_the_first_epochs_see_smaller_images() -> None:
    settings = Settings(epochs=4, network_side=128)
    assert [train.side_of(epoch, settings) for epoch in range(1, 5)] == [96, 96, 128, 128]
    assert train.side_of(1, Settings(epochs=4, network_side=32)) == 32


def test_the_average_of_networks_is_that_of_their_weights_as_they_are_served() -> None:
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = EfficientNetLite0(2).train()
        network(torch.rand(8, 3, 64, 64))  # statistics other than those of the beginning
        networks.append(network.eval())
    images = torch.rand(4, 3, 64, 64)

    alone, both = train.average(networks[:1]), train.average(networks)

    with torch.inference_mode():
        torch.testing.assert_close(alone(images), networks[0](images), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in both.modules())
    first, second = (dict(network.folded().named_parameters()) for network in networks)
    assert dict(both.named_parameters()).keys() == first.keys()
    for name, weight in both.named_parameters():
        torch.testing.assert_close(weight, (first[name] + second[name]) / 2)


def test_sure_scores_of_outliers_raise_the_temperature() -> None:
    labels = torch.tensor([0, 1] * 50)
    photos = torch.softmax(2 * (functional.one_hot(labels, 2) - 0.5), dim=1).numpy()
    photos[0] = photos[0, ::-1]  # one is wrong, or no temperature is too low
    unsure = np.full((20, 2), 0.5, np.float32)
    sure = np.tile(np.array([[0.95, 0.05]], np.float32), (20, 1))
    known, nobody = scored(photos, labels), torch.zeros(20, dtype=torch.int64)
    assert train.calibrate(known, scored(sure, nobody)) > train.calibrate(known, scored(unsure, nobody))


def test_uniform_scores_lose_nothing_and_sure_ones_much() -> None:
    assert train.uniform_losses(torch.zeros(4, 3)).tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert train.uniform_losses(torch.tensor([[10.0, 0.0]])).item() > 4
