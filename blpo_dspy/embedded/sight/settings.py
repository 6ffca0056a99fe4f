"""What a picture shows apart from its flaws: a report mentions it, though nothing of it matters to a rater."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from blpo_dspy.embedded.sight.pixels import Pixels, luminance

Setting = Mapping[str, str]
"""Trait → its value, one of `VALUES`."""

DETAIL, SIDE, TONE, HUE = "detail", "side", "tone", "hue"
VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        DETAIL: ("broad areas", "larger shapes", "fine structures"),
        SIDE: ("upper part", "lower part", "left side", "right side"),
        TONE: ("dark tone", "medium tone", "bright tone"),
        HUE: ("reds", "greens", "blues"),
    }
)
"""The traits, from the most to the least telling, with the words for them; no word names a flaw or its degree."""

_VALUE = re.compile(r"\b(" + "|".join(value for values in VALUES.values() for value in values) + r")\b", re.IGNORECASE)
_TRAIT_OF = {value: trait for trait, values in VALUES.items() for value in values}
_DETAIL_CUTS, _TONE_CUTS = (4.0, 10.0), (100.0, 130.0)


def measured(pixels: Pixels) -> Setting:
    """Returns the setting of an RGB picture, shape (height, width, 3) in [0, 255]."""
    grey = luminance(pixels)
    steps = np.abs(np.diff(pixels.mean(axis=2), axis=1))
    rows, columns = steps.shape[0] // 2, steps.shape[1] // 2
    halves = (steps[:rows].mean(), steps[rows:].mean(), steps[:, :columns].mean(), steps[:, columns:].mean())
    found = {
        DETAIL: int(np.searchsorted(_DETAIL_CUTS, steps.mean())),
        SIDE: int(np.argmax(halves)),
        TONE: int(np.searchsorted(_TONE_CUTS, grey.mean())),
        HUE: int(pixels.reshape(-1, 3).mean(axis=0).argmax()),
    }
    return MappingProxyType({trait: VALUES[trait][i] for trait, i in found.items()})


def read_setting(text: str) -> Setting:
    """Returns the traits that a text mentions; of two values of one trait the first."""
    found: dict[str, str] = {}
    for match in _VALUE.finditer(text):
        value = match[1].lower()
        found.setdefault(_TRAIT_OF[value], value)
    return MappingProxyType(found)


def write_setting(setting: Setting, pixels: Pixels) -> str:
    """Returns two sentences about a picture, in the words that `read_setting` knows."""
    height, width = pixels.shape[:2]
    shape = "A square" if abs(height - width) <= 0.1 * max(height, width) else "A wide" if width > height else "A tall"
    return (
        f"{shape} colour photograph in which {setting[HUE]} lead, made of {setting[DETAIL]}. It has a {setting[TONE]}, "
        f"and the {setting[SIDE]} holds most of it."
    )
