"""Labelled images in cells that the judge's verdicts and the draw make: each stands for a known part of a collection.

An estimate that weighs the mean of each cell by its part is, where a judge's verdict is yes or no, the difference
estimator of prediction-powered inference with its variance-minimising weight (Angelopoulos, Duchi and Zrnic 2023,
PPI++, eq. 5): the regression of people's label on the judge's is saturated then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement.resampling import Floats, Ints


@dataclass(frozen=True)
class Sample:
    """The labelled part of a collection, or of one of its groups.

    Attributes:
        values: What people said of each labelled image, as a number.
        judged: What the judge said of each, as a number.
        strata: The stratum of each.
        chances: The inclusion probability of each, in (0, 1], the same for all of a stratum.
        collection: What the judge said of each image of the collection or group.
        sizes: By stratum how many labelled images of the whole collection are in it, those of other groups too.
    """

    values: Floats
    judged: Floats
    strata: Ints
    chances: Floats
    collection: Floats
    sizes: Ints

    @property
    def weights(self) -> Floats:
        """How many images of the collection each labelled one stands for (Horvitz and Thompson)."""
        return 1.0 / self.chances


@dataclass(frozen=True)
class Cell:
    """Labelled images that were as likely to be drawn and got the same verdict.

    Attributes:
        weight: The share of the collection that they stand for.
        n: How many they are.
        mean: Of what people said.
        left: The share of the cell that was not drawn: the finite-population correction.
    """

    weight: float
    n: int
    mean: float
    left: float


_Chosen = npt.NDArray[np.bool_]


def cells_of(sample: Sample) -> tuple[tuple[Cell, ...], float]:
    """Returns a cell for each stratum and verdict (0 or 1), and the variance that their weights add.

    The cells of a verdict together weigh what the judge says of the whole collection. Strata fix how many images of the
    collection come from each, but not how many of a group: that adds a variance, which is 0 for the whole.
    """
    cells, extra = [], 0.0
    for chosen, weight in _by_verdict(sample):
        total, whole = float(sample.weights[chosen].sum()), weighted_mean(sample, chosen)
        for stratum in np.unique(sample.strata[chosen]):
            of_stratum = sample.strata == stratum
            inside = chosen & of_stratum
            part, n = weight * float(sample.weights[inside].sum()) / total, int(inside.sum())
            cell = Cell(part, n, float(sample.values[inside].mean()), 1.0 - float(sample.chances[inside][0]))
            elsewhere = 1.0 - int(of_stratum.sum()) / int(sample.sizes[stratum])
            extra += part**2 * elsewhere / n * (cell.mean - whole) ** 2
            cells.append(cell)
    return tuple(cells), extra


def weight_of(sample: Sample) -> float:
    """Returns the weight λ of a judge that says yes or no: how much more often people say yes where it does.

    It is clipped to [0, 1], and 0 where not both verdicts are among the labelled images.
    """
    said = sample.judged > 0
    if not said.any() or said.all():
        return 0.0
    return max(0.0, weighted_mean(sample, said) - weighted_mean(sample, ~said))


def weighted_mean(sample: Sample, chosen: _Chosen) -> float:
    """Returns the mean of what people said of some labelled images, each weighted by what it stands for."""
    weights = sample.weights[chosen]
    return float((weights * sample.values[chosen]).sum() / weights.sum())


def _by_verdict(sample: Sample) -> Iterator[tuple[_Chosen, float]]:
    """The labelled images of each verdict, with its share of the collection; all together where λ is 0."""
    said = sample.judged > 0
    if weight_of(sample) == 0:
        yield np.ones_like(said), 1.0
        return
    share = float(np.mean(sample.collection > 0))
    yield said, share
    yield ~said, 1.0 - share
