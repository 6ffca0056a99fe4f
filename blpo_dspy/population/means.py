"""The interval of a mean by the difference estimator of prediction-powered inference.

The weight of the judge is the one that minimises the variance (PPI++, eq. 5), clipped to [0, 1]. Without an error
among the labelled images the variance would be 0: one image that is off by a step is added to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.resampling import Floats
from blpo_dspy.population.cells import Sample, weighted_mean

LEAST = 3
"""The fewest labels that a mean is estimated from."""


@dataclass(frozen=True)
class Mean:
    """An estimated mean: value, the ends of its interval, and the weight λ of the judge in [0, 1]."""

    value: float
    low: float
    high: float
    weight: float = 0.0


@dataclass(frozen=True)
class _Stratum:
    """Which labelled images are in a stratum, the share of the collection that they stand for, the share not drawn."""

    inside: npt.NDArray[np.bool_]
    share: float
    left: float

    @property
    def n(self) -> int:
        return int(self.inside.sum())


def mean_interval(sample: Sample, *, step: float, level: float = 0.95) -> Mean:
    """Returns λ · mean of the judge's verdicts + Σ share of a stratum · mean there of (people's − λ · judge's).

    Args:
        sample: At least `LEAST` labelled images; a stratum of a single one takes the largest variance of the others.
        step: The smallest difference of two labels that matters.
        level: Nominal coverage in (0, 1).
    """
    strata = _strata(sample)
    weight = _best_weight(sample, strata)
    rest = sample.values - weight * sample.judged
    value = weight * float(np.mean(sample.collection)) + _stratified(rest, strata)
    variances = _variances(rest, strata)
    parts = [each.share**2 * each.left * variance / each.n for each, variance in zip(strata, variances, strict=True)]
    fitted = int(weight > 0 and _varies(sample, strata))
    # Satterthwaite's degrees of freedom; the weight takes one more.
    spread = sum(part**2 / max(each.n - 1, 1) for part, each in zip(parts, strata, strict=True))
    most = len(rest) - len(strata)
    free = max(1.0, min(most, sum(parts) ** 2 / spread if spread else most) - fitted)
    variance = sum(parts) * (free + fitted) / free + _between(sample, rest, strata)
    return _around(value, variance + _unseen(sample, step), free, level, weight)


def plain_mean(sample: Sample, *, step: float, level: float = 0.95) -> Mean:
    """Returns the interval of as many labels drawn uniformly, without the judge; arguments as `mean_interval`."""
    n, weights = len(sample.values), sample.weights
    value = weighted_mean(sample, np.ones(n, dtype=bool))
    variance = float((weights * (sample.values - value) ** 2).sum() / weights.sum()) / (n - 1)
    left = 1.0 - n / len(sample.collection)
    return _around(value, left * variance + _unseen(sample, step), n - 1, level, 0.0)


def _around(value: float, variance: float, free: float, level: float, weight: float) -> Mean:
    from scipy.stats import t  # noqa: PLC0415 - slow to import, and needed only here

    half = float(t.ppf((1 + level) / 2, free)) * math.sqrt(variance)
    return Mean(value, value - half, value + half, weight)


def _unseen(sample: Sample, step: float) -> float:
    """The variance that an image off by a step adds, of which none may have been drawn."""
    n, known = len(sample.values), len(sample.collection)
    return max(0.0, 1.0 - n / known) * (step / n) ** 2


def _strata(sample: Sample) -> list[_Stratum]:
    weights = sample.weights
    found = (sample.strata == stratum for stratum in np.unique(sample.strata))
    return [
        _Stratum(inside, float(weights[inside].sum() / weights.sum()), 1.0 - float(sample.chances[inside][0]))
        for inside in found
    ]


def _stratified(values: Floats, strata: list[_Stratum]) -> float:
    return sum(each.share * float(values[each.inside].mean()) for each in strata)


def _variances(values: Floats, strata: list[_Stratum]) -> list[float]:
    """The variance in each stratum, with n − 1; one of a single image takes the largest of the others."""
    found = [float(values[each.inside].var(ddof=1)) if each.n > 1 else math.nan for each in strata]
    known = [variance for variance in found if not math.isnan(variance)]
    stand_in = max(known) if known else float(values.var(ddof=1))
    return [stand_in if math.isnan(variance) else variance for variance in found]


def _best_weight(sample: Sample, strata: list[_Stratum]) -> float:
    """The λ that minimises the variance, in [0, 1].

    Where the judge says the same of all images of each stratum, any λ gives the same estimate for the whole collection;
    the slope over all strata says best how much its verdicts carry.
    """
    if not _varies(sample, strata):
        return _slope(sample)
    above = below = 0.0
    for each in strata:
        if each.n > 1:
            together = np.cov(sample.values[each.inside], sample.judged[each.inside])
            factor = each.share**2 * each.left / each.n
            above += factor * float(together[0, 1])
            below += factor * float(together[1, 1])
    return min(1.0, max(0.0, above / below)) if below > 0 else 0.0


def _varies(sample: Sample, strata: list[_Stratum]) -> bool:
    return any(float(np.ptp(sample.judged[each.inside])) > 0 for each in strata)


def _slope(sample: Sample) -> float:
    """The slope of people's labels over the judge's, in [0, 1]; each image weighs what it stands for."""
    if not np.ptp(sample.judged) > 0:  # a variance of equal numbers may be above 0 by rounding
        return 0.0
    together = np.cov(sample.values, sample.judged, aweights=sample.weights)
    return min(1.0, max(0.0, float(together[0, 1] / together[1, 1])))


def _between(sample: Sample, rest: Floats, strata: list[_Stratum]) -> float:
    """The variance for a group by the chance that a stratum has more or less of it; 0 for the whole collection."""
    whole = _stratified(rest, strata)
    variance = 0.0
    for each in strata:
        missed = 1.0 - each.n / int(sample.sizes[sample.strata[each.inside][0]])
        variance += each.share**2 * missed / each.n * (float(rest[each.inside].mean()) - whole) ** 2
    return variance
