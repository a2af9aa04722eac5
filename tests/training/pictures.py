"""Drawn photos: two wheels joined by a thin frame or a thick body, small or somewhere in a larger picture."""

import numpy as np
from PIL import Image, ImageDraw

from loading_bay.model.dataset import Origin, Photo, Vehicle, encoded

NAMES = ["bicycle", "motorcycle"]
SIDE = 32
SMALL = Origin("small", "drawn", "whole")
# Photos larger than this are searched for vehicles.
SCENE = (192, 144)
STREET = Origin("street", "drawn", "whole")


def draw(label: str, generator: np.random.Generator) -> Image.Image:
    """Draw one vehicle that fills 32 × 32 pixels: the task, at a glance."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in generator.integers(120, 255, 3)))
    pen = ImageDraw.Draw(image)
    x, y = (int(value) for value in generator.integers(0, 5, 2))
    for left in (x, x + 16):
        pen.ellipse((left, 14 + y, left + 11, 25 + y), outline="black", width=1 if label == "bicycle" else 3)
    if label == "motorcycle":
        pen.rectangle((x + 6, 8 + y, x + 22, 17 + y), fill="darkred")
    return image


def small(label: str, name: str, generator: np.random.Generator) -> Photo:
    """Return a photo as small as those of CIFAR-100."""
    return Photo(name, label, encoded(draw(label, generator), SMALL, lossless=True), SMALL)


def noise(name: str, generator: np.random.Generator, size: tuple[int, int] = (SIDE, SIDE)) -> Photo:
    """Return a photo of nothing."""
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    origin = SMALL if max(size) <= SIDE else STREET
    return Photo(name, "cat", encoded(image, origin, lossless=True), origin)


def scene(label: str, name: str, generator: np.random.Generator) -> Photo:
    """Return a larger photo with one vehicle in it, and the vehicle's box."""
    image = Image.new("RGB", SCENE, tuple(int(value) for value in generator.integers(60, 200, 3)))
    side = int(generator.integers(64, 110))
    left, top = int(generator.integers(0, SCENE[0] - side)), int(generator.integers(0, SCENE[1] - side))
    image.paste(draw(label, generator).resize((side, side)), (left, top))
    vehicles = (Vehicle(label, (left, top, left + side, top + side)),)
    return Photo(name, label, encoded(image, STREET, vehicles), STREET, vehicles)
