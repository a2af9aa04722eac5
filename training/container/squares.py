"""The squares that the classifier learns from: cut out of whole photos as the detector will cut them, errors included.

A detector's box is never quite right: it includes the rider, leaves out a wheel, or surrounds a fence. The squares in
training have these faults too.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .examples import Example, ExampleOrigin, draw_weights
from .looking import SEARCHED_SIDE, Box, Pixels, cut, square_around, whole

# How much wider than a vehicle's box its square is; the server's factor lies in between.
MARGINS = (1.0, 2.0)
# A box is shifted by a tenth of its sides at most.
SHIFT = 0.1
# The shares of squares around vehicles that show the whole photo (if the vehicle has this share of its area), that
# reach up to a rider's head, and that leave out a part.
WHOLE_SHARE, WHOLE_AREA = 0.1, 0.04
RIDER_SHARE, RIDER_HEIGHT = 0.1, 1.0
PARTIAL_SHARE, PARTIAL_LOSS = 0.1, 0.35
# A vehicle whose longer side has fewer pixels than this is not shown if the photo has a larger one.
LEAST_SIDE = 18
# The shares of squares without a vehicle that show a detector's mistake, and that show a whole photo.
MISTAKEN_SHARE, NOTHING_WHOLE_SHARE = 0.45, 0.15
# The others lie anywhere; their side is a share in this range of the photo's shorter side. They may overlap a vehicle's
# box by this share of the smaller of the two.
ANYWHERE = (0.15, 0.9)
TOUCHED = 0.03
TRIES = 30


@dataclass(frozen=True)
class ClassPhotos:
    """The photos of one class, by number, and how likely each is drawn."""

    rows: list[int]
    weights: list[float]


class Squares:
    """Draws squares of each class, and of no vehicle, out of whole photos."""

    def __init__(
        self, examples: Sequence[Example], classes: int, mistaken: Mapping[int, Sequence[Box]], random_: random.Random
    ) -> None:
        """Sort the photos by class.

        Args:
            examples: photos of vehicles and of other things.
            classes: how many classes of vehicles there are.
            mistaken: the boxes that a detector found in photos without a vehicle, by the photo's number.
            random_: makes all random choices.
        """
        self.examples = examples
        self.random = random_
        self.mistaken = mistaken
        self.parts = [self._part(number) for number in range(classes)]
        self.parts.append(self._nothing(classes))

    def _part(self, number: int) -> ClassPhotos:
        rows = [
            row
            for row, example in enumerate(self.examples)
            if any(kind == number for kind, _ in example.vehicles) or (example.label == number and not example.vehicles)
        ]
        return ClassPhotos(rows, draw_weights([self.examples[row].origin for row in rows]).tolist())

    def _nothing(self, number: int) -> ClassPhotos:
        rows, origins = [], []
        for row, example in enumerate(self.examples):
            if example.label == number:
                rows.append(row)
                origins.append(example.origin)
            elif example.vehicles and example.origin.look != "small":
                # The surroundings of vehicles are not vehicles: they are one more source of each look.
                rows.append(row)
                origins.append(ExampleOrigin(example.origin.look, "surroundings"))
        return ClassPhotos(rows, draw_weights(origins).tolist() if rows else [])

    def draw(self, number: int, side: int) -> Pixels:
        """Draw a square [side, side, 3] of a class; the number after the last class means no vehicle."""
        part = self.parts[number]
        (row,) = self.random.choices(part.rows, part.weights)
        example = self.examples[row]
        pixels = example.pixels
        nothing = number == len(self.parts) - 1
        square = self._without(row, example, pixels) if nothing else self._around(example, number, pixels)
        return self.draw(number, side) if square is None else cut(pixels, square, side)

    def _around(self, example: Example, number: int, pixels: Pixels) -> Box:
        """Choose a square around a vehicle, with a detector's errors."""
        height, width = pixels.shape[:2]
        boxes = [box for kind, box in example.vehicles if kind == number]
        if not boxes or max(height, width) < SEARCHED_SIDE:
            return whole(width, height)
        sides = [max(box[2] - box[0], box[3] - box[1]) for box in boxes]
        least = min(LEAST_SIDE, max(sides))
        (box,) = self.random.choices(boxes, [side if side >= least else 0 for side in sides])
        across, down = box[2] - box[0], box[3] - box[1]
        fault = self.random.random()
        if fault < WHOLE_SHARE and across * down > WHOLE_AREA * width * height:
            return whole(width, height)
        edges = list(box)
        if fault < WHOLE_SHARE + RIDER_SHARE:
            edges[1] -= self.random.uniform(0, RIDER_HEIGHT) * down
        elif fault < WHOLE_SHARE + RIDER_SHARE + PARTIAL_SHARE:
            edge, loss = self.random.randrange(4), self.random.uniform(0, PARTIAL_LOSS)
            edges[edge] += (loss if edge < 2 else -loss) * (down if edge % 2 else across)
        return self._shaken((edges[0], edges[1], edges[2], edges[3]), width, height)

    def _without(self, row: int, example: Example, pixels: Pixels) -> Box | None:
        """Choose a square without a vehicle; None if several tries find none."""
        height, width = pixels.shape[:2]
        taken = [*(box for _, box in example.vehicles), *example.unsure]
        if not taken:
            chance, mistaken = self.random.random(), self.mistaken.get(row, ())
            if chance < NOTHING_WHOLE_SHARE or max(height, width) < SEARCHED_SIDE:
                return whole(width, height)
            if chance < NOTHING_WHOLE_SHARE + MISTAKEN_SHARE and mistaken:
                return self._shaken(self.random.choice(mistaken), width, height)
        for _ in range(TRIES):
            side = math.exp(self.random.uniform(*map(math.log, ANYWHERE))) * min(width, height)
            left, top = self.random.uniform(0, width - side), self.random.uniform(0, height - side)
            square = left, top, left + side, top + side
            if not any(_shared(square, box) > TOUCHED * min(side**2, _area(box)) for box in taken):
                return square
        return None

    def _shaken(self, box: Box, width: int, height: int) -> Box:
        """Move a box's edges a little, and choose how wide its square is."""
        across, down = box[2] - box[0], box[3] - box[1]
        left, top, right, bottom = (
            edge + self.random.uniform(-SHIFT, SHIFT) * length
            for edge, length in zip(box, (across, down) * 2, strict=True)
        )
        margin = math.exp(self.random.uniform(*map(math.log, MARGINS)))
        return square_around((left, top, right, bottom), width, height, margin)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)
