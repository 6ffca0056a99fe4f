"""The degradations: each is defined by the effect that it has on the picture, not by an amount added to it.

A fixed amount would make severity unreadable: a naturally vivid photograph differs from a pale one by more than a fixed
push does. The order is the physical one: light and colour, then optics, sensor, and compression.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.pixels import Pixels, luminance, with_saturation


def _clipped(pixels: NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(pixels, 0, 255), dtype=np.float64)


def _cast(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    shift = (0.15, 0.30, 0.50)[level - 1]
    return _clipped(pixels * np.array([1 + shift, 1 - shift, 1 + shift]))


def _oversaturate(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    return with_saturation(pixels, (0.60, 0.77, 0.93)[level - 1])


def _flatten(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    grey = luminance(pixels)
    return _clipped((pixels - grey.mean()) * ((26, 15, 8)[level - 1] / max(float(grey.std()), 1.0)) + grey.mean())


def _overexpose(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    share = (0.15, 0.40, 0.70)[level - 1]
    return _clipped(pixels * (255 / max(float(np.quantile(luminance(pixels), 1 - share)), 1.0)))


def _underexpose(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    return pixels * ((60, 34, 17)[level - 1] / max(float(luminance(pixels).mean()), 1.0))


def _blur(pixels: Pixels, level: int, _: random.Random) -> Pixels:
    sigma = (1.2, 2.4, 5.0)[level - 1]
    return np.asarray(ndimage.gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest"), dtype=np.float64)


def _noise(pixels: Pixels, level: int, rng: random.Random) -> Pixels:
    grain = np.random.default_rng(rng.getrandbits(64)).normal(0, (10, 22, 45)[level - 1], pixels.shape)
    return _clipped(pixels + grain)


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


def draw_flaws(rng: random.Random) -> dict[str, int]:
    """Returns zero to two flaws with their levels, never a pair that hides each other."""
    count = rng.choices((0, 1, 2), (1, 3, 4))[0]
    while True:
        chosen = rng.sample(flaws.FLAWS, count)
        if frozenset(chosen) not in flaws.HIDING:
            return {flaw: rng.randint(1, flaws.LEVELS) for flaw in chosen}
