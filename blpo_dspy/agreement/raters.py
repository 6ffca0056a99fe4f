"""Several human raters per item: one label out of many, how far people agree, and where they don't."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from numbers import Real
from statistics import fmean, median_low
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
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.labels import Label, LabelSpace


@dataclass(frozen=True)
class Ratings:
    """What each rater said about each item.

    Attributes:
        labels: The label space.
        items: One name per item, all different.
        table: One row per item; one entry per rater, None where there is no rating.
        raters: Names of the raters; empty if nobody knows who gave which rating.
    """

    labels: LabelSpace
    items: tuple[str, ...]
    table: tuple[tuple[Label | None, ...], ...]
    raters: tuple[str, ...] = ()

    def of(self, row: int) -> list[Label]:
        """Returns the ratings that an item has."""
        return [label for label in self.table[row] if label is not None]


@dataclass(frozen=True)
class Combined:
    """One label per item.

    Attributes:
        rule: How ratings were combined.
        labels: Item to label, in the order of the items; without those in `tied` and `unrated`.
        tied: Items left out because no label won.
        unrated: Items left out because nobody rated them.
    """

    rule: str
    labels: Mapping[str, Label]
    tied: tuple[str, ...]
    unrated: tuple[str, ...]


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


def ratings_from_columns(labels: LabelSpace, items: Sequence[str], columns: Mapping[str, Sequence[object]]) -> Ratings:
    """Reads one column of cells per rater; an empty cell, None or NaN is a missing rating.

    Raises:
        DataError: If columns differ in length, an item occurs twice, or cells are not labels (all of them are named).
    """
    if any(len(cells) != len(items) for cells in columns.values()):
        lengths = ", ".join(f"{rater}: {len(cells)}" for rater, cells in columns.items())
        raise DataError(f"every rater's column needs one cell for each of the {len(items)} items; got {lengths}")
    cells = [(item, rater, column[i]) for i, item in enumerate(items) for rater, column in columns.items()]
    return _ratings(labels, items, tuple(columns), cells)


def ratings_from_rows(labels: LabelSpace, rows: Iterable[tuple[str, str | None, object]]) -> Ratings:
    """Reads one (item, rater, label) per rating; rater is None throughout if nobody knows who gave which.

    Raises:
        DataError: If a rater rated an item twice, some raters are named and others not, or labels are not in the
            space (all of them are named).
    """
    rows = list(rows)
    items, raters = (tuple(dict.fromkeys(row[i] for row in rows)) for i in (0, 1))
    if None in raters and len(raters) > 1:
        raise DataError("some ratings name their rater and others don't; name all raters or none")
    if raters != (None,):
        return _ratings(labels, [str(i) for i in items], tuple(map(str, raters)), rows)
    turns: Counter[str] = Counter()
    numbered = []
    for item, _, cell in rows:
        turns[item] += 1
        numbered.append((item, f"rating {turns[item]}", cell))
    columns = tuple(f"rating {turn + 1}" for turn in range(max(turns.values())))
    named = _ratings(labels, [str(i) for i in items], columns, numbered)
    return Ratings(named.labels, named.items, named.table)


def combine_raters(ratings: Ratings, rule: str = "majority") -> Combined:
    """Returns one label per item.

    Args:
        ratings: The ratings.
        rule: "majority": the most frequent label; where several are equally frequent, the median of an ordinal item's
            ratings (the lower middle one if their number is even), while a nominal item is left out and listed.
            "mean" (ordinal only): the mean level rounded to the nearest one, the lower of two equally near.

    Raises:
        BlpoError: If the rule is unknown or asks for the mean of nominal labels.
    """
    if rule not in ("majority", "mean"):
        raise BlpoError(f"unknown rule {rule!r} for combining ratings; use 'majority' or 'mean'")
    if rule == "mean" and not ratings.labels.ordered:
        raise BlpoError(f"the labels {ratings.labels} have no order, so no mean; use 'majority'")
    winner = _mean if rule == "mean" else _majority
    found: dict[str, Label] = {}
    tied: list[str] = []
    unrated: list[str] = []
    for row, item in enumerate(ratings.items):
        given = ratings.of(row)
        label = winner(ratings.labels, given) if given else None
        if label is not None:
            found[item] = label
        else:
            (tied if given else unrated).append(item)
    return Combined(rule, found, tuple(tied), tuple(unrated))


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


def _ratings(
    labels: LabelSpace, items: Sequence[str], raters: tuple[str, ...], cells: Iterable[tuple[str, str | None, object]]
) -> Ratings:
    problems = [f"item {item!r} occurs {n} times" for item, n in Counter(items).items() if n > 1]
    found: dict[tuple[str, str], Label] = {}
    for item, rater, cell in cells:
        if cell is None or str(cell).strip() == "" or (isinstance(cell, Real) and math.isnan(cell)):
            continue
        place = (str(item), str(rater))
        if place in found:
            problems.append(f"{rater} rated {item!r} more than once")
            continue
        try:
            found[place] = labels.coerce(cell)
        except BlpoError as error:
            problems.append(f"{item!r}, {rater}: {error}")
    if problems:
        raise DataError("ratings that cannot be used; correct or remove them", problems)
    table = tuple(tuple(found.get((item, rater)) for rater in raters) for item in items)
    return Ratings(labels, tuple(items), table, raters)


def _majority(labels: LabelSpace, given: list[Label]) -> Label | None:
    counts = Counter(given)
    most = max(counts.values())
    winners = [label for label, count in counts.items() if count == most]
    if len(winners) == 1:
        return winners[0]
    return labels.labels[median_low(labels.index(label) for label in given)] if labels.ordered else None


def _mean(labels: LabelSpace, given: list[Label]) -> Label:
    total, n = sum(labels.index(label) for label in given), len(given)
    return labels.labels[-((n - 2 * total) // (2 * n))]  # ⌈mean − ½⌉ in whole numbers


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
