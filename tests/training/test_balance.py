"""Batches hold looks in balance and vehicles as a detector cuts them; sharpness does not give a class away."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from loading_bay.model.dataset import Origin, encoded
from tests.training.pictures import draw
from training.container.augment import Augmenter
from training.container.examples import Example, ExampleOrigin, draw_weights, validation_weights
from training.container.squares import Squares

SIDE = 64
SMALL, STREET = ExampleOrigin("small", "cifar"), ExampleOrigin("street", "openimages")


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (200, 150)) -> Image.Image:
    return Image.new("RGB", size, colour)


def example(image: Image.Image, label: int, origin: ExampleOrigin, *boxes: tuple[int, tuple[float, ...]]) -> Example:
    vehicles = tuple((kind, (box[0], box[1], box[2], box[3])) for kind, box in boxes)
    return Example(encoded(image, Origin(), lossless=True), label, origin, vehicles)


def squares(examples: Sequence[Example]) -> Squares:
    return Squares(examples, 2, {}, random.Random(1))


def red_on_blue(box: tuple[int, int, int, int]) -> Image.Image:
    image = plain((0, 0, 200))
    image.paste((200, 0, 0), box)
    return image


def reddish(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> float:
    return float((pixels[..., 0].astype(int) > pixels[..., 2].astype(int) + 50).mean())


def test_a_look_has_its_share_however_few_its_images() -> None:
    weights = draw_weights([SMALL] * 300 + [STREET] * 10)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[:300].sum().item() == pytest.approx(0.2 / 0.65)


def test_small_sources_of_a_look_are_neither_ignored_nor_memorised() -> None:
    weights = draw_weights([STREET] * 400 + [ExampleOrigin("street", "phone")] * 4)
    assert weights[400:].sum().item() == pytest.approx(2 / (2 + 20))


def test_an_audited_photo_is_drawn_and_counted_as_the_photos_that_it_stands_for() -> None:
    reviewed, audited = ExampleOrigin("own", "own"), ExampleOrigin("own", "own", weight=10.0)
    mixed = [STREET] * 50 + [reviewed] * 20 + [audited] * 5

    drawn = draw_weights(mixed)
    counted = validation_weights([Example(b"", 0, origin) for origin in mixed])

    for weights in (drawn, counted):
        assert weights[70].item() == pytest.approx(10 * weights[50].item())
    # The share of the look stays as it is without audits.
    assert drawn[50:].sum().item() == pytest.approx(0.4 / 0.85)
    assert counted[50:].sum().item() == pytest.approx(0.4 / 0.85)


def test_validation_counts_classes_alike_and_no_single_photo_for_a_whole_look() -> None:
    parts = [(0, SMALL, 40), (0, STREET, 1), (1, SMALL, 10), (1, STREET, 10)]
    found = [Example(b"", label, origin) for label, origin, count in parts for _ in range(count)]
    weights, labels = validation_weights(found), torch.tensor([each.label for each in found])
    for label in (0, 1):
        assert weights[labels == label].sum().item() == pytest.approx(0.5)
    assert weights[40].item() < 0.1


def test_a_square_of_a_class_shows_its_vehicle_and_some_of_what_is_around_it() -> None:
    box = (60, 50, 120, 100)
    drawn = squares([example(red_on_blue(box), 0, STREET, (0, box)), example(plain((0, 0, 200)), 1, STREET)])
    shares = [reddish(drawn.draw(0, SIDE)) for _ in range(60)]
    assert min(shares) > 0.05
    assert max(shares) > 0.5
    assert len({round(share, 2) for share in shares}) > 20


def test_a_square_of_no_vehicle_shows_none_though_the_photo_has_one() -> None:
    box = (60, 50, 120, 100)
    drawn = squares([example(red_on_blue(box), 0, STREET, (0, box)), example(plain((0, 0, 200)), 1, STREET)])
    assert max(reddish(drawn.draw(2, SIDE)) for _ in range(60)) < 0.05


def test_places_that_a_detector_took_for_vehicles_are_shown_as_none() -> None:
    box = (60.0, 50.0, 120.0, 100.0)
    fence = example(red_on_blue((60, 50, 120, 100)), 2, STREET)
    bicycle = example(plain((90, 90, 90)), 0, STREET, (0, box))
    motorcycle = example(plain((90, 90, 90)), 1, STREET, (1, box))

    def shown(mistaken: dict[int, list[tuple[float, float, float, float]]]) -> int:
        drawn = Squares([fence, bicycle, motorcycle], 2, mistaken, random.Random(1))
        return sum(reddish(drawn.draw(2, SIDE)) > 0.3 for _ in range(200))

    assert shown({0: [box]}) > shown({}) + 10


def test_small_pictures_are_looked_at_as_a_whole() -> None:
    small = Image.new("RGB", (32, 32), (0, 0, 200))
    small.paste((200, 0, 0), (0, 0, 8, 8))
    drawn = squares([example(small, 0, SMALL), example(plain((0, 0, 200), (32, 32)), 1, SMALL)])
    assert {round(reddish(drawn.draw(0, SIDE)), 2) for _ in range(5)} == {round(1 / 16, 2)}


def sharpness(images: Tensor) -> Tensor:
    """Return how sharp images [N, 3, S, S] of values 0 … 255 are [N]: their fine detail against their contrast."""
    grey = images.mean(dim=1, keepdim=True)
    kernel = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]).reshape(1, 1, 3, 3)
    detail = functional.conv2d(grey, kernel).abs().mean(dim=(1, 2, 3))
    # A plain image is not sharp: five levels are as much as noise gives it.
    return detail / (grey.std(dim=(1, 2, 3)) + 5)


def separation(some: Tensor, others: Tensor) -> float:
    """Return how often one of some is greater than one of others: 0.5 if never told apart, 0 or 1 if always."""
    pairs = some[:, None] - others[None]
    return float(((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean())


def test_sharpness_tells_neither_the_class_nor_vehicles_from_others() -> None:
    """Bicycles arrive sharp and others blurred, as in real data; drawing and augmentation must remove that."""
    generator = np.random.default_rng(0)

    def photos(label: int, origin: ExampleOrigin, count: int, side: int) -> list[Example]:
        found = []
        for _ in range(count):
            pixels = np.asarray(draw("bicycle", generator).resize((side, side))).astype(int)
            noisy = (pixels + generator.integers(-60, 60, pixels.shape)).clip(0, 255).astype(np.uint8)
            found.append(example(Image.fromarray(noisy), label, origin))
        return found

    everything = [
        *photos(0, STREET, 90, 64), *photos(0, SMALL, 10, 32), *photos(1, STREET, 30, 64), *photos(1, SMALL, 30, 32),
        *photos(2, STREET, 10, 64), *photos(2, SMALL, 100, 32),
    ]  # fmt: skip
    labels = torch.tensor([each.label for each in everything])

    def told(images: Tensor, kinds: Tensor) -> tuple[float, float]:
        sharp = sharpness(images)
        return separation(sharp[kinds == 0], sharp[kinds == 1]), separation(sharp[kinds < 2], sharp[kinds == 2])

    enlarged = [Image.fromarray(each.pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for each in everything]
    as_they_come = torch.from_numpy(np.stack([np.asarray(image) for image in enlarged])).permute(0, 3, 1, 2).float()
    assert min(told(as_they_come, labels)) > 0.65

    drawn = squares(everything)
    kinds = torch.tensor([0, 1, 2] * 150)
    shown = torch.from_numpy(np.stack([drawn.draw(int(kind), SIDE) for kind in kinds]))
    for each in told(Augmenter(SIDE, torch.Generator().manual_seed(1))(shown), kinds):
        assert 0.4 < each < 0.6
