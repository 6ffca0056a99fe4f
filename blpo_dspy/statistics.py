"""How sure a result is: bootstrap intervals, the paired comparison of two judges, and means over seeds.

Intervals are percentile intervals of a bootstrap stratified by true label, drawn from the observed table plus one
pseudo-example: each true label's row of outcomes gets a share of it in proportion to the row, spread evenly over the
row. Without it a row of right answers would never vary, and intervals of good judges, and of a weighted kappa, which
hangs on rare outcomes, would be too short: at n = 100 plain percentile and BCa intervals of a quadratic kappa can
cover the truth 0.78 of the time where 0.95 is meant.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from blpo_dspy.agreement import Agreement, farthest, positions
from blpo_dspy.errors import BlpoError
from blpo_dspy.labels import Label, LabelSpace

Floats = npt.NDArray[np.float64]

METHOD = "percentile bootstrap stratified by true label, smoothed by one pseudo-example"
BETTER, WORSE, NO_CHANGE = "better", "worse", "not distinguishable from no change"


@dataclass(frozen=True)
class Interval:
    """A confidence interval; it always contains the estimate it belongs to.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Nominal coverage in (0, 1).
        method: How it was made, in words.
        resamples: Number of bootstrap resamples, 0 if it is no bootstrap interval.
    """

    low: float
    high: float
    level: float
    method: str
    resamples: int


@dataclass(frozen=True)
class Difference:
    """One figure before and after on the same examples; `change` is after − before, with its interval."""

    before: float
    after: float
    change: float
    interval: Interval


@dataclass(frozen=True)
class PairedComparison:
    """Two judges on the same examples.

    Attributes:
        n: Examples that both judges answered.
        fixed: Wrong before, right after.
        broken: Right before, wrong after.
        mcnemar_p: Exact two-sided McNemar test on right and wrong.
        p_value: Exact two-sided sign-flip test of the paired losses; for nominal labels this is McNemar's test.
        differences: accuracy, macro_f1, kappa and mean_loss (lower is better); a figure undefined before or after is
            left out.
        headline: The figure that the verdict is about: accuracy for nominal labels, mean_loss for ordinal ones.
        verdict: "better" or "worse" if the headline's interval leaves out zero and p_value is at most 1 − level,
            otherwise "not distinguishable from no change".
    """

    n: int
    fixed: int
    broken: int
    mcnemar_p: float
    p_value: float
    differences: Mapping[str, Difference]
    headline: str
    verdict: str

    @property
    def wording(self) -> str:
        """The comparison in one sentence."""
        difference = self.differences[self.headline]
        interval = difference.interval
        return (
            f"{self.headline.replace('_', ' ')} {difference.before:.3f} → {difference.after:.3f} "
            f"({difference.change:+.3f}, {interval.level:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}): "
            f"{self.verdict}; {self.fixed} fixed, {self.broken} broken of {self.n}, exact p = {self.p_value:.2g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {**asdict(self), "wording": self.wording}


@dataclass(frozen=True)
class MeanSd:
    """Mean and sample standard deviation (n − 1; None for a single value) of n values."""

    mean: float
    sd: float | None
    n: int


def plain_intervals(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, Any] | None]:
    """Returns intervals by figure as plain data for JSON."""
    return {name: None if interval is None else asdict(interval) for name, interval in intervals.items()}


def agreement_intervals(
    agreement: Agreement, *, seed: int = 0, level: float = 0.95, resamples: int = 2000
) -> dict[str, Interval | None]:
    """Returns an interval for each figure of an agreement; None where the figure is undefined.

    The invalid rate, a plain proportion that is often zero, gets Wilson's score interval; all others the bootstrap.

    Args:
        agreement: The agreement; its confusion matrix holds all that is needed.
        seed: The same seed gives the same intervals.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap resamples.
    """
    table, generator = np.array(agreement.confusion, dtype=np.float64), _generator(seed)
    rows = [_draw(row, float(table.sum()), resamples, generator) for row in table]
    draws = _figures(np.stack(rows, axis=1), agreement.labels)
    names = ("accuracy", "macro_f1", "kappa", "spearman", "mae")
    found = {name: _interval(getattr(agreement, name), draws.get(name, np.empty(0)), level) for name in names}
    return {**found, "invalid_rate": proportion_interval(agreement.invalid, agreement.n, level=level)}


def compare_paired(
    labels: LabelSpace,
    truth: Sequence[Label],
    before: Sequence[Label | None],
    after: Sequence[Label | None],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 2000,
) -> PairedComparison:
    """Compares two judges on the same examples.

    Args:
        labels: The label space.
        truth: Human labels.
        before: Labels of the first judge, None for an invalid answer.
        after: Labels of the second judge in the same order.
        seed: The same seed gives the same intervals.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap resamples.

    Raises:
        BlpoError: If there is nothing to compare, the lengths differ, or a label is not in the space.
    """
    if not len(truth) == len(before) == len(after) > 0:
        raise BlpoError(
            f"{len(truth)} human labels, {len(before)} labels before and {len(after)} after: a paired comparison needs "
            "one of each for every example, and at least one example"
        )
    size = len(labels)
    rows = np.array([labels.index(label) for label in truth])
    first, second = (np.array(positions(labels, values)) for values in (before, after))
    table = np.zeros((size, size + 1, size + 1))
    np.add.at(table, (rows, first, second), 1)
    differences = _differences(labels, table, level=level, resamples=resamples, seed=seed)
    fixed, broken = int(np.sum((first != rows) & (second == rows))), int(np.sum((first == rows) & (second != rows)))
    steps = _loss_steps(labels)
    p_value = _sign_flip_p(steps[rows, second] - steps[rows, first])
    headline = "mean_loss" if labels.ordered else "accuracy"
    return PairedComparison(
        n=len(rows),
        fixed=fixed,
        broken=broken,
        mcnemar_p=_mcnemar_p(fixed, broken),
        p_value=p_value,
        differences=differences,
        headline=headline,
        verdict=_verdict(differences[headline], p_value, lower_is_better=headline == "mean_loss"),
    )


def mean_sd(values: Sequence[float]) -> MeanSd:
    """Returns mean and standard deviation over seeds.

    Raises:
        BlpoError: If there are no values.
    """
    if not values:
        raise BlpoError("no values to average; a figure that is undefined for every seed has no mean")
    return MeanSd(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def across_seeds(
    by_seed: Mapping[int, Mapping[str, float | None]],
) -> tuple[list[dict[str, float | None]], dict[str, MeanSd]]:
    """Returns one row per seed (its figures and "seed") and the mean of each figure over the seeds that define it."""
    rows = [{"seed": seed, **figures} for seed, figures in sorted(by_seed.items())]
    names = dict.fromkeys(name for figures in by_seed.values() for name in figures)
    defined = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return rows, {name: mean_sd([v for v in values if v is not None]) for name, values in defined.items() if values}


def proportion_interval(count: int, n: int, *, level: float = 0.95) -> Interval | None:
    """Returns Wilson's score interval of a share of n, None if n is zero."""
    from scipy.stats import binomtest  # noqa: PLC0415  (slow to import, and needed only here)

    if n == 0:
        return None
    ends = binomtest(count, n).proportion_ci(level, method="wilson")
    return Interval(float(ends.low), float(ends.high), level, "Wilson score interval", 0)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(random.Random(f"{seed}:bootstrap").getrandbits(128))


