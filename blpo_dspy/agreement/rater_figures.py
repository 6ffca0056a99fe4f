"""How far several raters agree, for many resamples of their ratings at once; NaN if undefined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from blpo_dspy.agreement.figures import Tables, figures_of, pair_figure
from blpo_dspy.agreement.intervals import ITEMS_METHOD, LEVEL, Interval, percentile_interval
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.resampling import MISSING, RESAMPLES, Floats, Items, distinct, drawn_anew


def bootstrap_interval(
    items: Items, outcomes: Sequence[int], figure: Callable[[Items], Floats], *, seed: int
) -> Interval | None:
    """Returns the 95 % bootstrap interval of a figure of items, None if it is undefined.

    `outcomes` are the numbers of labels to choose from in each column; the figure is that of each resample.
    """
    estimate = value_of(items, figure)
    if estimate is None:
        return None
    drawn = drawn_anew(items, outcomes, strata=None, resamples=RESAMPLES, seed=seed)
    return percentile_interval(estimate, np.concatenate([figure(part) for part in drawn]), LEVEL, ITEMS_METHOD)


def value_of(items: Items, figure: Callable[[Items], Floats]) -> float | None:
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
    mean: Floats = np.where(count > 0, np.where(defined, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
    return mean


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
