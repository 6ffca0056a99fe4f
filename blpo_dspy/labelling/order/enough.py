"""How many labels suffice: how exactly labels so far tell a judge's agreement with people, and what more would add."""

from __future__ import annotations

from typing import Any

from blpo_dspy.population.cells import Cell
from blpo_dspy.population.shares import share_interval

EVERY = 20
"""After so many labels the page says it again."""
MORE = 50
_LEAST = 5
_WIDEST = 0.5  # the share whose interval is the widest


def enough(n: int, right: int | None, *, images: int, share: float) -> dict[str, Any] | None:
    """Returns how exactly labels tell the agreement of a judge: the half width of its 95 % interval.

    It counts labels of images drawn at random alone, since of others agreement says nothing about the rest. Without
    verdicts of a judge it is the half width at worst, which holds for every judge.

    Args:
        n: How many labels of images drawn at random there are; of a judge, of those that it was not compiled with.
        right: How many of them the judge agrees with, None without a judge.
        images: How many images there are in all.
        share: The share of random draws among further labels.

    Returns:
        Plain data for the page with the sentence to show; None for fewer than five labels.
    """
    if n < _LEAST:
        return None
    agreement = _WIDEST if right is None else right / n
    further = max(n, min(round(n + MORE * share), images))
    low, high = _interval(agreement, n)
    then = _interval(agreement, further)
    half, later = (high - low) / 2, (then[1] - then[0]) / 2
    points, what = f"±{100 * half:.0f} points", "all" if further == images else f"{MORE} more"
    if right is None:
        said = f"{n} random images tell a judge’s agreement to {points} at worst"
    else:
        said = f"The judge agrees on {right} of {n} random images: {low:.0%} to {high:.0%}, {points}"
    more = f"; with {what}, ±{100 * later:.0f}." if further > n else "."
    found = {"labels": n, "right": right, "half_width": half, "later_labels": further, "later_half_width": later}
    return {**found, "text": said + more}


def _interval(share: float, n: int) -> tuple[float, float]:
    """The interval of a share of images like these, by the score method (Wilson)."""
    return share_interval([Cell(1.0, n, share, 1.0)])
