"""Which instruction to try next: the upper confidence bound of Auer, Cesa-Bianchi and Fischer (2002)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

_NONE_YET = 1e-3


class UCBBandit:
    """Finds the best of several arms by trying the promising ones more often (`UCBBandits` of ProTeGi's code).

    Args:
        arms: How many arms there are.
        exploration: c, the weight of what is not yet known.
    """

    def __init__(self, arms: int, exploration: float) -> None:
        self._totals, self._counts, self._exploration = [0.0] * arms, [0] * arms, exploration

    @property
    def means(self) -> list[float | None]:
        """The mean score of each arm, None for one that was never tried."""
        return [total / n if n else None for total, n in zip(self._totals, self._counts, strict=True)]

    def choose(self, number: int, t: int, rng: random.Random) -> list[int]:
        """Returns the arms to try in round t: random ones first, then those with the highest bound.

        The bound is mean + c · sqrt(ln t / n), in which an arm without a try has mean 0 and n = 0.001. Of equal bounds
        the earlier arm is taken.
        """
        arms = range(len(self._counts))
        if not any(self._counts):
            return rng.sample(arms, min(number, len(arms)))
        return sorted(arms, key=lambda arm: (-self._bound(arm, t), arm))[:number]

    def update(self, arm: int, scores: Sequence[float]) -> None:
        """Adds what a try of an arm scored."""
        self._totals[arm] += sum(scores)
        self._counts[arm] += len(scores)

    def _bound(self, arm: int, t: int) -> float:
        mean = self._totals[arm] / self._counts[arm] if self._counts[arm] else 0.0
        return mean + self._exploration * math.sqrt(math.log(t) / (self._counts[arm] + _NONE_YET))