def _draw(row: Floats, total: float, resamples: int, generator: np.random.Generator) -> Floats:
    """Draws one true label's row of outcome counts anew, shape (resamples, outcomes); `total` is the table's sum."""
    size = int(row.sum())
    if size == 0:
        return np.zeros((resamples, len(row)))
    shares = row + size / total / len(row)
    return generator.multinomial(size, shares / shares.sum(), size=resamples).astype(np.float64)


def _differences(
    labels: LabelSpace, table: Floats, *, level: float, resamples: int, seed: int
) -> dict[str, Difference]:
    """Differences from a table of (true label, outcome before, outcome after)."""
    size, outcomes, _ = table.shape
    generator = _generator(seed)
    first, second = (np.empty((resamples, size, outcomes)) for _ in range(2))
    for i, row in enumerate(table):
        pairs = _draw(row.ravel(), float(table.sum()), resamples, generator).reshape(resamples, outcomes, outcomes)
        first[:, i], second[:, i] = pairs.sum(axis=2), pairs.sum(axis=1)
    before, after = _figures(table.sum(axis=2), labels), _figures(table.sum(axis=1), labels)
    draws_before, draws_after = _figures(first, labels), _figures(second, labels)
    found = {}
    for name in ("accuracy", "macro_f1", "kappa", "mean_loss"):
        old, new = float(before[name]), float(after[name])
        interval = _interval(new - old, draws_after[name] - draws_before[name], level)
        if interval is not None:
            found[name] = Difference(old, new, new - old, interval)
    return found


