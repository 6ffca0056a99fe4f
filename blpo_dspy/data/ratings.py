"""Labels that several raters gave the same items, and how they are combined."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import fmean, median_low

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError


@dataclass(frozen=True)
class Ratings:
    """What each rater said about each item.

    Attributes:
        labels: The label space.
        items: One name per item, all different.
        table: One row per item; one entry per rater, None where there is no rating.
        raters: Names of the raters; empty if they are unknown.
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


def ratings_from_columns(labels: LabelSpace, items: Sequence[str], columns: Mapping[str, Sequence[object]]) -> Ratings:
    """Reads one column of cells per rater; an empty cell, None or NaN is a missing rating."""
    if any(len(cells) != len(items) for cells in columns.values()):
        lengths = ", ".join(f"{rater}: {len(cells)}" for rater, cells in columns.items())
        raise DataError(f"every rater's column needs one cell for each of the {len(items)} items; got {lengths}")
    cells = [(item, rater, column[i]) for i, item in enumerate(items) for rater, column in columns.items()]
    return _ratings(labels, items, tuple(columns), cells)


def ratings_from_rows(labels: LabelSpace, rows: Iterable[tuple[str, str | None, object]]) -> Ratings:
    """Reads one (item, rater, label) per rating; rater is None throughout if the raters are unknown."""
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
            ratings or scores (the lower middle one if their number is even), while a nominal item is left out and
            listed. "mean" (not nominal): the mean level rounded to the nearest one, the lower of two equally near; of
            scores the mean itself, to the nearest step if the range has steps.

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
    if labels.score_range is not None:
        return median_low(labels.score(label) for label in given)
    return labels.labels[median_low(labels.index(label) for label in given)] if labels.ordered else None


def _mean(labels: LabelSpace, given: list[Label]) -> Label:
    if labels.score_range is not None:
        return labels.score_range.nearest(fmean(labels.score(label) for label in given))
    total, n = sum(labels.index(label) for label in given), len(given)
    return labels.labels[-((n - 2 * total) // (2 * n))]  # ⌈mean − ½⌉ in whole numbers
