"""The loop: people decide photos that fool the model in service, and the new model is right on them."""

import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from functions.decisions.decision import Decision
from functions.decisions.table import DecisionsTable
from loading_bay.cli.main import main
from loading_bay.cli.model import retrain
from loading_bay.cli.model.options import console
from loading_bay.local.stack import Options, Stack
from loading_bay.model import bundled, labels, staging
from loading_bay.model.dataset import Dataset, Origin, Photo, Pixels, encoded
from loading_bay.operations.review import decide
from loading_bay.stack.decisions import all_decisions

NAMES = ["bicycle", "motorcycle"]
SMALL = Origin("small", "own")
OPTIONS = ["--epochs", "2", "--steps-per-epoch", "30", "--square-side", "32", "--threads", "2"]
SHIPPED = Path("training/model/model.onnx")


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


def file(pixels: Pixels) -> bytes:
    return encoded(Image.fromarray(pixels), SMALL, lossless=True)


def photos(count: int, seed: int, look: str = "known") -> list[Photo]:
    generator = np.random.default_rng(seed)
    return [
        Photo(f"{seed}-{label}-{k}.png", label, file(picture(label, look, generator)), SMALL)
        for label in NAMES
        for k in range(count)
    ]


def others(count: int, seed: int) -> list[Photo]:
    noise = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [Photo(f"{seed}-{k}.png", "cat", file(image), SMALL) for k, image in enumerate(noise)]


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a staged data set and the model that was trained on it."""
    folder = tmp_path_factory.mktemp("champion")
    data = Dataset(
        NAMES, photos(60, 1), photos(16, 2), photos(30, 3), others(24, 4), others(16, 5), others(20, 6), 0, "d", 1
    )
    staging.write(data, folder / "staged", SHIPPED)
    bundled.train(folder / "staged", folder / "model", [1], OPTIONS, lambda epoch: None)
    return folder


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def settled(decisions: DecisionsTable, count: int, right: Callable[[Decision], bool]) -> list[Decision]:
    """Wait until this many photos are right; return all."""
    deadline = time.monotonic() + 240
    found = all_decisions(decisions)
    while sum(map(right, found)) < count:
        assert time.monotonic() < deadline, Counter((each.status, each.reason) for each in found if not right(each))
        time.sleep(1)
        found = all_decisions(decisions)
    return found


@pytest.fixture
def stack(champion: Path, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose endpoint serves the champion; a person decides every photo whose confidence is below 1."""
    parameters = {"ConfidenceThreshold": "1", "AuditShare": "0", "SecondOpinionShare": "0"}
    options = Options(model=champion / "model/model.onnx", parameters=parameters, wait_scale=0)
    folder = tmp_path / "stack"
    folder.mkdir()
    stack = Stack.up(folder, options, say=print)
    yield stack
    stack.down()


def test_peoples_decisions_correct_the_models_mistakes(
    stack: Stack, champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos with a new look need review, a person decides each, and the decisions are learned and held out."""
    inbox, s3 = stack.outputs["InboxBucket"], stack.client("s3")
    decisions = DecisionsTable(stack.client("dynamodb"), stack.outputs["DecisionsTable"])
    new = {f"uploads/{photo.label}/{photo.name}": photo for photo in photos(75, 7, "new")}
    for number, (key, photo) in enumerate(new.items(), start=1):
        s3.put_object(Bucket=inbox, Key=key, Body=png(photo.pixels))
        if number % 10 == 0:  # drivers do not all arrive at once
            settled(decisions, number, lambda each: each.in_queue("REVIEW") or each.status == "ROUTED")
    waiting = [each for each in all_decisions(decisions) if each.in_queue("REVIEW")]
    for each in waiting:
        decide(stack.deployed, each.photo, new[each.key].label, "ana")
    settled(decisions, len(waiting), lambda decision: bool(decision.label_etag))

    def quickly(staged: Path, output: Path, seeds: Sequence[int], epochs: int | None, quick: bool) -> None:
        bundled.train(staged, output, seeds, OPTIONS, lambda epoch: None)

    monkeypatch.setattr(retrain, "train_here", quickly)
    # Random claims decide which photos are held out; a third was sometimes too few to show a difference.
    monkeypatch.setattr(labels, "HELD_OUT_SHARE", 0.5)
    monkeypatch.setattr(console, "width", 200)
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    model, data = str(champion / "model/model.onnx"), str(champion / "staged")
    arguments = ["--labels", f"s3://{inbox}/labels/", "--model", model, "--data", data, "--threshold", "0.5"]

    result = CliRunner().invoke(main, ["model", "retrain", *arguments, "--output", str(tmp_path / "out")])

    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    test, reviewed = found["sets"]
    (accuracy,) = (figure for figure in reviewed["figures"] if figure["key"] == "accuracy")
    assert accuracy["old"] < 0.5 < accuracy["new"]
    assert accuracy["verdict"] == "better"
    assert len(reviewed["fixed"]) > len(reviewed["broken"])
    assert {"McNemar"} == {figure["test"] for figure in test["figures"] if figure["key"] in {"accuracy", "coverage"}}
    # Neither model was trained on the photos that compare them.
    kept = {path.stem for path in (tmp_path / "out/labels").rglob("*.photo")}
    learned = {path.stem for path in (tmp_path / "out/staged").rglob("*.png")} & kept
    judged = {Path(name).stem for name in [*reviewed["fixed"], *reviewed["broken"]]}
    assert learned
    assert judged
    assert judged <= kept - learned
