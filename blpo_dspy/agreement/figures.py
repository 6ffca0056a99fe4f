"""The figures of `measure_agreement`, and the mean loss, for many confusion tables at once; NaN if undefined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from blpo_dspy.agreement.measure import farthest
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.resampling import Floats, Ints
from blpo_dspy.data.labels.space import LabelSpace

# A variance below this part of the squared range is that of a constant.
_ROUNDING = 1e-12
_BY_KIND: Mapping[str, tuple[str, ...]] = {
    "nominal": ("accuracy", "macro_f1", "kappa", "mean_loss"),
    "ordinal": ("accuracy", "macro_f1", "kappa", "mean_loss", "spearman", "mae"),
    "scores": ("accuracy", "mean_loss", "spearman", "pearson", "mae"),
}


@dataclass(frozen=True)
class Tables:
    """Confusion tables by the cells that hold anything, which in a large table are few.

    Attributes:
        outcomes: The labels.
        true: The position of each cell's true label; a cell may stand there several times.
        guess: That of the predicted one, len(outcomes) for an invalid answer.
        counts: One row per table, one column per cell.
    """

    outcomes: Outcomes
    true: Ints
    guess: Ints
    counts: Floats

    @cached_property
    def by_true(self) -> Floats:
        """Examples of each true label, one row per table."""
        return _summed(self.counts, self.true, len(self.outcomes))

    @cached_property
    def n(self) -> Floats:
        """Examples of each table."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def valid(self) -> Tables:
        """The tables without invalid answers."""
        stated = self.guess < len(self.outcomes)
        return Tables(self.outcomes, self.true[stated], self.guess[stated], self.counts[:, stated])


def figures_of(tables: Tables, names: Iterable[str]) -> dict[str, Floats]:
    """Returns the named figures of each table: some of `figure_names`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: _FIGURES[name](tables) for name in names}


def figure_names(labels: LabelSpace) -> tuple[str, ...]:
    """Returns the figures that there are for such labels."""
    return _BY_KIND[labels.kind]


def table_figures(labels: LabelSpace) -> Mapping[str, str]:
    """Returns the figures that a table of such labels shows, each with its heading."""
    if labels.score_range is not None:
        within = f"within {labels.score_range.tolerance}"
        return {"spearman": "Spearman", "pearson": "Pearson", "mae": "mean error", "accuracy": within}
    closed = {"accuracy": "accuracy", "macro_f1": "macro-F1", "kappa": "kappa"}
    return {**closed, "mae": "mean error"} if labels.ordered else closed


def headline_figure(labels: LabelSpace) -> str:
    """Returns the figure that a verdict on two judges is about."""
    return "mean_loss" if labels.ordered else "accuracy"


def main_figure(labels: LabelSpace) -> str:
    """Returns the figure, the higher the better, that a comparison of methods shows."""
    return "spearman" if labels.kind == "scores" else "macro_f1"


def main_words(labels: LabelSpace) -> str:
    """Returns what a table calls the main figure."""
    return "Spearman" if labels.kind == "scores" else "macro-F1"


def pair_figure(labels: LabelSpace) -> str:
    """Returns the figure that tells how far two raters agree."""
    return "spearman" if labels.kind == "scores" else "kappa"


def _summed(counts: Floats, positions: Ints, size: int) -> Floats:
    """The counts of the columns of each position, shape (tables, size)."""
    sums = np.zeros((len(counts), size))
    order = np.argsort(positions, kind="stable")
    found, starts = np.unique(positions[order], return_index=True)
    if len(found):
        sums[:, found] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def _accuracy(tables: Tables) -> Floats:
    return np.asarray(tables.counts @ tables.outcomes.right(tables.true, tables.guess) / tables.n)


def _macro_f1(tables: Tables) -> Floats:
    size, hit = len(tables.outcomes), tables.true == tables.guess
    right = _summed(tables.counts[:, hit], tables.true[hit], size)
    occurring = tables.by_true + _summed(tables.counts, tables.guess, size + 1)[:, :size]
    f1 = np.where(occurring > 0, 2 * right / occurring, 0.0)
    return np.asarray(f1.sum(axis=1) / (occurring > 0).sum(axis=1))


def _mean_loss(tables: Tables) -> Floats:
    distances = tables.outcomes.distances(tables.true, tables.guess)
    return np.asarray(tables.counts @ distances / tables.n / tables.outcomes.labels.span)


def _mae(tables: Tables) -> Floats:
    valid = tables.valid
    return np.asarray(valid.counts @ valid.outcomes.distances(valid.true, valid.guess) / valid.n)


def _kappa(tables: Tables) -> Floats:
    size = len(tables.outcomes)
    categories = np.arange(size + 1.0)
    weights = (categories[:, None] != categories).astype(np.float64)
    guess = tables.guess
    if tables.outcomes.labels.ordered:
        weights = (categories[:, None] - categories) ** 2
        ends = np.array([farthest(i, size) for i in range(size)])
        guess = np.where(guess == size, ends[tables.true], guess)
    by_guess = _summed(tables.counts, guess, size + 1)
    expected = (tables.by_true @ weights[:size] * by_guess).sum(axis=1)
    kappa = 1 - tables.counts @ weights[tables.true, guess] * tables.n / expected
    return np.where((tables.by_true > 0).sum(axis=1) > 1, kappa, np.nan)


def _spearman(tables: Tables) -> Floats:
    """Pearson's correlation of the midranks of the valid answers."""
    valid, size = tables.valid, len(tables.outcomes)
    by_true, by_guess = valid.by_true, _summed(valid.counts, valid.guess, size)
    ranks = [c.cumsum(axis=1) - (c - 1) / 2 - ((valid.n + 1) / 2)[:, None] for c in (by_true, by_guess)]
    shared = (valid.counts * ranks[0][:, valid.true] * ranks[1][:, valid.guess]).sum(axis=1)
    spread = (by_true * ranks[0] ** 2).sum(axis=1) * (by_guess * ranks[1] ** 2).sum(axis=1)
    return np.asarray(shared / np.sqrt(np.where(spread > 0, spread, np.nan)))


def _pearson(tables: Tables) -> Floats:
    """Pearson's correlation of the valid answers."""
    valid = tables.valid
    x, y = (valid.outcomes.scores[positions] - valid.outcomes.scores.mean() for positions in (valid.true, valid.guess))
    mean_x, mean_y = (valid.counts @ values / valid.n for values in (x, y))
    shared = valid.counts @ (x * y) / valid.n - mean_x * mean_y
    spreads = [valid.counts @ values**2 / valid.n - mean**2 for values, mean in ((x, mean_x), (y, mean_y))]
    least = _ROUNDING * valid.outcomes.labels.span**2
    defined = (spreads[0] > least) & (spreads[1] > least)
    correlation: Floats = shared / np.sqrt(np.where(defined, spreads[0] * spreads[1], np.nan))
    return np.clip(correlation, -1, 1)


_FIGURES: Mapping[str, Callable[[Tables], Floats]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "kappa": _kappa,
    "mean_loss": _mean_loss,
    "spearman": _spearman,
    "pearson": _pearson,
    "mae": _mae,
}