def _interval(estimate: float | None, draws: Floats, level: float) -> Interval | None:
    if estimate is None or np.isnan(estimate):
        return None
    tails = [(1 - level) / 2, (1 + level) / 2]
    defined = draws[~np.isnan(draws)]
    low, high = np.quantile(defined, tails) if len(defined) else (estimate, estimate)
    # Smoothing can move all draws to one side of an estimate at the edge of its range.
    return Interval(min(float(low), estimate), max(float(high), estimate), level, METHOD, len(draws))


def _figures(tables: Floats, labels: LabelSpace) -> dict[str, Floats]:
    """The figures of `measure_agreement`, and the mean loss, for tables of shape (…, L, L + 1); NaN if undefined."""
    size = len(labels)
    n = tables.sum(axis=(-2, -1))
    valid = tables[..., :size]
    right = np.diagonal(valid, axis1=-2, axis2=-1)
    occurring = tables.sum(axis=-1) + valid.sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = np.where(occurring > 0, 2 * right / occurring, 0.0)
        figures = {
            "accuracy": right.sum(axis=-1) / n,
            "macro_f1": f1.sum(axis=-1) / (occurring > 0).sum(axis=-1),
            "kappa": _kappas(tables, labels),
            "mean_loss": (tables * _loss_steps(labels)).sum(axis=(-2, -1)) / n / _loss_steps(labels).max(),
        }
        if labels.ordered:
            levels = np.arange(size)
            distance = np.abs(levels[:, None] - levels)
            figures["mae"] = (valid * distance).sum(axis=(-2, -1)) / valid.sum(axis=(-2, -1))
            figures["spearman"] = _spearmans(valid)
    return figures


def _kappas(tables: Floats, labels: LabelSpace) -> Floats:
    size = len(labels)
    categories = np.arange(size + 1.0)
    square = np.concatenate([tables, np.zeros((*tables.shape[:-2], 1, size + 1))], axis=-2)
    weights = (categories[:, None] != categories).astype(np.float64)
    if labels.ordered:
        weights = (categories[:, None] - categories) ** 2
        for i in range(size):
            square[..., i, farthest(i, size)] += square[..., i, size]
        square[..., size] = 0
    expected = np.einsum("...i,ij,...j->...", square.sum(axis=-1), weights, square.sum(axis=-2))
    kappas: Floats = 1 - (square * weights).sum(axis=(-2, -1)) * square.sum(axis=(-2, -1)) / expected
    return kappas


def _spearmans(valid: Floats) -> Floats:
    """Spearman's rank correlation of a table of counts: Pearson's of the midranks."""
    true, guess = valid.sum(axis=-1), valid.sum(axis=-2)
    n = valid.sum(axis=(-2, -1))
    rank, other = (c.cumsum(axis=-1) - (c - 1) / 2 - ((n + 1) / 2)[..., None] for c in (true, guess))
    shared = np.einsum("...ij,...i,...j->...", valid, rank, other)
    spread = (true * rank**2).sum(axis=-1) * (guess * other**2).sum(axis=-1)
    correlations: Floats = shared / np.sqrt(np.where(spread > 0, spread, np.nan))
    return correlations


def _loss_steps(labels: LabelSpace) -> Floats:
    """The loss of each true label (row) and outcome (column, the last one invalid) in whole steps of the scale."""
    outcomes = [*labels.labels, None]
    losses = np.array([[labels.loss(label, outcome) for outcome in outcomes] for label in labels.labels])
    steps: Floats = np.rint(losses * (len(labels) - 1 if labels.ordered else 1))
    return steps


def _mcnemar_p(fixed: int, broken: int) -> float:
    from scipy.stats import binomtest  # noqa: PLC0415

    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


def _sign_flip_p(changes: Floats) -> float:
    """P(|Σ ± changes| ≥ |Σ changes|) with fair random signs, exact: a sum of one scaled binomial per size of change."""
    from scipy.signal import fftconvolve  # noqa: PLC0415
    from scipy.stats import binom  # noqa: PLC0415

    sizes, counts = np.unique(np.abs(changes[changes != 0]).astype(np.int64), return_counts=True)
    total = np.array([1.0])
    for size, count in zip(sizes, counts, strict=True):
        flips = np.zeros(2 * size * count + 1)
        flips[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        total = fftconvolve(total, flips)
    sums = np.arange(len(total)) - len(total) // 2
    return float(min(total[np.abs(sums) >= abs(changes.sum())].sum(), 1.0))


def _verdict(difference: Difference, p_value: float, *, lower_is_better: bool) -> str:
    interval = difference.interval
    if interval.low <= 0 <= interval.high or p_value > 1 - interval.level:
        return NO_CHANGE
    return BETTER if (difference.change > 0) != lower_is_better else WORSE
