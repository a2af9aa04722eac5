"""container/train.py, run like a user and SageMaker: on a small data set, in seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loading_bay.model import staging
from loading_bay.model.dataset import Dataset, Photo
from tests.training.pictures import NAMES, noise, scene, small
from training.container import train
from training.container.examples import Example, ExampleOrigin, read_examples
from training.container.looking import Model, Scores
from training.container.network import EfficientNetLite0
from training.container.settings import THRESHOLD, Settings
from training.container.weighing import Looked, weigh

MODEL = Path("training/model/model.onnx")
ARGUMENTS = ["--seeds", "1", "--epochs", "2", "--steps-per-epoch", "12", "--square-side", "32", "--threads", "1"]
ARGUMENTS += ["--detector-steps", "2"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "staged"
    generator = np.random.default_rng(0)

    def photos(count: int) -> list[Photo]:
        crops = [small(label, f"{number}.png", generator) for label in NAMES for number in range(count)]
        return [*crops, *(scene(label, f"scene-{number}.jpg", generator) for label in NAMES for number in range(4))]

    def others(count: int) -> list[Photo]:
        crops = [noise(f"{number}.png", generator) for number in range(count)]
        return [*crops, *(noise(f"scene-{number}.png", generator, (192, 144)) for number in range(2))]

    # The shipped model holds a detector too: training may begin with that one instead of the published one.
    data = Dataset(NAMES, photos(40), photos(12), photos(2), others(12), others(10), others(2), 0, "d", 1)
    staging.write(data, folder, MODEL)
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
        *("--detector", str(staged / "detector")),
        *("--model-dir", str(out), "--classes", "bicycle,motorcycle", "--data-digest", "sha256:0"),
        *ARGUMENTS,
    ]


@pytest.fixture(scope="module")
def trained(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    done = run(options(staged, out))
    assert done.returncode == 0, done.stderr
    assert "detector step=2/2 box_loss=" in done.stdout
    assert "seed=1 step=24/24 epoch=2/2 train_loss=" in done.stdout
    return out


def record(out: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((out / "record.json").read_text())
    return content


def test_a_run_leaves_a_model_that_the_server_serves(trained: Path) -> None:
    from training.container.serve import create_app  # noqa: PLC0415

    create_app(trained / "model.onnx")
    assert Model.load(trained / "model.onnx", threads=1).class_names == ["bicycle", "motorcycle"]


def test_the_record_describes_the_training_and_its_data(trained: Path) -> None:
    found = record(trained)
    assert found["data_digest"] == "sha256:0"
    assert found["photos"] == {
        "train": 88,
        "train_several": 0,
        "validation": 32,
        "train_outliers": 14,
        "validation_outliers": 12,
    }
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
        SM_CHANNEL_DETECTOR=str(staged / "detector"),
        SM_MODEL_DIR=str(tmp_path),
        SM_HP_CLASSES="bicycle,motorcycle",
        SM_HP_DATA_DIGEST="sha256:0",
        SM_HP_SEEDS="1",
        SM_HP_EPOCHS="2",
        SM_HP_STEPS_PER_EPOCH="12",
        SM_HP_DETECTOR_STEPS="2",
        SM_HP_SQUARE_SIDE="32",
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
    model = Model.load(trained / "model.onnx", threads=1)
    held = read_examples(staged / "outliers/validation", lambda _: 2, NAMES)
    passing = sum(max(model.answer(example.data, ("PNG", "JPEG")).probabilities) >= THRESHOLD for example in held)
    validation = record(trained)["validation"]
    assert isinstance(validation, dict)
    assert validation["outliers_accepted"] == passing / 12


def test_it_trains_without_outliers_too(staged: Path, tmp_path: Path) -> None:
    arguments = options(staged, tmp_path)
    at = arguments.index("--outliers")
    done = run([*arguments[:at], *arguments[at + 4 :], "--epochs", "1", "--steps-per-epoch", "2"])
    assert done.returncode == 0, done.stderr
    photos = record(tmp_path)["photos"]
    assert isinstance(photos, dict)
    assert (photos["train_outliers"], photos["validation_outliers"]) == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--classes", "bicycle,tram"], "tram contains no photos: stage the data set first"),
        (["--train", "/nonexistent"], "contains no photos"),
        (["--square-side", "100"], "must be a multiple of 32"),
        (["--detector", "/nonexistent"], "/nonexistent contains no detector to begin with"),
    ],
)
def test_an_error_is_one_line(staged: Path, tmp_path: Path, change: list[str], message: str) -> None:
    done = run([*options(staged, tmp_path), *change])
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def looked(logits: np.ndarray, labels: list[int], scores: Scores | None) -> Looked:
    examples = [Example(b"", label, ExampleOrigin("street", "s")) for label in labels]
    return Looked(examples, logits, [scores] * len(labels))


def test_answers_that_are_too_sure_are_weighed_less() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.cat([3 * torch.randn(8_000, 2, generator=generator), torch.full((8_000, 1), -30.0)], dim=1).double()
    labels = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator)[:, 0]

    weights = weigh(looked(2 * logits.numpy(), labels.tolist(), None), None)

    assert weights.small == pytest.approx(0.5, rel=0.1)


def test_the_detector_is_believed_as_far_as_it_is_right() -> None:
    """The classifier knows nothing here; the detector names a class of every photo."""
    named: list[Scores | None] = [(0.8, 0.1), (0.1, 0.8)]
    bicycle, motorcycle = named

    def surest(right: int) -> float:
        """Weigh a detector that is right about so many photos in a hundred of each class."""
        scores = [bicycle] * right + [motorcycle] * (100 - right) + [motorcycle] * right + [bicycle] * (100 - right)
        photos = [Example(b"", label, ExampleOrigin("street", "s")) for label in [0] * 100 + [1] * 100]
        seen = Looked(photos, np.zeros((200, 3)), scores)
        return float(seen.probabilities(weigh(seen, None)).max())

    assert surest(95) > 0.85
    assert surest(50) < 0.6


def test_other_things_that_look_like_vehicles_make_the_model_less_sure() -> None:
    vehicles = looked(np.tile([2.0, -2.0, 0.0], (50, 1)), [0] * 50, None)
    alike = looked(np.tile([2.0, -2.0, 0.0], (50, 1)), [2] * 50, None)
    unlike = looked(np.tile([-2.0, -2.0, 4.0], (50, 1)), [2] * 50, None)

    assert vehicles.probabilities(weigh(vehicles, alike)).max() < vehicles.probabilities(weigh(vehicles, unlike)).max()


def test_the_first_epochs_see_smaller_images() -> None:
    settings = Settings(epochs=4, square_side=160)
    assert [train.side_of(epoch, settings) for epoch in range(1, 5)] == [128, 128, 160, 160]
    assert train.side_of(1, Settings(epochs=4, square_side=32)) == 32


def test_the_average_of_networks_is_that_of_their_weights_as_they_are_served() -> None:
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = EfficientNetLite0(2).train()
        network(torch.rand(8, 3, 64, 64))  # moves the statistics away from their initial values
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


def test_photos_that_do_not_say_where_their_vehicle_is_get_the_box_that_the_detector_finds(trained: Path) -> None:
    """Photos decided on the review page come without boxes."""
    model = Model.load(trained / "model.onnx", threads=1)
    generator = np.random.default_rng(5)
    large, tiny = scene("bicycle", "a.jpg", generator), small("bicycle", "b.png", generator)
    unsaid = [Example(photo.data, 0, ExampleOrigin("own", "own")) for photo in (large, tiny)]

    first, second = train.located(unsaid, model)

    ((kind, (left, top, right, bottom)),) = first.vehicles
    assert kind == 0
    assert 0 <= left < right <= 192
    assert 0 <= top < bottom <= 144
    assert second.vehicles == ()
