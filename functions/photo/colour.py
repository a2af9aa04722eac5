"""Converts a photo's colours to sRGB, which the model was trained on, in the same way as Chromium."""

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms, ImageFilter

# Printer profiles reach a megabyte; those of cameras and phones take a few kilobytes.
MOST_PROFILE_BYTES = 1 << 20
MOST_TRANSFORMS = 8
# Code points of ITU-T H.273, used by cICP in PNG and by `nclx` in HEIC and AVIF.
BT709, BT2020, DISPLAY_P3 = 1, 9, 12
SRGB, PQ, HLG = 13, 16, 18
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
Matrix = tuple[tuple[float, float, float], ...]
SAME: Matrix = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
# From linear light in these primaries to sRGB or BT.2020; all share one white point.
TO_SRGB: dict[int, Matrix] = {
    BT2020: ((1.66049, -0.58764, -0.07285), (-0.12455, 1.1329, -0.00835), (-0.01815, -0.10058, 1.11873)),
    DISPLAY_P3: ((1.22494, -0.22494, 0.0), (-0.04206, 1.04206, 0.0), (-0.01964, -0.07864, 1.09827)),
}
TO_BT2020: dict[int, Matrix] = {
    BT709: ((0.6274, 0.32928, 0.04331), (0.0691, 0.91954, 0.01136), (0.01639, 0.08801, 0.8956)),
    DISPLAY_P3: ((0.75383, 0.1986, 0.04757), (0.04574, 0.94178, 0.01248), (-0.00121, 0.0176, 0.98361)),
}
GRID = 33  # of the lookup table that converts three channels at once
# Light is in multiples of reference white, 203 cd/m² (ITU-R BT.2408); pictures are mastered for 1,000 cd/m².
REFERENCE_WHITE, PEAK = 203.0, 1000 / 203


@dataclass(frozen=True)
class Coding:
    """How pixel values encode light: primaries and transfer as H.273 code points, or an exponent."""

    primaries: int = BT709
    transfer: int = SRGB
    gamma: float | None = None

    @property
    def is_hdr(self) -> bool:
        """Whether pixels may be brighter than white."""
        return self.transfer in {PQ, HLG}


def in_srgb(image: Image.Image, profile: bytes, coding: Coding | None = None) -> Image.Image:
    """Return an RGB or RGBA picture in sRGB; `profile` is an ICC profile and takes precedence over `coding`.

    A profile that is unreadable, is not for RGB or has more than `MOST_PROFILE_BYTES` is ignored.
    """
    if profile[16:20] == b"RGB " and len(profile) <= MOST_PROFILE_BYTES:
        try:
            return ImageCms.applyTransform(image, _transform(profile)) or image
        except ImageCms.PyCMSError:
            return image
    if profile or coding is None:
        return image
    gamma = coding.gamma or GAMMAS.get(coding.transfer)
    if gamma:
        image = image.point([round(255 * _encoded((value / 255) ** gamma)) for value in range(256)] * 3)
    primaries = coding.primaries if coding.primaries in TO_SRGB else BT709
    if primaries != BT709 or coding.is_hdr:
        image = image.filter(_table(primaries, coding.transfer if coding.is_hdr else SRGB))
    return image


_transforms: dict[bytes, ImageCms.ImageCmsTransform] = {}


def _transform(profile: bytes) -> ImageCms.ImageCmsTransform:
    # Making a transform takes 2 ms, using it on a small picture 0.02 ms; photos from one phone share a profile.
    digest = hashlib.sha256(profile).digest()
    if digest not in _transforms:
        made = ImageCms.buildTransform(BytesIO(profile), ImageCms.createProfile("sRGB"), "RGB", "RGB")
        if len(_transforms) == MOST_TRANSFORMS:
            del _transforms[next(iter(_transforms))]
        _transforms[digest] = made
    return _transforms[digest]


@lru_cache(maxsize=4)
def _table(primaries: int, transfer: int) -> ImageFilter.Color3DLUT:
    def convert(*encoded: float) -> tuple[float, float, float]:
        light = [_linear(transfer, value) for value in encoded]
        if transfer == HLG:  # HLG encodes scene light; a display of 1,000 cd/m² adds a gamma of 1.2
            luma = 0.2627 * light[0] + 0.678 * light[1] + 0.0593 * light[2]
            light = [PEAK * value * luma**0.2 for value in light]
        if transfer in {PQ, HLG}:
            mapped = _tone_mapped(_times(TO_BT2020.get(primaries, SAME), light))
            light = _times(TO_SRGB[BT2020], mapped)
        else:
            light = _times(TO_SRGB[primaries], light)
        red, green, blue = map(_encoded, light)
        return red, green, blue

    return ImageFilter.Color3DLUT.generate(GRID, convert)


def _times(matrix: Matrix, light: list[float]) -> list[float]:
    return [sum(share * part for share, part in zip(row, light, strict=True)) for row in matrix]


@lru_cache(maxsize=4 * GRID)
def _linear(transfer: int, value: float) -> float:
    if transfer == PQ:  # SMPTE ST 2084
        power = math.pow(value, 32 / 2523)
        ratio = max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return 10_000 / REFERENCE_WHITE * math.pow(ratio, 8192 / 1305)
    if transfer == HLG:  # ITU-R BT.2100
        return value * value / 3 if value <= 0.5 else (math.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return value / 12.92 if value <= 0.04045 else math.pow((value + 0.055) / 1.055, 2.4)  # IEC 61966-2-1


def _tone_mapped(light: list[float]) -> list[float]:
    """Scale down light of up to `PEAK` as SMPTE ST 2094-50 (annex C) and Chromium do for a screen without HDR.

    Reference white becomes half of the screen's light; above it, a quadratic Bézier curve leads to 1.
    """
    brightest = max(light)
    if brightest <= 1:
        return [value / 2 for value in light]
    middle, middle_light = 0.35 + 0.65 * 2, 0.35 / 2 + 0.65
    a, b, c = 1 - 2 * middle + PEAK, 2 * middle - 2, 1 - min(brightest, PEAK)
    t = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    mapped = 0.5 * (1 - t) ** 2 + 2 * middle_light * t * (1 - t) + t * t
    return [value * mapped / brightest for value in light]


def _encoded(light: float) -> float:
    light = min(max(light, 0), 1)
    return 12.92 * light if light <= 0.0031308 else 1.055 * math.pow(light, 1 / 2.4) - 0.055
