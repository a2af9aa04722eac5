"""Augmentation: the effects that a phone and the way to the model have on a photo, applied to staged images.

A driver holds the phone askew, in sun or under a lamp; the lens blurs, the phone compresses, the reduction sharpens or
softens. squares.py draws how near the vehicle is. Everything is drawn from one seeded generator.
"""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional

# The share of a batch that each effect touches, and its largest strength.
# Sharpness must not give the class away: labelled images and outliers lose it alike, at random. They are
# reduced to this many pixels at least: CIFAR-100 images, and vehicles far away, have no more.
SOFT_SHARE = 0.5
SOFTEST_SIDE = 28
QUARTER_TURN_SHARE = 0.03
# Some are turned farther, and the area beyond their edge is one colour, as in photos that somebody straightened.
FRAMED_SHARE = 0.06
FRAMED_DEGREES = 20.0
BLUR_SHARE = 0.25
SHARPEN_SHARE = 0.2
JPEG_SHARE = 0.25
JPEG_QUALITY = (40, 95)
GREY_SHARE = 0.15
NOISE_SHARE = 0.2
NOISE_DEVIATION = 12.0
ERASE_SHARE = 0.3
ERASE_SIDE = (0.15, 0.4)
# Image sides are zoomed to 80–125 % (the rest is cropped), turned by 12°, sheared and shifted by a tenth.
NEARER_SCALE = (0.8, 1.25)
TURN_DEGREES = 12.0
SHEAR = 0.12
SHIFT = 0.12
ASPECT = 0.12


