"""The flaws that the embedded photographs carry and that the engine sees, names and weighs."""

from __future__ import annotations

from collections.abc import Mapping

BLUR, NOISE, BLOCKING = "blur", "noise", "blocking"
OVEREXPOSURE, UNDEREXPOSURE, LOW_CONTRAST = "overexposure", "underexposure", "low contrast"
COLOUR_CAST, OVERSATURATION = "colour cast", "oversaturation"

FLAWS = (BLUR, NOISE, BLOCKING, OVEREXPOSURE, UNDEREXPOSURE, LOW_CONTRAST, COLOUR_CAST, OVERSATURATION)

LEVELS = 3
"""Flaws come in whole levels 0 (absent), 1 (slight), 2 (moderate), 3 (severe); severity = level / LEVELS."""

HIDING = frozenset(
    frozenset(pair)
    for pair in (
        (OVEREXPOSURE, UNDEREXPOSURE),
        (LOW_CONTRAST, OVEREXPOSURE),
        (LOW_CONTRAST, UNDEREXPOSURE),
        (COLOUR_CAST, OVERSATURATION),
        (BLUR, NOISE),
        (NOISE, BLOCKING),
    )
)
"""Pairs of flaws that hide each other, so that no photograph carries both."""


def severity_sum(levels: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Returns Σ weight · severity over the flaws present; a flaw without a weight counts nothing."""
    return sum(weights.get(flaw, 0.0) * level / LEVELS for flaw, level in levels.items())
