"""The content of training batches: balanced looks, vehicles in scenes, and nothing else that reveals the label."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.container.augment import Augmenter
from training.container.examples import Examples, Origin, draw_weights, validation_weights
from training.container.scenes import Scenes
from training.container.train import Batches, Data

from .test_train import draw

SIDE = 64


def examples(parts: Sequence[tuple[int, Origin, int, int]], seed: int = 0) -> Examples:
    """Draw the same picture for each class: (class, origin, count, width in pixels before enlargement)."""
    generator = np.random.default_rng(seed)
    images, labels, origins = [], [], []
    for label, origin, count, side in parts:
        for _ in range(count):
            noisy = np.asarray(draw("bicycle", generator).resize((side, side))).astype(int)
            noisy = (noisy + generator.integers(-60, 60, noisy.shape)).clip(0, 255).astype(np.uint8)
            images.append(np.asarray(Image.fromarray(noisy).resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
            labels.append(label)
            origins.append(origin)
    return Examples(torch.from_numpy(np.stack(images)), torch.tensor(labels), origins)


SMALL, STREET = Origin("small", "cifar", "whole"), Origin("street", "openimages", "2.0")


def test_a_look_has_its_share_however_few_its_images() -> None:
    weights = draw_weights([SMALL] * 300 + [STREET] * 10)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[:300].sum().item() == pytest.approx(0.3 / 0.7)


def test_small_sources_of_a_look_are_neither_ignored_nor_memorised() -> None:
    weights = draw_weights([STREET] * 400 + [Origin("street", "phone", "whole")] * 4)
    assert weights[400:].sum().item() == pytest.approx(2 / (2 + 20))


def test_validation_counts_classes_alike_and_no_single_photo_for_a_whole_look() -> None:
    found = examples([(0, SMALL, 40, 32), (0, STREET, 1, 64), (1, SMALL, 10, 32), (1, STREET, 10, 64)])
    weights = validation_weights(found)
    for label in (0, 1):
        assert weights[found.labels == label].sum().item() == pytest.approx(0.5)
    assert weights[40].item() < 0.05


def sharpness(images: Tensor) -> Tensor:
    """Return how sharp images [N, 3, S, S] of values 0 … 255 are [N]: their fine detail against their contrast."""
    grey = images.mean(dim=1, keepdim=True)
    kernel = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]).reshape(1, 1, 3, 3)
    detail = functional.conv2d(grey, kernel).abs().mean(dim=(1, 2, 3))
    # A plain image is not sharp: five levels are what noise makes of one.
    return detail / (grey.std(dim=(1, 2, 3)) + 5)


def separation(some: Tensor, others: Tensor) -> float:
    """Return how often one of some is greater than one of others: 0.5 where the figure tells nothing, 0 or 1 all."""
    pairs = some[:, None] - others[None]
    return float(((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean())


def test_sharpness_reveals_neither_the_class_nor_vehicles() -> None:
    """As in real data, bicycles are sharp and others blurred; after drawing and augmentation they must not differ."""
    known = examples([(0, STREET, 180, 64), (0, SMALL, 20, 32), (1, STREET, 60, 64), (1, SMALL, 60, 32)])
    others = examples([(0, STREET, 20, 64), (0, SMALL, 200, 32)], seed=1)

    def told(images: torch.Tensor, labels: torch.Tensor, rest: torch.Tensor) -> tuple[float, float]:
        sharp, blurred = sharpness(images), sharpness(rest)
        return separation(sharp[labels == 0], sharp[labels == 1]), separation(sharp, blurred)

    def planes(found: Examples) -> torch.Tensor:
        return found.pixels.permute(0, 3, 1, 2).float()

    assert min(told(planes(known), known.labels, planes(others))) > 0.65
    augment = Augmenter(SIDE, torch.Generator().manual_seed(1))
    batches = Batches(Data(known, known, others, others), 2, augment, seed=1)
    images, labels = batches.labelled(400)
    seen = augment(torch.cat([images, batches.draw(others, 400)]))
    for each in told(seen[:400], labels, seen[400:]):
        assert 0.4 < each < 0.6


def test_a_scene_shows_its_vehicle_before_a_background_of_something_else() -> None:
    red = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    red[..., 0] = 200
    blue = red.flip(3)
    tight = Examples(red, torch.tensor([0]), [Origin("street", "a", "1.1")])
    background = Examples(blue, torch.tensor([0]), [Origin("street", "b", "background")])
    nobody = Examples(red[:0], torch.zeros(0, dtype=torch.int64), [])
    scenes = Scenes(tight, nobody, background, random.Random(1))
    for _ in range(20):
        scene = scenes.draw().astype(int)
        reddish = scene[..., 0] > scene[..., 2]
        assert 0.02 < reddish.mean() < 0.98


def test_a_vehicle_of_another_class_is_hidden_by_the_one_that_replaces_it() -> None:
    red = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    red[..., 0] = 200
    street = torch.full((1, SIDE, SIDE, 3), 90, dtype=torch.uint8)
    street[:, 16:48, 16:48] = torch.tensor([0, 200, 0], dtype=torch.uint8)  # fills half of the side: scale 2.0
    tight = Examples(red, torch.tensor([0]), [Origin("street", "a", "1.1")])
    half = Examples(street, torch.tensor([1]), [Origin("street", "a", "2.0")])
    background = Examples(street, torch.tensor([0]), [Origin("street", "b", "background")])
    scenes = Scenes(tight, half, background, random.Random(1))
    hidden = [scenes.replaced() for _ in range(10)]
    for scene in hidden:
        greenish = (scene[..., 1].astype(int) - scene[..., 0]) > 50
        assert greenish.mean() < 0.02


def test_without_tight_crops_there_are_no_scenes() -> None:
    wide = examples([(0, STREET, 3, 64)])
    assert not Scenes(wide, wide, wide, random.Random(1))


def test_small_images_which_their_vehicle_fills_are_cut_out_for_scenes() -> None:
    wide = examples([(0, STREET, 3, 64)])
    assert Scenes(examples([(0, SMALL, 3, 32)]), wide, wide, random.Random(1))