class Augmenter:
    """Turns pixels of one size into training images of the network's size, never twice the same."""

    def __init__(self, target: int, generator: Generator) -> None:
        self.target = target
        self.generator = generator

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 RGB [N, S, S, 3] to RGB values 0 … 255, float [N, 3, target, target]."""
        images = self._softness(pixels).permute(0, 3, 1, 2).float()
        images = self._quarter_turns(images)
        images = self._light(images)
        images = self._sharpness(images)
        images = self._noise(images)
        images = self._compression(images)
        images = self._framing(images)
        return self._erase(images).clamp(0, 255)

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=self.generator)

    def _chosen(self, count: int, share: float) -> Tensor:
        return torch.rand(count, generator=self.generator) < share

    def _softness(self, pixels: Tensor) -> Tensor:
        """Reduce some and enlarge them again, uint8 [N, S, S, 3]: as small as a phone or a crop left them."""
        side = pixels.shape[1]
        filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
        chosen = self._chosen(len(pixels), SOFT_SHARE).nonzero()[:, 0].tolist()
        sides = self._uniform(len(pixels), math.log(min(SOFTEST_SIDE, side)), math.log(side)).exp().tolist()
        kinds = torch.randint(len(filters), (len(pixels),), generator=self.generator).tolist()
        pixels = pixels.clone()
        for index in chosen:
            small = max(8, round(sides[index]))
            image = Image.fromarray(pixels[index].numpy())
            image = image.resize((small, small), Image.Resampling.BICUBIC).resize((side, side), filters[kinds[index]])
            pixels[index] = torch.from_numpy(np.array(image))
        return pixels

    def _quarter_turns(self, images: Tensor) -> Tensor:
        """Lay some on their side, like photos from phones that do not save the orientation."""
        images = images.clone()
        chosen = self._chosen(len(images), QUARTER_TURN_SHARE)
        direction = 1 if torch.rand(1, generator=self.generator) < 0.5 else 3
        images[chosen] = torch.rot90(images[chosen], direction, (2, 3))
        return images

    def _light(self, images: Tensor) -> Tensor:
        count = len(images)

        def factors(low: float, high: float) -> Tensor:
            return self._uniform(count, low, high).reshape(count, 1, 1, 1)

        unit = (images / 255).clamp(1e-4, 1) ** torch.exp(factors(-0.4, 0.4))
        grey = (unit * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        saturation = factors(0.5, 1.5)
        saturation[self._chosen(count, GREY_SHARE)] = 0
        unit = grey + (unit - grey) * saturation
        # The colour of the light changes each channel separately.
        unit = unit * self._uniform(3 * count, 0.88, 1.12).reshape(count, 3, 1, 1)
        mean = unit.mean(dim=(1, 2, 3), keepdim=True)
        unit = (unit - mean) * factors(0.65, 1.35) + mean * factors(0.7, 1.3)
        return 255 * unit.clamp(0, 1)

    def _sharpness(self, images: Tensor) -> Tensor:
        """Blur some, and give others the halo that a sharpening reduction leaves."""
        side = images.shape[-1]
        kernel = torch.tensor([1.0, 2.0, 1.0])
        weight = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(3, 1, 3, 3)
        soft = functional.conv2d(functional.pad(images, (1, 1, 1, 1), mode="reflect"), weight, groups=3)
        count = len(images)
        amount = torch.zeros(count)
        blurred, sharpened = self._chosen(count, BLUR_SHARE), self._chosen(count, SHARPEN_SHARE)
        amount[sharpened] = -self._uniform(int(sharpened.sum()), 0.1, 0.6)
        amount[blurred] = self._uniform(int(blurred.sum()), 0.2, 1.0)
        return (images + (soft - images) * amount.reshape(count, 1, 1, 1)).clamp(0, 255).reshape(-1, 3, side, side)

    def _noise(self, images: Tensor) -> Tensor:
        chosen = self._chosen(len(images), NOISE_SHARE).float() * self._uniform(len(images), 0, NOISE_DEVIATION)
        noise = torch.randn(images.shape, generator=self.generator)
        return (images + noise * chosen.reshape(-1, 1, 1, 1)).clamp(0, 255)

    def _compression(self, images: Tensor) -> Tensor:
        chosen = self._chosen(len(images), JPEG_SHARE).nonzero()[:, 0].tolist()
        qualities = self._uniform(len(images), *JPEG_QUALITY)
        images = images.clone()
        for index in chosen:
            rgb = images[index].round().byte().permute(1, 2, 0).contiguous().numpy()
            file = io.BytesIO()
            Image.fromarray(rgb).save(file, "JPEG", quality=int(qualities[index]))
            with Image.open(file, formats=("JPEG",)) as decoded:
                content = torch.frombuffer(bytearray(decoded.tobytes()), dtype=torch.uint8)
            images[index] = content.reshape(rgb.shape).permute(2, 0, 1).float()
        return images

    def _framing(self, images: Tensor) -> Tensor:
        """Zoom, turn, shear, shift and mirror while enlarging to the network's size."""
        count = len(images)
        scale = self._uniform(count, *NEARER_SCALE)
        aspect = torch.exp(self._uniform(count, -ASPECT, ASPECT))
        mirror = 1 - 2 * self._chosen(count, 0.5).float()
        framed = self._chosen(count, FRAMED_SHARE)
        degrees = self._uniform(count, -1, 1) * torch.where(framed, FRAMED_DEGREES, TURN_DEGREES)
        angle = degrees * math.pi / 180
        shear = self._uniform(count, -SHEAR, SHEAR)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0] = mirror * scale * aspect * angle.cos()
        theta[:, 0, 1] = scale * (shear - angle.sin())
        theta[:, 1, 0] = mirror * scale * angle.sin()
        theta[:, 1, 1] = scale / aspect * angle.cos()
        theta[:, :, 2] = self._uniform(2 * count, -SHIFT, SHIFT).reshape(count, 2)
        moved = _sample(images, theta, self.target)
        if framed.any():
            inside = _sample(torch.ones_like(images[framed]), theta[framed], self.target, beyond="zeros")
            colour = 255.0 * self._chosen(int(framed.sum()), 0.5).float().reshape(-1, 1, 1, 1)
            moved[framed] = moved[framed] * inside + colour * (1 - inside)
        return moved

    def _erase(self, images: Tensor) -> Tensor:
        """Hide a part of some, as a bollard or a passer-by does."""
        side = images.shape[-1]
        images = images.clone()
        for index in self._chosen(len(images), ERASE_SHARE).nonzero()[:, 0].tolist():
            height, width, top, left = self._uniform(4, 0, 1).tolist()
            height, width = (int(side * (ERASE_SIDE[0] + (ERASE_SIDE[1] - ERASE_SIDE[0]) * v)) for v in (height, width))
            top, left = int(top * (side - height)), int(left * (side - width))
            colour = self._uniform(3, 0, 255).reshape(3, 1, 1)
            images[index, :, top : top + height, left : left + width] = colour
        return images


def _sample(images: Tensor, theta: Tensor, target: int, beyond: str = "reflection") -> Tensor:
    """Sample [N, 3, S, S] through affine maps [N, 2, 3] at [target, target]; mirrored beyond the edge, or 0 there."""
    grid = functional.affine_grid(theta, [len(images), 3, target, target], align_corners=False)
    return functional.grid_sample(images, grid, mode="bicubic", padding_mode=beyond, align_corners=False)
