"""Perception: image bytes → the level of each flaw, by measures and a quadratic ridge fit that ships as JSON.

The coefficients come from `examples/benchmarks/fit_perception.py`. Nothing here knows where an image came from: any
photograph is measured alike.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.measures import measure
from blpo_dspy.embedded.sight.settings import Setting, measured, write_setting
from blpo_dspy.errors import BlpoError

Levels = Mapping[str, int]
"""Flaw → level 1 to 3; flaws that are absent are left out."""


@dataclass(frozen=True)
class Percept:
    """What one image shows: the levels of its flaws, its setting, and the setting in words as any caption has it."""

    levels: Levels
    setting: Setting
    scene: str


LARGEST_SIDE = 256
_SMALLEST_SIDE = 16
_REMEMBERED = 4096


@dataclass(frozen=True)
class PerceptionModel:
    """A quadratic fit of severity on standardised measures, and per flaw the cuts between its levels."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    cuts: NDArray[np.float64]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PerceptionModel:
        """Returns the model that `fit_perception.py` wrote."""
        return cls(*(np.asarray(data[key], dtype=np.float64) for key in ("mean", "scale", "coefficients", "cuts")))

    def levels(self, measures: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns levels, shape (…, flaws), for measures of shape (…, measures)."""
        severity = quadratic((measures - self.mean) / self.scale) @ self.coefficients
        return np.asarray((severity[..., None] > self.cuts).sum(axis=-1), dtype=np.int64)


def quadratic(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns 1, the standardised measures (cut at ±4), and their products, along the last axis."""
    z = np.clip(z, -4, 4)
    i, j = np.triu_indices(z.shape[-1])
    return np.concatenate([np.ones((*z.shape[:-1], 1)), z, z[..., i] * z[..., j]], axis=-1)


@lru_cache(maxsize=1)
def shipped_model() -> PerceptionModel:
    """Returns the fit that ships with the library."""
    text = resources.files("blpo_dspy.embedded.sight").joinpath("perception.json").read_text(encoding="utf-8")
    return PerceptionModel.from_dict(json.loads(text))


def decode(data: bytes) -> NDArray[np.float64]:
    """Returns the pixels of an encoded image, RGB in [0, 255], no side above `LARGEST_SIDE`."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BlpoError(f"the image cannot be decoded ({error}); send a PNG, JPEG or WebP image") from error
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    if min(image.size) < _SMALLEST_SIDE:
        image = image.resize((max(image.width, _SMALLEST_SIDE), max(image.height, _SMALLEST_SIDE)))
    return np.asarray(image, dtype=np.float64)


class Perception:
    """Perceives images, each once: a bounded memory by content, safe to share between threads."""

    def __init__(self, *, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._memory: OrderedDict[bytes, Percept] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> Percept:
        """Returns what the image shows."""
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
        pixels = decode(data)
        found = shipped_model().levels(measure(pixels))
        levels = MappingProxyType({flaw: int(x) for flaw, x in zip(flaws.FLAWS, found, strict=True) if x})
        setting = measured(pixels)
        percept = Percept(levels, setting, write_setting(setting, pixels))
        with self._lock:
            self._memory[key] = percept
            while len(self._memory) > self._remembered:
                self._memory.popitem(last=False)
        return percept
