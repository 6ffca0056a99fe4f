"""Several human raters per item: one label out of many, how far people agree, and where they disagree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean

import numpy as np

from blpo_dspy.agreement.figures import Tables, figures_of, pair_figure
from blpo_dspy.agreement.intervals import ITEMS_METHOD, LEVEL, Interval, percentile_interval
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.resampling import MISSING, RESAMPLES, Floats, Items, distinct, drawn_anew
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.ratings import Ratings

_Figure = Callable[[Items], Floats]


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


def human_agreement(ratings: Ratings) -> HumanAgreement:
    """Returns how far the raters agree: the most that a judge of the same labels can be asked for."""
    rated = [(item, ratings.of(row)) for row, item in enumerate(ratings.items) if len(ratings.of(row)) > 1]
    outcomes, items, figures = _measured(ratings)
    found = {name: value_of(items, figure) for name, figure in figures.items()}
    by_pair = pair_figures(outcomes, Items(items.codes, items.counts[None]), _pairs(ratings), peers=True)
    disagreements = [
        Disagreement(item, tuple(given), degree)
        for item, given in rated
        if (degree := fmean(ratings.labels.loss(a, b) for a, b in combinations(given, 2))) > 0
    ]
    return HumanAgreement(
        items=len(rated),
        ratings=sum(len(given) for _, given in rated),
        kappa=found.get("kappa"),
        pairs=int((~np.isnan(by_pair)).sum()),
        alpha=found["alpha"],
        disagreements=tuple(sorted(disagreements, key=lambda item: -item.degree)),
        spearman=found.get("spearman"),
    )


def rater_intervals(ratings: Ratings, *, seed: int = 0) -> dict[str, Interval | None]:
    """Returns 95 % intervals of `human_agreement`: its kappa (of scores spearman) and alpha; None where undefined.

    The same seed gives the same intervals.
    """
    outcomes, items, figures = _measured(ratings)
    choices = [len(outcomes)] * items.codes.shape[1]
    return {name: bootstrap_interval(items, choices, figure, seed=seed) for name, figure in figures.items()}


def _measured(ratings: Ratings) -> tuple[Outcomes, Items, dict[str, _Figure]]:
    """The labels, the items with more than one rating as positions of labels, and the figures of such items."""
    outcomes = Outcomes.of(ratings.labels, [label for row in ratings.table for label in row])
    rated = [row for row in ratings.table if sum(label is not None for label in row) > 1]
    codes = [
        [None if label is None else place for label, place in zip(row, outcomes.positions(row), strict=True)]
        for row in rated
    ]

    def pairwise(drawn: Items) -> Floats:
        return mean_defined(pair_figures(outcomes, drawn, _pairs(ratings), peers=True))

    figures: dict[str, _Figure] = {pair_figure(ratings.labels): pairwise, "alpha": partial(alphas, outcomes)}
    return outcomes, rated_items(codes, max(map(len, ratings.table), default=0)), figures


def _pairs(ratings: Ratings) -> list[tuple[int, int]]:
    return list(combinations(range(len(ratings.raters)), 2))


def bootstrap_interval(items: Items, outcomes: Sequence[int], figure: _Figure, *, seed: int) -> Interval | None:
    """Returns the 95 % bootstrap interval of a figure of items, None if it is undefined.

    `outcomes` are the numbers of labels to choose from in each column; the figure is that of each resample.
    """
    estimate = value_of(items, figure)
    if estimate is None:
        return None
    drawn = drawn_anew(items, outcomes, strata=None, resamples=RESAMPLES, seed=seed)
    return percentile_interval(estimate, np.concatenate([figure(part) for part in drawn]), LEVEL, ITEMS_METHOD)


def value_of(items: Items, figure: _Figure) -> float | None:
    """Returns a figure of items as they were observed, None if it is undefined."""
    value = float(figure(Items(items.codes, items.counts[None]))[0])
    return None if np.isnan(value) else value


def rated_items(table: Sequence[Sequence[int | None]], raters: int) -> Items:
    """Returns the items of a table of positions, one row per item, one column per rater, None for no rating."""
    codes = [[MISSING if position is None else position for position in row] for row in table]
    return distinct(np.array(codes, dtype=np.int64).reshape(len(table), raters))


def pair_figures(outcomes: Outcomes, items: Items, pairs: Sequence[tuple[int, int]], *, peers: bool) -> Floats:
    """Returns the `pair_figure` of each pair of columns on the items that have both, shape (resamples, pairs).

    That is Cohen's kappa, or Spearman's correlation of scores.

    Args:
        outcomes: The labels that ratings can be.
        items: Ratings; the second of a pair that are not peers may be invalid.
        pairs: The columns.
        peers: Whether neither of a pair is the truth for the other: then a constant on either side leaves their kappa
            undefined, otherwise one on the first.
    """
    name = pair_figure(outcomes.labels)
    found = np.full((len(items.counts), len(pairs)), np.nan)
    for place, (first, second) in enumerate(pairs):
        both = (items.codes[:, [first, second]] != MISSING).all(axis=1)
        one, other, counts = items.codes[both, first], items.codes[both, second], items.counts[:, both]
        figure = figures_of(Tables(outcomes, one, other, counts), [name])[name]
        if peers:
            several = (Tables(outcomes, other, one, counts).by_true > 0).sum(axis=1) > 1
            figure = np.where(several, figure, np.nan)
        found[:, place] = figure
    return found


def mean_defined(values: Floats) -> Floats:
    """Returns the mean of each row over what is defined."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=1)
    return np.where(count > 0, np.where(defined, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def alphas(outcomes: Outcomes, items: Items) -> Floats:
    """Returns Krippendorff's alpha, nominal, ordinal or (of scores) interval as the labels are.

    Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011.
    """
    given = np.stack([(items.codes == position).sum(axis=1) for position in range(len(outcomes))], axis=1)
    ratings = given.sum(axis=1)
    given, ratings, counts = given[ratings > 1], ratings[ratings > 1], items.counts[:, ratings > 1]
    totals = counts @ given
    n = totals.sum(axis=1)
    # The squared distances of all pairs of m values sum up to m · Σx² − (Σx)²; nominal ones are 0 or 1.
    if outcomes.labels.ordered:
        scores = outcomes.labels.kind == "scores"
        places = outcomes.scores[None] if scores else totals.cumsum(axis=1) - totals / 2  # else midranks
        within = ratings * (places**2 @ given.T) - (places @ given.T) ** 2
        among = n * (totals * places**2).sum(axis=1) - (totals * places).sum(axis=1) ** 2
    else:
        within = (ratings**2 - (given**2).sum(axis=1))[None] / 2
        among = (n**2 - (totals**2).sum(axis=1)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha: Floats = 1 - (n - 1) * (counts * within / (ratings - 1)).sum(axis=1) / among
    return np.where(among > 0, alpha, np.nan)
