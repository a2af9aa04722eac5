"""The loop: photos that the model is unsure of, decided by people, make a model that knows them."""

import numpy as np

from tests.training.test_train import draw
from training.dataset import Photo

NAMES = ["bicycle", "motorcycle"]
OPTIONS = ["--epochs", "4", "--network-side", "32", "--threads", "2"]


def photos(count: int, seed: int) -> list[Photo]:
    generator = np.random.default_rng(seed)
    return [
        Photo(f"{seed}-{label}-{k}.png", label, np.asarray(draw(label, generator)))
        for label in NAMES
        for k in range(count)
    ]
