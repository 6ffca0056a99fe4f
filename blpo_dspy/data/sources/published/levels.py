"""Mean opinion scores into levels, by a stated rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from blpo_dspy.errors import BlpoError, DataError

Rule = Literal["round", "equal_width", "quantile"]
Scale = tuple[float, float]

# Rating scales in use, the narrowest that holds all scores is taken for theirs.
_SCALES: tuple[Scale, ...] = ((0, 1), (1, 5), (0, 5), (1, 7), (0, 10), (0, 100))


@dataclass(frozen=True)
class Binning:
    """How scores become the levels 1 to `levels`.

    "round" takes the nearest level, once the scale is stretched onto 1 to `levels` (on a scale from 1 to 5 with five
    levels it is ordinary rounding, halves up). "equal_width" cuts the scale into equal parts. "quantile" cuts
    the scores into parts of equal number, equal scores staying together.

    Args:
        rule: One of these.
        levels: How many levels, at least 2.
        scale: Lowest and highest score that raters could give; inferred from the scores if None.
    """

    rule: Rule = "round"
    levels: int = 5
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise BlpoError(f"binning {self.rule!r} is unknown; choose one of {', '.join(get_args(Rule))}")
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels < 2:
            raise BlpoError(f"levels must be a whole number of at least 2, got {self.levels!r}")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise BlpoError(f"scale is the lowest and the highest score, got {self.scale!r}")

    def apply(self, scores: Sequence[float]) -> tuple[list[int], str]:
        """Returns the level of each score, and the rule in words."""
        low, high = self.scale or infer_scale(scores)
        outside = [score for score in scores if not low <= score <= high]
        if outside:
            raise DataError(
                f"{len(outside)} scores such as {outside[0]:g} are off the scale {low:g} to {high:g}; state "
                "scale=(lowest, highest)",
                option="scale",
            )
        stated = f"scores on a scale from {low:g} to {high:g} ({'given' if self.scale else 'inferred'}), "
        if self.rule == "quantile":
            cuts = _quantiles(scores, self.levels)
            words = f"cut into {self.levels} levels of equal number at {', '.join(f'{cut:.4g}' for cut in cuts)}"
            return [1 + sum(score > cut for cut in cuts) for score in scores], stated + words
        share = [(score - low) / (high - low) for score in scores]
        if self.rule == "equal_width":
            levels = [min(int(part * self.levels), self.levels - 1) + 1 for part in share]
            return levels, stated + f"cut into {self.levels} levels of equal width"
        levels = [math.floor(1 + part * (self.levels - 1) + 0.5) for part in share]
        return levels, stated + f"rounded to the nearest of {self.levels} levels"


def infer_scale(scores: Sequence[float]) -> Scale:
    """Returns the narrowest usual rating scale that holds all scores."""
    if scores:
        for low, high in _SCALES:
            if low <= min(scores) and max(scores) <= high:
                return low, high
    seen = f"from {min(scores):g} to {max(scores):g}" if scores else "absent"
    raise DataError(
        f"the scores are {seen}, which fits no usual rating scale; state scale=(lowest, highest)", option="scale"
    )


def _quantiles(scores: Sequence[float], levels: int) -> list[float]:
    """The highest score of each level but the last."""
    ordered = sorted(scores)
    return [ordered[max(math.ceil(len(ordered) * part / levels) - 1, 0)] for part in range(1, levels)]
