"""Shortcuts: how far something that is no vehicle, the sharpness of an image, tells what the image is of."""

import torch
from torch import Tensor
from torch.nn import functional


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
