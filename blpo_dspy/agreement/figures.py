"""The figures of `measure_agreement`, and the mean loss, for many confusion tables at once; NaN if undefined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from blpo_dspy.agreement.measure import farthest
from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.data.labels.space import LabelSpace


@dataclass(frozen=True)
class Tables:
    """Confusion tables by the cells that hold anything, which in a large table are few.

    Attributes:
        labels: The label space.
        true: The position of each cell's true label; a cell may stand there several times.
        guess: That of the predicted one, len(labels) for an invalid answer.
        counts: One row per table, one column per cell.
    """

    labels: LabelSpace
    true: Ints
    guess: Ints
    counts: Floats

    @cached_property
    def by_true(self) -> Floats:
        """Examples of each true label, one row per table."""
        return _summed(self.counts, self.true, len(self.labels))

    @cached_property
    def n(self) -> Floats:
        """Examples of each table."""
        total: Floats = self.counts.sum(axis=1)
        return total

    @cached_property
    def valid(self) -> Tables:
        """The tables without invalid answers."""
        stated = self.guess < len(self.labels)
        return Tables(self.labels, self.true[stated], self.guess[stated], self.counts[:, stated])


def figures_of(tables: Tables, names: Iterable[str]) -> dict[str, Floats]:
    """Returns the named figures of each table: some of `figure_names`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: _FIGURES[name](tables) for name in names}


def figure_names(labels: LabelSpace) -> tuple[str, ...]:
    """Returns the figures that there are for such labels."""
    return ("accuracy", "macro_f1", "kappa", "mean_loss", *(("spearman", "mae") if labels.ordered else ()))


@lru_cache(maxsize=8)
def loss_steps(labels: LabelSpace) -> Floats:
    """Returns the loss of each true label (row) and outcome (column, the last one invalid) in whole steps."""
    outcomes = [*labels.labels, None]
    losses = np.array([[labels.loss(label, outcome) for outcome in outcomes] for label in labels.labels])
    steps: Floats = np.rint(losses * (len(labels) - 1 if labels.ordered else 1))
    steps.flags.writeable = False  # as all callers get the same
    return steps


def _summed(counts: Floats, positions: Ints, size: int) -> Floats:
    """The counts of the columns of each position, shape (tables, size)."""
    sums = np.zeros((len(counts), size))
    order = np.argsort(positions, kind="stable")
    found, starts = np.unique(positions[order], return_index=True)
    if len(found):
        sums[:, found] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def _accuracy(tables: Tables) -> Floats:
    share: Floats = tables.counts @ (tables.true == tables.guess) / tables.n
    return share


def _macro_f1(tables: Tables) -> Floats:
    size, hit = len(tables.labels), tables.true == tables.guess
    right = _summed(tables.counts[:, hit], tables.true[hit], size)
    occurring = tables.by_true + _summed(tables.counts, tables.guess, size + 1)[:, :size]
    f1 = np.where(occurring > 0, 2 * right / occurring, 0.0)
    mean: Floats = f1.sum(axis=1) / (occurring > 0).sum(axis=1)
    return mean


def _mean_loss(tables: Tables) -> Floats:
    steps = loss_steps(tables.labels)
    mean: Floats = tables.counts @ steps[tables.true, tables.guess] / tables.n / steps.max()
    return mean


def _mae(tables: Tables) -> Floats:
    valid = tables.valid
    mean: Floats = valid.counts @ np.abs(valid.true - valid.guess) / valid.n
    return mean


def _kappa(tables: Tables) -> Floats:
    size = len(tables.labels)
    categories = np.arange(size + 1.0)
    weights = (categories[:, None] != categories).astype(np.float64)
    guess = tables.guess
    if tables.labels.ordered:
        weights = (categories[:, None] - categories) ** 2
        ends = np.array([farthest(i, size) for i in range(size)])
        guess = np.where(guess == size, ends[tables.true], guess)
    by_guess = _summed(tables.counts, guess, size + 1)
    expected = (tables.by_true @ weights[:size] * by_guess).sum(axis=1)
    kappa = 1 - tables.counts @ weights[tables.true, guess] * tables.n / expected
    several: Floats = np.where((tables.by_true > 0).sum(axis=1) > 1, kappa, np.nan)
    return several


def _spearman(tables: Tables) -> Floats:
    """Pearson's correlation of the midranks of the valid answers."""
    valid, size = tables.valid, len(tables.labels)
    by_true, by_guess = valid.by_true, _summed(valid.counts, valid.guess, size)
    ranks = [c.cumsum(axis=1) - (c - 1) / 2 - ((valid.n + 1) / 2)[:, None] for c in (by_true, by_guess)]
    shared = (valid.counts * ranks[0][:, valid.true] * ranks[1][:, valid.guess]).sum(axis=1)
    spread = (by_true * ranks[0] ** 2).sum(axis=1) * (by_guess * ranks[1] ** 2).sum(axis=1)
    correlation: Floats = shared / np.sqrt(np.where(spread > 0, spread, np.nan))
    return correlation


_FIGURES: Mapping[str, Callable[[Tables], Floats]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "kappa": _kappa,
    "mean_loss": _mean_loss,
    "spearman": _spearman,
    "mae": _mae,
}
