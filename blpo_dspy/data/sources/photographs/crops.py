"""Crops of real photographs, brought to a common look so that a degradation's target effect means the same on each.

The photographs are the two sample images of the installed scikit-learn, read where they lie: `china.jpg` by
danielbuechele and `flower.jpg` by vultilion, both under the Creative Commons attribution licence 2.0, as scikit-learn's
`datasets/images/README.txt` states. There are only two, so crops overlap: splits cannot be grouped by photograph.
"""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blpo_dspy.embedded.sight.pixels import Pixels, luminance, with_saturation

CREDITS = """\
These pictures are crops, degraded on purpose, of two photographs that ship with scikit-learn:
china.jpg, some rights reserved by danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035/
flower.jpg, some rights reserved by vultilion, https://www.flickr.com/photos/vultilion/6056698931/
Both are under the Creative Commons attribution licence 2.0, https://creativecommons.org/licenses/by/2.0/
"""
SIDE = 96
NAMES = ("china.jpg", "flower.jpg")
_CROP_SIDES = (128, 224)


@lru_cache(maxsize=2)
def photograph(name: str) -> NDArray[np.uint8]:
    """Returns one of scikit-learn's sample photographs, shape (height, width, 3)."""
    from sklearn.datasets import load_sample_image  # noqa: PLC0415 - slow to import, needed only to make photographs

    pixels: NDArray[np.uint8] = np.asarray(load_sample_image(name), dtype=np.uint8)
    return pixels


def crop(source: NDArray[np.uint8], rng: random.Random) -> Pixels:
    """Returns a random normalised square crop, shape (SIDE, SIDE, 3), passing over parts without detail (sky)."""
    while True:
        side = rng.randint(*_CROP_SIDES)
        top, left = rng.randint(0, source.shape[0] - side), rng.randint(0, source.shape[1] - side)
        region = Image.fromarray(source[top : top + side, left : left + side])
        if rng.random() < 0.5:
            region = region.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(region.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
        if _has_detail(pixels):
            return normalised(pixels, rng)


def _has_detail(pixels: Pixels) -> bool:
    grey = luminance(pixels)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return bool(grey.std() > 15 and laplacian.std() > 12)


def normalised(pixels: Pixels, rng: random.Random) -> Pixels:
    """Returns the crop with near-grey-world channels, mean saturation .25-.40, RMS contrast 42-58 and mean 105-130."""
    mean, contrast = rng.uniform(105, 130), rng.uniform(42, 58)
    saturation = rng.uniform(0.25, 0.40)
    tint = np.array([rng.uniform(0.97, 1.03) for _ in range(3)])
    out = pixels
    for _ in range(3):  # each step disturbs the others a little
        channels = out.reshape(-1, 3).mean(axis=0)
        out = np.clip(out * (channels.mean() / np.maximum(channels, 1.0)) * tint, 0, 255)
        grey = luminance(out)
        out = np.clip((out - grey.mean()) * (contrast / max(grey.std(), 1.0)) + mean, 0, 255)
        out = with_saturation(out, saturation)
    return out
