"""One number of a whole collection: with the judge and labels, with labels alone, and with the judge alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from blpo_dspy.agreement.intervals import Interval, proportion_interval
from blpo_dspy.errors import BlpoError
from blpo_dspy.population.cells import Cell, Sample, cells_of, weight_of, weighted_mean
from blpo_dspy.population.means import LEAST, Mean, mean_interval, plain_mean
from blpo_dspy.population.shares import share_interval

SHARES_METHOD = "post-stratified by verdict and draw; inverted score test"
MEANS_METHOD = "difference estimator with the weight of least variance; Student's t"
PLAIN_METHOD = "labels alone, as if drawn uniformly"
NAIVE_METHOD = "verdicts taken for labels: not valid"


@dataclass(frozen=True)
class Estimate:
    """One number of a collection.

    Attributes:
        what: What it is: a label of which it is the share, or "mean", or "win rate of A".
        share: Whether it is a share of the images, in [0, 1].
        value: The estimate by judge and labels.
        interval: Of it.
        weight: The weight λ of the judge's verdicts in it, from 0 (they say nothing) to 1 (they stand for labels).
        labelled: The estimate by as many labels alone; of a stratified draw, as if it had been uniform.
        labelled_interval: Of it.
        judged: What the judge says alone.
        judged_interval: What would be its interval if verdicts were labels; it is not valid, as judges err.
        n: Labels that it rests on.
        worth: How many labels alone would give an interval as short; None where that cannot be said.
    """

    what: str
    share: bool
    value: float
    interval: Interval
    weight: float
    labelled: float
    labelled_interval: Interval
    judged: float | None
    judged_interval: Interval | None
    n: int
    worth: int | None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "judged_is_valid": False}


def estimate_share(what: str, sample: Sample, *, level: float = 0.95) -> Estimate:
    """Returns the share of a label in a collection.

    The values of the sample are 1 where people, and the judge, gave the label, and 0 elsewhere.
    """
    n, known = len(sample.values), len(sample.collection)
    if not n:
        raise BlpoError("no image of it is labelled, so nothing can be said about it")
    cells, extra = cells_of(sample)
    value = sum(cell.weight * cell.mean for cell in cells)
    ends = share_interval(cells, level=level, extra=extra)
    plain = weighted_mean(sample, np.ones(n, dtype=bool))
    plain_ends = share_interval([Cell(1.0, n, plain, max(0.0, 1.0 - n / known))], level=level)
    said = int((sample.collection > 0).sum())
    naive = proportion_interval(said, known, level=level)
    if naive is not None:
        naive = replace(naive, method=NAIVE_METHOD)
    interval = _interval(value, ends, level, SHARES_METHOD)
    labelled = _interval(plain, plain_ends, level, PLAIN_METHOD)
    numbers = (value, interval, weight_of(sample), plain, labelled, said / known, naive)
    return Estimate(what, True, *numbers, n, _worth(n, interval, labelled))


def estimate_mean(
    what: str,
    sample: Sample,
    span: tuple[float, float],
    step: float,
    *,
    judged: bool = True,
    share: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Returns the mean of a collection.

    Args:
        what: What it is the mean of.
        sample: The labelled images with their values.
        span: The lowest and the highest value.
        step: The smallest difference of two values that matters.
        judged: Whether the judge labelled any image of the collection.
        share: Whether the mean is a share.
        level: Nominal coverage in (0, 1).
    """
    n = len(sample.values)
    if n < LEAST:
        raise BlpoError(f"{n} labelled {'image' if n == 1 else 'images'} of it: a mean needs at least {LEAST}")
    found, plain = mean_interval(sample, step=step, level=level), plain_mean(sample, step=step, level=level)
    interval, labelled = _within(found, span, level, MEANS_METHOD), _within(plain, span, level, PLAIN_METHOD)
    alone = float(sample.collection.mean()) if judged else None
    naive = _naive_mean(sample, level) if judged else None
    numbers = (found.value, interval, found.weight, plain.value, labelled, alone, naive)
    return Estimate(what, share, *numbers, n, _worth(n, interval, labelled))


def _worth(n: int, interval: Interval, labelled: Interval) -> int | None:
    """How many labels alone would give an interval as short; its width goes with the square root of their number."""
    widths = [each.high - each.low for each in (interval, labelled)]
    return round(n * (widths[1] / widths[0]) ** 2) if min(widths) > 0 else None


def _interval(value: float, ends: Sequence[float], level: float, method: str) -> Interval:
    # A score interval can leave out an estimate that is at the edge of its range by the rounding of its bisection.
    return Interval(min(ends[0], value), max(ends[1], value), level, method, 0)


def _within(found: Mean, span: tuple[float, float], level: float, method: str) -> Interval:
    """The interval cut off at the lowest and the highest value."""
    return _interval(found.value, (max(found.low, span[0]), min(found.high, span[1])), level, method)


def _naive_mean(sample: Sample, level: float) -> Interval | None:
    from scipy.stats import norm  # noqa: PLC0415 - slow to import, and needed only here

    said = sample.collection
    if len(said) < LEAST:
        return None
    half = float(norm.ppf((1 + level) / 2)) * float(said.std(ddof=1)) / float(np.sqrt(len(said)))
    return Interval(float(said.mean()) - half, float(said.mean()) + half, level, NAIVE_METHOD, 0)
