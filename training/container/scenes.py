"""Scenes: vehicles cut out, reduced and put before other backgrounds, one alone or a row of them.

What a class is recognised by must be the vehicle and not the street it was photographed in. So a bicycle is put
into streets without one, and over the motorcycle of a photo; other things are pasted in the same way, so that what
was pasted is no sign of a vehicle either.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .examples import Examples, draw_weights

# The thing fills these crops, and small images, so that it can be cut out; "vehicle" and "person" are outliers.
TIGHT_SCALES = frozenset({"1.1", "vehicle", "person"})
TIGHT_LOOKS = frozenset({"small"})
# The vehicle fills about half of these, so that another one hides it.
HALF_SCALES = {"1.8": 1.8, "2.0": 2.0, "2.4": 2.4, "2.5": 2.5}
HIDING_SCALE = 1.4
REPLACING_SHARE = 0.35
# A border this bright on average is a white background, which is taken away by its brightness.
WHITE_BORDER = 205
ROW_SIZES = (1, 2, 3, 4)
ROW_SHARES = (0.4, 0.25, 0.2, 0.15)
# Of a scene's side.
VEHICLE_SIZE = (0.4, 0.85)

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Cutout:
    """A picture [S, S, 3] and how much of each pixel is the thing itself [S, S, 1], 0 … 1."""

    picture: Picture
    alpha: Picture

    def resized(self, side: int, mirrored: bool) -> "Cutout":
        """Return the same, reduced to side × side pixels."""
        both = np.concatenate([self.picture, 255 * self.alpha], axis=2).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(both, "RGBA").resize((side, side), Image.Resampling.BICUBIC)
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        reduced = np.asarray(image, np.float32)
        return Cutout(reduced[:, :, :3], reduced[:, :, 3:] / np.float32(255))


class Scenes:
    """Makes scenes of one kind, a class or outliers, out of its tight crops and other kinds' pictures."""

    def __init__(self, kind: Examples, others: Examples, backgrounds: Examples, random_: random.Random) -> None:
        """Prepare the cutouts.

        Args:
            kind: images of what is to be seen.
            others: images of labelled vehicles of other kinds, which are hidden.
            backgrounds: images of anything but vehicles.
            random_: what everything is drawn from.
        """
        self.random = random_
        self.cutouts, self.cutout_weights = cut_out(kind)
        self.others = others
        self.hidden = [row for row, origin in enumerate(others.origins) if origin.scale in HALF_SCALES]
        self.backgrounds = backgrounds
        self.background_weights = draw_weights(backgrounds.origins).tolist()

    def __bool__(self) -> bool:
        """Return whether there is anything to make scenes of."""
        return bool(self.cutouts)

    def draw(self) -> NDArray[np.uint8]:
        """Make one scene [side, side, 3]."""
        if self.hidden and self.random.random() < REPLACING_SHARE:
            return self.replaced()
        (row,) = self.random.choices(range(len(self.backgrounds)), self.background_weights)
        scene = self.backgrounds.pixels[row].numpy().astype(np.float32)
        side, count = len(scene), self.random.choices(ROW_SIZES, ROW_SHARES)[0]
        size = side * self.random.uniform(*VEHICLE_SIZE) / (1 + 0.25 * (count - 1))
        same, in_a_row = self.random.random() < 0.4, self.random.random() < 0.6
        cutout = self._cutout()
        left = self.random.uniform(-0.3 * size, 0.4 * side) if in_a_row else self.random.uniform(0, side - size)
        top = self.random.uniform(0, side - size)
        for _ in range(count):
            self._paste(scene, cutout, size * self.random.uniform(0.85, 1.15), left, top)
            cutout = cutout if same else self._cutout()
            if in_a_row:
                left += size * self.random.uniform(0.35, 0.85)
                top += size * self.random.uniform(-0.08, 0.08)
            else:
                left, top = self.random.uniform(0, side - size), self.random.uniform(0, side - size)
        return np.asarray(scene.clip(0, 255), np.uint8)

    def replaced(self) -> NDArray[np.uint8]:
        """Make one scene [side, side, 3] of a photo of another kind, whose vehicle is hidden."""
        row = self.random.choice(self.hidden)
        scene = self.others.pixels[row].numpy().astype(np.float32)
        side = len(scene)
        size = side * HIDING_SCALE * self.random.uniform(1, 1.2) / HALF_SCALES[self.others.origins[row].scale]
        corner = (side - size) / 2
        self._paste(scene, self._cutout(), size, corner, corner)
        return np.asarray(scene.clip(0, 255), np.uint8)

    def _cutout(self) -> Cutout:
        return self.random.choices(self.cutouts, self.cutout_weights)[0]

    def _paste(self, scene: Picture, cutout: Cutout, size: float, left: float, top: float) -> None:
        thing = cutout.resized(max(8, int(size)), self.random.random() < 0.5)
        brightness, own = self.random.uniform(0.8, 1.15), len(thing.picture)
        x, y, side = int(left), int(top), len(scene)
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + own, side), min(y + own, side)
        if x1 <= x0 or y1 <= y0:
            return
        inside = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
        alpha, behind = thing.alpha[inside], scene[y0:y1, x0:x1]
        scene[y0:y1, x0:x1] = behind * (1 - alpha) + thing.picture[inside] * brightness * alpha


def cut_out(examples: Examples) -> tuple[list[Cutout], Sequence[float]]:
    """Cut out what fills its picture or stands before white: the cutouts, and how often each is drawn."""
    cutouts, rows = [], []
    for row, origin in enumerate(examples.origins):
        picture = examples.pixels[row].numpy().astype(np.float32)
        if (on_white := _on_white(picture)) or origin.scale in TIGHT_SCALES or origin.look in TIGHT_LOOKS:
            cutouts.append(Cutout(picture, _bright(picture) if on_white else _rounded(len(picture))))
            rows.append(row)
    return cutouts, draw_weights([examples.origins[row] for row in rows]).tolist() if rows else []


def _on_white(picture: Picture) -> bool:
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return bool(border.min(axis=1).mean() > WHITE_BORDER)


def _bright(picture: Picture) -> Picture:
    return np.asarray(np.clip((250 - picture.min(axis=2, keepdims=True)) / 50, 0, 1), np.float32)


def _rounded(side: int) -> Picture:
    """Return a mask that fades out towards the edge along a superellipse."""
    along = np.abs(np.linspace(-1, 1, side))
    radius = (along[None] ** 3 + along[:, None] ** 3) ** (1 / 3)
    return np.asarray(np.clip((1.02 - radius) / 0.22, 0, 1)[:, :, None], np.float32)


def images_of(examples: Examples, wanted: Tensor) -> Examples:
    """Return the examples that a mask [N] chooses."""
    rows = wanted.nonzero()[:, 0]
    return Examples(examples.pixels[rows], examples.labels[rows], [examples.origins[row] for row in rows.tolist()])
