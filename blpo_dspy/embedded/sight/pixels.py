"""Small operations on pixels that photographs, degradations and measures share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float64]
"""RGB, shape (height, width, 3), in [0, 255]; luminance is of shape (height, width)."""

_LUMA = np.array([0.299, 0.587, 0.114])


def luminance(pixels: NDArray[Any]) -> Pixels:
    """Returns the Rec. 601 luminance, shape (height, width), in [0, 255]."""
    return np.asarray(pixels @ _LUMA, dtype=np.float64)


def saturation(pixels: Pixels) -> Pixels:
    """Returns the HSV saturation of every pixel, shape (height, width), in [0, 1]."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]  # faster than a reduction over an axis of three
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return np.asarray((high - low) / np.maximum(high, 1.0), dtype=np.float64)


def with_saturation(pixels: Pixels, target: float) -> Pixels:
    """Returns the picture with its colours stretched from grey so that the mean HSV saturation is `target`."""
    grey = luminance(pixels)[..., None]
    chroma = pixels - grey
    sample = np.s_[::3, ::3]  # a ninth of the pixels gives the mean well enough
    low, high = 0.0, 40.0
    for _ in range(13):
        middle = (low + high) / 2
        if saturation(np.clip(grey[sample] + middle * chroma[sample], 0, 255)).mean() < target:
            low = middle
        else:
            high = middle
    return np.clip(grey + low * chroma, 0, 255)


def png(pixels: Pixels) -> bytes:
    """Returns the picture as PNG bytes: JPEG would add a flaw of its own."""
    data = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()
