"""What an image looks like, as a few numbers: enough to see that another one is quite different."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from blpo_dspy.data.images.encoding import PixelLimits, conform
from blpo_dspy.data.images.prepare import ImageError, ImageSource, content
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.items import Items

Look = npt.NDArray[np.float32]

_LIMITS = PixelLimits(max_side=64, check="decode")
_GRID = 8
_BINS = np.array([0.0, 0.01, 0.03, 0.08, 0.2, 2.0])


def look_of(sources: Sequence[tuple[str, ImageSource]]) -> Look | None:
    """Returns the look of an item: those of its images in order, of a list their mean; None if one cannot be read."""
    looks: dict[str, list[Look]] = {}
    try:
        for name, source in sources:
            looks.setdefault(name, []).append(_look(source))
    except ImageError:
        return None
    return np.concatenate([np.mean(several, axis=0) for several in looks.values()])


def looks_of(items: Items) -> Callable[[str], Look | None]:
    """Returns what gives the look of an item by key, None if it has none; no image is opened before that."""
    places = {item.key: place for place, item in enumerate(items.items)}

    def look(key: str) -> Look | None:
        try:
            return look_of(items.sources(places[key]))
        except BlpoError:  # its row cannot be used any more
            return None

    return look


def _look(source: ImageSource) -> Look:
    """Colours on a coarse grid, the spread of each colour, and how much of the image has edges of which strength.

    Each of the three weighs as much as the others.
    """
    data = content(source)
    if isinstance(data, str):
        raise ImageError("an image by URL is not loaded")
    with Image.open(io.BytesIO(conform(data, _LIMITS)[1])) as image:
        small = image.convert("RGB")
    pixels = np.asarray(small, dtype=np.float32) / 255
    grid = np.asarray(small.resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float32).ravel() / 255
    grey = pixels.mean(axis=2)
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    edges = np.histogram(steps, bins=_BINS)[0] / max(1, steps.size)
    parts = [grid, pixels.std(axis=(0, 1)) * 2, edges]
    return np.concatenate([part / np.sqrt(len(part)) for part in parts]).astype(np.float32)
