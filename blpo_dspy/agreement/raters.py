"""Several human raters per item: one label out of many, how far people agree, and where they disagree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from blpo_dspy.agreement.figures import pair_figure
from blpo_dspy.agreement.intervals import Interval
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.rater_figures import (
    alphas,
    bootstrap_interval,
    mean_defined,
    pair_figures,
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
            than one label; quadratic weights for ordinal labels; None if the raters are not known, and of scores.
        pairs: Number of those pairs.
        alpha: Krippendorff's alpha, nominal, ordinal or interval as the labels are; allows missing ratings and unknown
            raters.
        disagreements: Items that were not rated alike, widest disagreement first.
        spearman: Of scores, the mean rank correlation over the same pairs.
    """

    items: int
    ratings: int
    kappa: float | None
    pairs: int
    alpha: float | None
    disagreements: tuple[Disagreement, ...]
    spearman: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return asdict(self)


def human_agreement(ratings: Ratings) -> HumanAgreement:
    """Returns how far the raters agree: the most that a judge of the same labels can be asked for."""
    rated = [(item, ratings.of(row)) for row, item in enumerate(ratings.items) if len(ratings.of(row)) > 1]
    items = _items(ratings)
    figures = _pairwise(ratings, Items(items.codes, items.counts[None]))
    pairwise = {pair_figure(ratings.labels): value_of(items, partial(_mean_pairwise, ratings))}
    disagreements = [
        Disagreement(item, tuple(given), degree)
        for item, given in rated
        if (degree := fmean(ratings.labels.loss(a, b) for a, b in combinations(given, 2))) > 0
    ]
    return HumanAgreement(
        items=len(rated),
        ratings=sum(len(given) for _, given in rated),
        kappa=pairwise.get("kappa"),
        pairs=int((~np.isnan(figures)).sum()),
        alpha=krippendorff_alpha(ratings),
        disagreements=tuple(sorted(disagreements, key=lambda item: -item.degree)),
        spearman=pairwise.get("spearman"),
    )


def rater_intervals(ratings: Ratings, *, seed: int = 0) -> dict[str, Interval | None]:
    """Returns 95 % intervals of `human_agreement`: its kappa (of scores spearman) and alpha; None where undefined.

    The same seed gives the same intervals.
    """
    outcomes = _outcomes(ratings)
    figures = {pair_figure(ratings.labels): partial(_mean_pairwise, ratings), "alpha": partial(alphas, outcomes)}
    items = _items(ratings)
    choices = [len(outcomes)] * items.codes.shape[1]
    return {name: bootstrap_interval(items, choices, figure, seed=seed) for name, figure in figures.items()}


def krippendorff_alpha(ratings: Ratings) -> float | None:
    """Returns Krippendorff's alpha, nominal, ordinal or interval as the labels are; None if ratings are equal."""
    return value_of(_items(ratings), partial(alphas, _outcomes(ratings)))


def _outcomes(ratings: Ratings) -> Outcomes:
    return Outcomes.of(ratings.labels, [label for row in ratings.table for label in row])


def _items(ratings: Ratings) -> Items:
    """The items with more than one rating, as positions of labels."""
    rated = [row for row in ratings.table if sum(label is not None for label in row) > 1]
    outcomes = _outcomes(ratings)
    codes = [
        [None if label is None else place for label, place in zip(row, outcomes.positions(row), strict=True)]
        for row in rated
    ]
    return rated_items(codes, max(map(len, ratings.table), default=0))


def _pairwise(ratings: Ratings, items: Items) -> Floats:
    pairs = list(combinations(range(len(ratings.raters)), 2))
    return pair_figures(_outcomes(ratings), items, pairs, peers=True)


def _mean_pairwise(ratings: Ratings, items: Items) -> Floats:
    return mean_defined(_pairwise(ratings, items))
