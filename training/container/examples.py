"""Staged images in memory, and how often each is drawn: every look of a class has its share of the batches.

A class whose photos come from few places is else recognised by the place. What a look is, and which one a source has,
is said in each staged PNG's own text.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

# Of what is drawn, how much is of each look; what is absent leaves its share to the others.
LOOK_SHARES = {"small": 0.3, "street": 0.4, "phone": 0.2, "cctv": 0.1}
# A folder of one's own photos.
OWN_SHARE = 0.4
# A look of fewer validation photos than this counts for less: one of them alone would decide.
ENOUGH_TO_COUNT = 20


@dataclass(frozen=True)
class Origin:
    """Where a staged image comes from: how its source looks, the source, how the vehicle was cropped."""

    look: str = ""
    source: str = ""
    scale: str = ""


@dataclass(frozen=True)
class Examples:
    """Images uint8 [N, side, side, 3], their class numbers int64 [N] (0 for outliers) and their origins [N]."""

    pixels: Tensor
    labels: Tensor
    origins: list[Origin]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    @property
    def side(self) -> int:
        """Return the width and height of each image in pixels."""
        return int(self.pixels.shape[1])


def read_examples(folder: Path, class_names: Sequence[str]) -> Examples:
    """Read `<folder>/<class>/*.png`, all of one size, in sorted order.

    Raises:
        click.ClickException: a class has no images, or their sizes differ.
    """
    files: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(class_names):
        found = sorted((folder / name).glob("*.png"))
        if not found:
            raise click.ClickException(f"{folder / name} holds no PNG images: stage the data set first")
        files += found
        labels += [number] * len(found)
    return _examples(files, labels, folder)


def read_outliers(folder: Path | None) -> Examples | None:
    """Read `<folder>/<any class>/*.png`; None where there are none."""
    files = sorted(folder.glob("*/*.png")) if folder else []
    return _examples(files, [0] * len(files), files[0].parent) if files else None


def _examples(files: Sequence[Path], labels: Sequence[int], folder: Path) -> Examples:
    images, origins = zip(*(_read(file) for file in files), strict=True)
    if len({image.shape for image in images}) != 1:
        raise click.ClickException(f"the images in {folder} differ in size: stage the data set first")
    return Examples(torch.from_numpy(np.stack(images)), torch.tensor(labels), list(origins))


def _read(file: Path) -> tuple[NDArray[np.uint8], Origin]:
    with Image.open(file, formats=("PNG",)) as image:
        pixels = np.asarray(image.convert("RGB"))
        return pixels, Origin(*(str(image.info.get(key, "")) for key in ("look", "source", "scale")))


def draw_weights(origins: Sequence[Origin]) -> Tensor:
    """Return how likely each image is drawn [N], summing to 1.

    A look has its share whatever the number of its images. Of the sources of one look, each has the square root of its
    number: neither drowned by a large one nor, if small, learned by heart.
    """
    sources = Counter((origin.look, origin.source) for origin in origins)
    roots: Counter[str] = Counter()
    for (look, _), count in sources.items():
        roots[look] += math.sqrt(count)  # type: ignore[assignment]
    weights = torch.tensor(
        [
            LOOK_SHARES.get(origin.look, OWN_SHARE)
            / roots[origin.look]
            / math.sqrt(sources[origin.look, origin.source])
            for origin in origins
        ],
        dtype=torch.float64,
    )
    return weights / weights.sum()


def validation_weights(examples: Examples) -> Tensor:
    """Return how much each validation image counts [N], summing to 1: classes alike, looks by their shares."""
    cells = Counter(zip(examples.labels.tolist(), examples.origins, strict=True))
    looks: Counter[tuple[int, str]] = Counter()
    for (label, origin), count in cells.items():
        looks[label, origin.look] += count
    weights = torch.tensor(
        [
            LOOK_SHARES.get(origin.look, OWN_SHARE) / max(looks[label, origin.look], ENOUGH_TO_COUNT)
            for label, origin in zip(examples.labels.tolist(), examples.origins, strict=True)
        ],
        dtype=torch.float64,
    )
    for label in examples.labels.unique():
        weights[examples.labels == label] /= weights[examples.labels == label].sum()
    return weights / weights.sum()
