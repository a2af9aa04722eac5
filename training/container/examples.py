"""Staged photos in memory, and how often each is drawn: every look of a class has its share of the batches.

Without this, the classifier would recognise a class whose photos come from few places by the place. Each staged
photo's file holds its look, its source, and the boxes of its vehicles.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .looking import SEARCHED_SIDE, Box, Pixels

# The share of each look in the drawn photos; an absent look leaves its share to the others.
LOOK_SHARES = {"small": 0.2, "street": 0.45, "phone": 0.2, "cctv": 0.15, "object": 0.35, "studio": 0.05}
# The same for the user's photos.
OWN_SHARE = 0.4
# A look with fewer validation photos than this counts for less: otherwise a single photo would decide.
ENOUGH_TO_COUNT = 20
UNSURE = "unsure"


@dataclass(frozen=True)
class ExampleOrigin:
    """Where a staged photo comes from: the look of its source, and the source.

    `weight` is the number of photos of its source that it stands for.
    """

    look: str = ""
    source: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class Example:
    """One staged photo: its encoded file, class number, origin, its vehicles' boxes by class number, unsure places.

    The class number is the number of classes for a photo without a vehicle, and one more for one with several kinds.
    Boxes are in the photo's pixels.
    """

    data: bytes
    label: int
    origin: ExampleOrigin = ExampleOrigin()
    vehicles: tuple[tuple[int, Box], ...] = ()
    unsure: tuple[Box, ...] = ()

    @property
    def searched(self) -> bool:
        """Return whether the detector searches it: smaller pictures are already crops."""
        with Image.open(io.BytesIO(self.data), formats=("PNG", "JPEG")) as image:
            return max(image.size) >= SEARCHED_SIDE

    @property
    def pixels(self) -> Pixels:
        """Return the RGB pixels [H, W, 3]."""
        with Image.open(io.BytesIO(self.data), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))


def read_examples(folder: Path | None, label_of: Callable[[str], int], class_names: Sequence[str]) -> list[Example]:
    """Read `<folder>/<label>/*` in sorted order; the list is empty without a folder.

    Args:
        folder: a staged split.
        label_of: gives the class number of a label.
        class_names: of the vehicles' classes, in order.

    Raises:
        click.ClickException: a file does not say where it comes from.
    """
    files = sorted(folder.glob("*/*")) if folder else []
    return [_read(file, label_of(file.parent.name), class_names) for file in files]


def read_labelled(folder: Path, class_names: Sequence[str]) -> list[Example]:
    """Read `<folder>/<class>/*` of every class.

    Raises:
        click.ClickException: the photos of a class are missing.
    """
    found = read_examples(folder, lambda name: class_names.index(name) if name in class_names else -1, class_names)
    for number, name in enumerate(class_names):
        if not any(example.label == number for example in found):
            raise click.ClickException(f"{folder / name} contains no photos: stage the data set first")
    return [example for example in found if example.label >= 0]


def _read(file: Path, label: int, class_names: Sequence[str]) -> Example:
    data = file.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            content = json.loads(image.info.get("staged") or image.info.get("comment") or "null")
        boxes = [(kind, (left, top, right, bottom)) for kind, left, top, right, bottom in content["vehicles"]]
        origin = ExampleOrigin(content["look"], content["source"], content.get("weight", 1.0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{file} does not say where it comes from: stage the data set first") from error
    return Example(
        data,
        label,
        origin,
        tuple((class_names.index(kind), box) for kind, box in boxes if kind in class_names),
        tuple(box for kind, box in boxes if kind == UNSURE),
    )


def draw_weights(origins: Sequence[ExampleOrigin]) -> Tensor:
    """Return how likely each photo is drawn [N], summing to 1.

    A look has the same share however many photos it has. Within a look, a source counts as the square root of its
    number of photos: a small source is neither drowned by a large one nor learned by heart. Within a source, the photos
    are drawn by their weights.
    """
    sources = Counter((origin.look, origin.source) for origin in origins)
    totals: dict[tuple[str, str], float] = {}
    for origin in origins:
        totals[origin.look, origin.source] = totals.get((origin.look, origin.source), 0.0) + origin.weight
    roots: dict[str, float] = {}
    for (look, _), count in sources.items():
        roots[look] = roots.get(look, 0.0) + math.sqrt(count)
    weights = torch.tensor(
        [
            LOOK_SHARES.get(origin.look, OWN_SHARE)
            / roots[origin.look]
            * math.sqrt(sources[origin.look, origin.source])
            * (origin.weight / totals[origin.look, origin.source])
            for origin in origins
        ],
        dtype=torch.float64,
    )
    return weights / weights.sum()


def validation_weights(examples: Sequence[Example]) -> Tensor:
    """Return how much each validation photo counts [N], summing to 1: classes alike, looks by their shares.

    Within a look of a class, the photos count by their weights.
    """
    looks = Counter((example.label, example.origin.look) for example in examples)
    totals: dict[tuple[int, str], float] = {}
    for example in examples:
        place = example.label, example.origin.look
        totals[place] = totals.get(place, 0.0) + example.origin.weight
    weights = torch.tensor(
        [
            LOOK_SHARES.get(example.origin.look, OWN_SHARE)
            * min(looks[example.label, example.origin.look] / ENOUGH_TO_COUNT, 1)
            * (example.origin.weight / totals[example.label, example.origin.look])
            for example in examples
        ],
        dtype=torch.float64,
    )
    labels = torch.tensor([example.label for example in examples])
    for label in labels.unique():
        weights[labels == label] /= weights[labels == label].sum()
    return weights / weights.sum()
