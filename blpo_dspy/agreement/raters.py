"""Several human raters per item: one label out of many, how far people agree, and where they disagree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.agreement.rater_figures import (
    alphas,
    bootstrap_interval,
    mean_defined,
    pair_kappas,
    rated_items,
    value_of,
)
from blpo_dspy.agreement.resampling import Floats, Items
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.ratings import Ratings


@dataclass(frozen=True)
class Disagreement:
    """An item on which people disagree; `degree` is the mean loss in (0, 1] between pairs of its ratings."""

    item: str
    ratings: tuple[Label, ...]
    degree: float


@dataclass(frozen=True)
class HumanAgreement:
    """How far people agree with each other; a statistic is None where it is undefined.

    Attributes:
        items: Items with at least two ratings; only these count.
        ratings: Their ratings.
        kappa: Mean Cohen's kappa over the pairs of raters that define one, on the items both rated and each with more
            than one label; quadratic weights for ordinal labels; None if the raters are not known.
        pairs: Number of those pairs.
        alpha: Krippendorff's alpha, nominal or ordinal as the labels are; allows missing ratings and unknown raters.
        disagreements: Items that were not rated alike, widest disagreement first.
    """

    items: int
    ratings: int
    kappa: float | None
    pairs: int
    alpha: float | None
    disagreements: tuple[Disagreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


def human_agreement(ratings: Ratings) -> HumanAgreement:
    """Returns how far the raters agree: the most that a judge of the same labels can be asked for."""
    rated = [(item, ratings.of(row)) for row, item in enumerate(ratings.items) if len(ratings.of(row)) > 1]
    items = _items(ratings)
    kappas = _kappas(ratings, Items(items.codes, items.counts[None]))
    disagreements = [
        Disagreement(item, tuple(given), degree)
        for item, given in rated
        if (degree := fmean(ratings.labels.loss(a, b) for a, b in combinations(given, 2))) > 0
    ]
    return HumanAgreement(
        items=len(rated),
        ratings=sum(len(given) for _, given in rated),
        kappa=value_of(items, partial(_kappa, ratings)),
        pairs=int((~np.isnan(kappas)).sum()),
        alpha=krippendorff_alpha(ratings),
        disagreements=tuple(sorted(disagreements, key=lambda item: -item.degree)),
    )


def rater_intervals(ratings: Ratings, *, seed: int = 0) -> dict[str, Interval | None]:
    """Returns 95 % intervals of the kappa and the alpha of `human_agreement`; None where one is undefined.

    The same seed gives the same intervals.
    """
    figures = {"kappa": partial(_kappa, ratings), "alpha": partial(alphas, ratings.labels)}
    items = _items(ratings)
    outcomes = [len(ratings.labels)] * items.codes.shape[1]
    return {name: bootstrap_interval(items, outcomes, figure, seed=seed) for name, figure in figures.items()}


def krippendorff_alpha(ratings: Ratings) -> float | None:
    """Returns Krippendorff's alpha, nominal or ordinal as the labels are; None if all ratings that count are equal."""
    return value_of(_items(ratings), partial(alphas, ratings.labels))


def _items(ratings: Ratings) -> Items:
    """The items with more than one rating, as positions of labels."""
    rated = [row for row in ratings.table if sum(label is not None for label in row) > 1]
    positions = [[None if label is None else ratings.labels.index(label) for label in row] for row in rated]
    return rated_items(positions, max(map(len, ratings.table), default=0))


def _kappas(ratings: Ratings, items: Items) -> Floats:
    pairs = list(combinations(range(len(ratings.raters)), 2))
    return pair_kappas(ratings.labels, items, pairs, peers=True)


def _kappa(ratings: Ratings, items: Items) -> Floats:
    return mean_defined(_kappas(ratings, items))
