"""The interval of a share that several groups of labelled images make up: an inverted score test.

Of a single group this is Wilson's interval, of two the score interval of Andrés, Hernández and Álvarez (2011) for a
linear combination of proportions. Unlike a normal interval it has a width where no error was seen, and covers rare
shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from blpo_dspy.population.cells import Cell

_MOST = 1e12
_NOTHING = 1e-12
_HALVINGS = 40


def share_interval(cells: Sequence[Cell], *, level: float = 0.95, extra: float = 0.0) -> tuple[float, float]:
    """Returns the ends of the interval of Σ weight · mean, the means being shares of yes.

    The weights of the cells add up to 1; `extra` is a variance that the estimate has beside that of the means.
    """
    from scipy.stats import norm  # noqa: PLC0415 - slow to import, and needed only here

    z = float(norm.ppf((1 + level) / 2))
    counts = [cell.n * cell.mean for cell in cells]
    turned = [cell.n - count for cell, count in zip(cells, counts, strict=True)]
    low = 1.0 - _upper(cells, turned, z, extra)
    return max(0.0, low), min(1.0, _upper(cells, counts, z, extra))


def _upper(cells: Sequence[Cell], counts: Sequence[float], z: float, extra: float) -> float:
    """The largest share that the score test does not reject."""
    estimate = sum(cell.weight * count / cell.n for cell, count in zip(cells, counts, strict=True))

    def shares(pull: float) -> list[float]:
        return [_pulled(cell.n, count, pull * cell.weight) for cell, count in zip(cells, counts, strict=True)]

    def beyond(pull: float) -> float:
        found = shares(pull)
        moved = sum(cell.weight * share for cell, share in zip(cells, found, strict=True)) - estimate
        variance = extra + sum(
            cell.weight**2 * cell.left * share * (1 - share) / cell.n for cell, share in zip(cells, found, strict=True)
        )
        return moved - z * math.sqrt(variance)

    pull = _first_above(beyond, min(cell.n / cell.weight for cell in cells))
    if pull is None:
        return 1.0
    return sum(cell.weight * share for cell, share in zip(cells, shares(pull), strict=True))


def _first_above(beyond: Callable[[float], float], start: float) -> float | None:
    """Where a function gets above 0, by bisection: it may be exactly 0 at first, while no share can be pulled yet."""
    high = start * 1e-6
    while beyond(high) <= _NOTHING:
        high *= 2
        if high > _MOST * start:
            return None
    low = high / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) > _NOTHING else (middle, high)
    return high


def _pulled(n: int, count: float, pull: float) -> float:
    """The share p that maximises count · log p + (n − count) · log(1 − p) + pull · p, for a pull above 0.

    Its derivative is 0 where pull · p² + (n − pull) · p − count is.
    """
    b = n - pull
    root = math.sqrt(b * b + 4 * pull * count)
    if b > 0:
        return min(1.0, 2 * count / (b + root))
    return min(1.0, (root - b) / (2 * pull))
