"""The degradations: each is defined by the effect that it has on the picture, not by an amount added to it.

A fixed amount would make severity unreadable: a photograph that is naturally vivid differs from a pale one by more than a
fixed push does. The order is the physical one: light and colour, then optics, sensor, and compression.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blpo_dspy.embedded import flaws

Pixels = NDArray[np.float64]
_LUMA = np.array([0.299, 0.587, 0.114])


def saturation(pixels: Pixels) -> Pixels:
    """Returns the HSV saturation of every pixel, shape (height, width), in [0, 1]."""
    high, low = pixels.max(axis=2), pixels.min(axis=2)
    return (high - low) / np.maximum(high, 1.0)


def with_saturation(pixels: Pixels, target: float) -> Pixels:
    """Returns the picture with its colours stretched from grey so that the mean HSV saturation is `target`."""
    grey = (pixels @ _LUMA)[..., None]
    chroma = pixels - grey
    sample = np.s_[::3, ::3]  # a ninth of the pixels tells the mean well enough
    low, high = 0.0, 40.0
    for _ in range(13):
        middle = (low + high) / 2
        if saturation(np.clip(grey[sample] + middle * chroma[sample], 0, 255)).mean() < target:
            low = middle
        else:
            high = middle
    return np.clip(grey + low * chroma, 0, 255)


def _cast(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    shift = (0.15, 0.30, 0.50)[level - 1]
    return np.clip(pixels * np.array([1 + shift, 1 - shift, 1 + shift]), 0, 255)


def _oversaturate(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    return with_saturation(pixels, (0.60, 0.77, 0.93)[level - 1])


def _flatten(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    grey = pixels @ _LUMA
    return np.clip((pixels - grey.mean()) * ((26, 15, 8)[level - 1] / max(grey.std(), 1.0)) + grey.mean(), 0, 255)


def _overexpose(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    share = (0.15, 0.40, 0.70)[level - 1]
    return np.clip(pixels * (255 / max(float(np.quantile(pixels @ _LUMA, 1 - share)), 1.0)), 0, 255)


def _underexpose(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    return pixels * ((60, 34, 17)[level - 1] / max(float((pixels @ _LUMA).mean()), 1.0))


def _blur(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    sigma = (1.2, 2.4, 5.0)[level - 1]
    return np.asarray(ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest"), dtype=np.float64)


def _noise(pixels: Pixels, level: int, rng: random.Random) -> Pixels:
    grain = np.random.default_rng(rng.getrandbits(64)).normal(0, (10, 22, 45)[level - 1], pixels.shape)
    return np.clip(pixels + grain, 0, 255)


def _block(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(data, "JPEG", quality=(22, 10, 4)[level - 1])
    return np.asarray(Image.open(data), dtype=np.float64)


_STEPS: tuple[tuple[str, Callable[[Pixels, int, random.Random], Pixels]], ...] = (
    (flaws.COLOUR_CAST, _cast),
    (flaws.OVERSATURATION, _oversaturate),
    (flaws.LOW_CONTRAST, _flatten),
    (flaws.OVEREXPOSURE, _overexpose),
    (flaws.UNDEREXPOSURE, _underexpose),
    (flaws.BLUR, _blur),
    (flaws.NOISE, _noise),
    (flaws.BLOCKING, _block),
)


def degrade(pixels: Pixels, levels: Mapping[str, int], rng: random.Random) -> Pixels:
    """Returns the picture with each flaw of `levels` (flaw → 1, 2 or 3) applied in the physical order."""
    for flaw, apply in _STEPS:
        if levels.get(flaw, 0):
            pixels = apply(pixels, levels[flaw], rng)
    return pixels


def png(pixels: Pixels) -> bytes:
    """Returns the picture as PNG bytes: JPEG would add a flaw of its own."""
    data = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def draw_flaws(rng: random.Random) -> dict[str, int]:
    """Returns zero to two flaws with their levels, never a pair that hides each other."""
    count = rng.choices((0, 1, 2), (1, 3, 4))[0]
    while True:
        chosen = rng.sample(flaws.FLAWS, count)
        if frozenset(chosen) not in flaws.HIDING:
            return {flaw: rng.randint(1, flaws.LEVELS) for flaw in chosen}
