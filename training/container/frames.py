"""The frames that the detector learns from: whole photos, nearer or farther, mirrored, in other light."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .assignment import Target
from .examples import Example, draw_weights
from .looking import GREY, Box

# The share of frames from photos without a vehicle.
NOTHING_SHARE = 0.4
# A photo is enlarged by this factor on top of the server's, and stretched a little.
ENLARGED = (0.5, 1.5)
STRETCHED = 0.1
# Half of the photos that fit lie where the server puts them.
CORNER_SHARE = 0.5
# If less of a vehicle is left in the frame, or if it is smaller in pixels, finding it is optional.
LEAST_VISIBLE, LEAST_SIDE = 0.4, 8.0
LIGHT_SHARE, NOISE_SHARE, NOISE_DEVIATION = 0.8, 0.15, 12.0


@dataclass(frozen=True)
class Placed:
    """Where a photo lies in its frame: enlarged across and down, moved, perhaps mirrored before that."""

    across: float
    down: float
    left: int
    top: int
    width: int
    mirrored: bool

    def moved(self, box: Box) -> tuple[float, float, float, float]:
        """Return a box of the photo as it lies in the frame."""
        left, right = box[0] * self.across, box[2] * self.across
        if self.mirrored:
            left, right = self.width - right, self.width - left
        return left + self.left, box[1] * self.down + self.top, right + self.left, box[3] * self.down + self.top


class Frames:
    """Draws frames with their vehicles: every class alike, and photos without one."""

    def __init__(self, examples: Sequence[Example], classes: int, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - drawn to be repeated, not to be secret
        self.generator = torch.Generator().manual_seed(seed)
        self.parts: list[tuple[list[Example], list[float], bool]] = []
        searched = [example for example in examples if example.searched]
        for number in range(classes + 1):
            rows = [
                example
                for example in searched
                if any(kind == number for kind, _ in example.vehicles)
                or (number == classes and example.label == classes and not example.vehicles and not example.unsure)
            ]
            if rows:
                self.parts.append(
                    (rows, draw_weights([example.origin for example in rows]).tolist(), number == classes)
                )

    def __bool__(self) -> bool:
        """Return whether there is any vehicle with a box to learn from."""
        return any(not nothing for _, _, nothing in self.parts)

    def draw(self, count: int, side: int) -> tuple[Tensor, list[Target]]:
        """Draw frames: RGB values 0 … 255 [count, 3, side, side], and their vehicles."""
        frames, targets = zip(*(self._one(side) for _ in range(count)), strict=True)
        return torch.stack(frames).contiguous(memory_format=torch.channels_last), list(targets)

    def _one(self, side: int) -> tuple[Tensor, Target]:
        shares = [NOTHING_SHARE if nothing else (1 - NOTHING_SHARE) for _, _, nothing in self.parts]
        ((rows, weights, _),) = self.random.choices(self.parts, shares)
        (example,) = self.random.choices(rows, weights)
        photo = Image.fromarray(example.pixels)
        placed, photo = self._place(photo, side)
        frame = Image.new("RGB", (side, side), (GREY,) * 3)
        frame.paste(photo, (placed.left, placed.top))
        return self._lit(torch.from_numpy(np.array(frame)).permute(2, 0, 1).float()), target(example, placed, side)

    def _place(self, photo: Image.Image, side: int) -> tuple[Placed, Image.Image]:
        enlarged = side / max(photo.size) * math.exp(self.random.uniform(*map(math.log, ENLARGED)))
        stretched = math.exp(self.random.uniform(-STRETCHED, STRETCHED))
        across, down = enlarged * stretched, enlarged / stretched
        size = max(8, round(photo.width * across)), max(8, round(photo.height * down))
        filter_ = self.random.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))
        photo = photo.resize(size, filter_, reducing_gap=3.0)
        left, top = (self.random.randint(min(0, side - length), max(0, side - length)) for length in size)
        if max(size) <= side and self.random.random() < CORNER_SHARE:
            left = top = 0
        mirrored = self.random.random() < 0.5
        if mirrored:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Placed(across, down, left, top, size[0], mirrored), photo

    def _lit(self, frame: Tensor) -> Tensor:
        """Change the light's strength and colour, and add noise."""
        if self.random.random() < LIGHT_SHARE:
            grey = frame.mean(dim=0, keepdim=True)
            frame = grey + (frame - grey) * self.random.uniform(0.5, 1.5)
            colour = torch.empty(3, 1, 1).uniform_(0.85, 1.15, generator=self.generator)
            frame = frame * self.random.uniform(0.7, 1.3) * colour
        if self.random.random() < NOISE_SHARE:
            deviation = self.random.uniform(0, NOISE_DEVIATION)
            frame = frame + deviation * torch.randn(frame.shape, generator=self.generator)
        return frame.clamp(0, 255)


def target(example: Example, placed: Placed, side: int) -> Target:
    """Return the vehicles to find in a frame; finding those that are cut off or tiny is optional."""
    boxes: list[tuple[float, ...]] = []
    classes: list[int] = []
    unsure: list[tuple[float, ...]] = []
    for kind, box in [*example.vehicles, *((None, box) for box in example.unsure)]:
        moved = placed.moved(box)
        inside = tuple(min(max(edge, 0.0), float(side)) for edge in moved)
        across, down = inside[2] - inside[0], inside[3] - inside[1]
        if across <= 0 or down <= 0:
            continue
        visible = across * down / max((moved[2] - moved[0]) * (moved[3] - moved[1]), 1e-6)
        if kind is not None and visible > LEAST_VISIBLE and max(across, down) > LEAST_SIDE:
            boxes.append(inside)
            classes.append(kind)
        else:
            unsure.append(inside)
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.long),
        torch.tensor(unsure, dtype=torch.float32).reshape(-1, 4),
    )
