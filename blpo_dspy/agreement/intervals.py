"""The uncertainty of a result: bootstrap intervals, the paired comparison of two judges, and means over seeds.

Intervals are percentile intervals of the bootstrap of `resampling`, stratified by true label (scores apart, which are
all different): they are conditional on how many images each label has, as balanced draws and splits fix it. With five
images of a rare label in a hundred those of macro-F1 and kappa cover the truth about 0.90 of the time where 0.95 is
meant; where chance decided how many of it there are, about 0.84.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from blpo_dspy.agreement.figures import Tables, figure_names, figures_of, headline_figure, main_figure
from blpo_dspy.agreement.measure import Agreement, Flips
from blpo_dspy.agreement.outcomes import Outcomes
from blpo_dspy.agreement.resampling import MISSING, RESAMPLES, Floats, Ints, Items, distinct, drawn_anew
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

METHOD = "percentile bootstrap stratified by true label, smoothed by one example with a random outcome"
SCORES_METHOD = "percentile bootstrap, smoothed by one example with a random outcome"
ITEMS_METHOD = "percentile bootstrap of the items, smoothed by one item with a random outcome"
LEVEL = 0.95
"""The nominal coverage of intervals."""

BETTER, WORSE, NO_CHANGE = "better", "worse", "not distinguishable from no change"


@dataclass(frozen=True)
class Interval:
    """A confidence interval; it always contains the estimate it belongs to.

    Attributes:
        low: Lower end.
        high: Upper end.
        level: Nominal coverage in (0, 1).
        method: How it was made, in words.
        resamples: Number of bootstrap resamples, 0 if it is not a bootstrap interval.
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
        fixed: Wrong before, right after (`LabelSpace.right`).
        broken: Right before, wrong after.
        mcnemar_p: Exact two-sided McNemar test on right and wrong.
        p_value: Exact two-sided sign-flip test of the paired losses; for nominal labels this is McNemar's test.
        differences: Of the figures that there are for such labels (`figure_names`; mean_loss and mae are the lower the
            better); a figure undefined before or after is left out.
        headline: The figure that the verdict is about: accuracy for nominal labels, mean_loss for others.
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
class SeedsComparison:
    """Two judges on the same examples, each the mean over several seeds.

    What is uncertain is how the test examples were drawn: every resample takes an example with its answers of all
    seeds, and so does every flip of signs. `mean_sd` returns how far seeds differ.

    Attributes:
        seeds: How many.
        p_value: Exact two-sided sign-flip test of the paired losses, those of an example summed over the seeds.
        differences: Of the main figure (`main_figure`) and the headline, as in `PairedComparison`, of the means over
            seeds.
        headline: As there.
        verdict: As there.
    """

    seeds: int
    p_value: float
    differences: Mapping[str, Difference]
    headline: str
    verdict: str


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
    agreement: Agreement, *, seed: int = 0, level: float = LEVEL, resamples: int = RESAMPLES
) -> dict[str, Interval | None]:
    """Returns an interval for each figure of an agreement; None where the figure is undefined.

    The invalid rate and the flip rate of pairs, plain proportions, get Wilson's score interval; all others the
    bootstrap.

    Args:
        agreement: The agreement; its confusion matrix, or its pairs of scores, hold all that is needed.
        seed: The same seed gives the same intervals.
        level: Nominal coverage in (0, 1).
        resamples: Number of bootstrap resamples.
    """
    draws = _agreement_draws(agreement, figure_names(agreement.labels), resamples, seed)
    method = interval_method(agreement.labels)
    names = ("accuracy", "macro_f1", "kappa", "spearman", *(("pearson",) if "pearson" in draws else ()), "mae")
    found = {
        name: percentile_interval(getattr(agreement, name), draws[name][:, 0], level, method) if name in draws else None
        for name in names
    }
    found["invalid_rate"] = proportion_interval(agreement.invalid, agreement.n, level=level)
    if agreement.flips is not None:
        found["flip_rate"] = proportion_interval(agreement.flips.flipped, agreement.flips.pairs, level=level)
    return found


def mean_loss_interval(agreement: Agreement, *, seed: int = 0) -> Interval | None:
    """Returns an interval for an agreement's mean loss, None if it is undefined; arguments as `agreement_intervals`."""
    draws = _agreement_draws(agreement, ["mean_loss"], RESAMPLES, seed)["mean_loss"][:, 0]
    return percentile_interval(agreement.mean_loss, draws, LEVEL, interval_method(agreement.labels))


def interval_method(labels: LabelSpace) -> str:
    """Returns how intervals of such labels are made, in words."""
    return SCORES_METHOD if labels.kind == "scores" else METHOD


def compare_paired(
    labels: LabelSpace,
    truth: Sequence[Label],
    before: Sequence[Label | None],
    after: Sequence[Label | None],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    figures: Sequence[str] | None = None,
) -> PairedComparison:
    """Compares two judges on the same examples.

    Args:
        labels: The label space.
        truth: Human labels.
        before: Labels of the first judge, None for an invalid answer.
        after: Labels of the second judge in the same order.
        seed: The same seed gives the same intervals.
        resamples: Number of bootstrap resamples.
        figures: Which differences to return in addition to the headline's, all if None; a few take less time.

    Raises:
        BlpoError: If there is nothing to compare, the lengths differ, or a label is not in the space.
    """
    from scipy.stats import binomtest  # noqa: PLC0415  (slow to import)

    if not len(truth) == len(before) == len(after) > 0:
        raise BlpoError(
            f"{len(truth)} human labels, {len(before)} labels before and {len(after)} after: a paired comparison needs "
            "one of each for every example, and at least one example"
        )
    found = _compared(labels, truth, [before], [after], [()], figures, resamples, seed)
    right = [
        [labels.right(true, said) for true, said in zip(truth, answers, strict=True)] for answers in (before, after)
    ]
    fixed, broken = (sum(is_ and not was for was, is_ in zip(*two, strict=True)) for two in (right, right[::-1]))
    mcnemar_p = float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0
    numbers = (len(truth), fixed, broken, mcnemar_p, found.p_value)
    return PairedComparison(*numbers, found.differences, found.headline, found.verdict)


def compare_over_seeds(
    labels: LabelSpace,
    truth: Sequence[Label],
    before: Sequence[Sequence[Label | None]],
    after: Sequence[Sequence[Label | None]],
    failed: Sequence[Collection[int]],
) -> SeedsComparison:
    """Compares the means over seeds of two judges on the same examples; labels as for `compare_paired`, of each seed.

    Of each seed the examples at the positions in `failed`, which one of the two didn't answer, are left out.

    Raises:
        BlpoError: If a label is not in the space, or a seed has no example that both answered.
    """
    return _compared(labels, truth, before, after, failed, [main_figure(labels)], RESAMPLES, 0)


def _compared(
    labels: LabelSpace,
    truth: Sequence[Label],
    before: Sequence[Sequence[Label | None]],
    after: Sequence[Sequence[Label | None]],
    failed: Sequence[Collection[int]],
    figures: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> SeedsComparison:
    """Means over seeds compared by the headline and some figures, all if None."""
    outcomes = Outcomes.of(labels, [*truth, *(label for one in (*before, *after) for label in one)])
    rows = np.array(outcomes.true_positions(truth))
    first, second = (_columns(outcomes, predicted, failed) for predicted in (before, after))
    headline = headline_figure(labels)
    names = [name for name in figure_names(labels) if figures is None or name in (headline, *figures)]
    observed = distinct(np.column_stack([rows, first, second]))
    differences = _differences(outcomes, observed, names, resamples, seed)
    truths = np.broadcast_to(rows[:, None], first.shape)
    moved = outcomes.distances(truths, second) - outcomes.distances(truths, first)
    changes = np.where(first == MISSING, 0.0, outcomes.whole_steps(moved))
    p_value = _sign_flip_p(changes.sum(axis=1))
    verdict = _verdict(differences[headline], p_value, lower_is_better=headline == "mean_loss")
    return SeedsComparison(len(before), p_value, differences, headline, verdict)


def interval_over_seeds(
    labels: LabelSpace,
    truth: Sequence[Label],
    predicted: Sequence[Sequence[Label | None]],
    failed: Sequence[Collection[int]],
    figure: str,
) -> Interval | None:
    """Returns the interval of a figure's mean over seeds, None where it is undefined; see `compare_over_seeds`."""
    outcomes = Outcomes.of(labels, [*truth, *(label for one in predicted for label in one)])
    observed = distinct(np.column_stack([outcomes.true_positions(truth), _columns(outcomes, predicted, failed)]))
    mean = _by_judge(outcomes, Items(observed.codes, observed.counts[None]), [figure])[figure][0].mean()
    draws = _draws(outcomes, observed, [figure], RESAMPLES, 0, judges=1)[figure].mean(axis=1)
    return percentile_interval(float(mean), draws, LEVEL, interval_method(labels))


def mean_sd(values: Sequence[float]) -> MeanSd:
    """Returns mean and standard deviation over seeds."""
    if not values:
        raise BlpoError("no values to average; a figure that is undefined for every seed has no mean")
    return MeanSd(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def percentile_interval(estimate: float | None, draws: Floats, level: float, method: str) -> Interval | None:
    """Returns the interval of an estimate from its value in each resample, NaN if undefined; None without estimate."""
    if estimate is None or np.isnan(estimate):
        return None
    tails = [(1 - level) / 2, (1 + level) / 2]
    defined = draws[~np.isnan(draws)]
    low, high = np.quantile(defined, tails) if len(defined) else (estimate, estimate)
    # Smoothing can move all draws to one side of an estimate at the edge of its range.
    return Interval(min(float(low), estimate), max(float(high), estimate), level, method, len(draws))


def proportion_interval(count: int, n: int, *, level: float = LEVEL, exact: bool = False) -> Interval | None:
    """Returns Wilson's score interval of a share of n, or that of Clopper and Pearson; None if n is zero."""
    from scipy.stats import binomtest  # noqa: PLC0415  (slow to import, and needed only here)

    if n == 0:
        return None
    ends = binomtest(count, n).proportion_ci(level, method="exact" if exact else "wilson")
    method = "Clopper-Pearson interval" if exact else "Wilson score interval"
    return Interval(float(ends.low), float(ends.high), level, method, 0)


def flips_in_words(flips: Flips) -> str:
    """Returns how often the order of two images decided."""
    interval = proportion_interval(flips.flipped, flips.pairs)
    ends = "" if interval is None else f" ({interval.low:.0%} to {interval.high:.0%})"
    share = "–" if flips.rate is None else f"{flips.rate:.0%}"
    return f"another label in the other order: {share}{ends} of {flips.pairs:,} pairs"


def _columns(
    outcomes: Outcomes, predicted: Sequence[Sequence[Label | None]], failed: Sequence[Collection[int]]
) -> Ints:
    """A column of outcomes for each seed."""
    codes = np.array([outcomes.positions(values) for values in predicted], dtype=np.int64).T
    for column, lost in enumerate(failed):
        codes[list(lost), column] = MISSING
    if (codes == MISSING).all(axis=0).any():
        raise BlpoError("a seed has no test example that was answered, so there is nothing to compare")
    return codes


def _draws(
    outcomes: Outcomes, observed: Items, names: Sequence[str], resamples: int, seed: int, judges: int
) -> dict[str, Floats]:
    """Figures of resampled (true label, outcome, …): one row per resample, one column per judge and seed."""
    columns = observed.codes.shape[1] - 1
    seeds = columns // judges
    choices = [len(outcomes), *[len(outcomes) + 1] * columns]
    # Scores are all different: kept each in its number, they would never vary.
    true = observed.codes[:, 0]
    strata = np.zeros_like(true) if outcomes.labels.kind == "scores" else true
    alike = [0, *(1 + column // seeds * seeds for column in range(columns))]
    parts = [
        _by_judge(outcomes, items, names)
        for items in drawn_anew(observed, choices, strata=strata, resamples=resamples, seed=seed, alike=alike)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _agreement_draws(agreement: Agreement, names: Sequence[str], resamples: int, seed: int) -> dict[str, Floats]:
    """Resampled figures of one judge."""
    if agreement.labels.kind == "scores":
        outcomes = Outcomes.of(agreement.labels, [label for pair in agreement.pairs for label in pair])
        observed = distinct(np.array([outcomes.positions(pair) for pair in agreement.pairs], np.int64).reshape(-1, 2))
    else:
        outcomes, table = Outcomes.of(agreement.labels), np.array(agreement.confusion)
        codes = np.argwhere(table)
        observed = Items(codes, table[tuple(codes.T)].astype(np.float64))
    return _draws(outcomes, observed, names, resamples, seed, judges=1)


def _by_judge(outcomes: Outcomes, items: Items, names: Sequence[str]) -> dict[str, Floats]:
    true, *judges = items.codes.T
    answered = [guess != MISSING for guess in judges]
    found = [
        figures_of(Tables(outcomes, true[there], guess[there], items.counts[:, there]), names)
        for guess, there in zip(judges, answered, strict=True)
    ]
    return {name: np.stack([figures[name] for figures in found], axis=1) for name in names}


def _differences(
    outcomes: Outcomes, observed: Items, names: Sequence[str], resamples: int, seed: int
) -> dict[str, Difference]:
    """Differences of (true label, outcomes before, outcomes after), with a column for each seed."""
    figures = _by_judge(outcomes, Items(observed.codes, observed.counts[None]), names)
    draws = _draws(outcomes, observed, names, resamples, seed, judges=2)
    found = {}
    for name in names:
        old, new = (float(half.mean()) for half in np.split(figures[name][0], 2))
        before, after = (half.mean(axis=1) for half in np.split(draws[name], 2, axis=1))
        interval = percentile_interval(new - old, after - before, LEVEL, interval_method(outcomes.labels))
        if interval is not None:
            found[name] = Difference(old, new, new - old, interval)
    return found


def _sign_flip_p(changes: Floats) -> float:
    """P(|Σ ± changes| ≥ |Σ changes|) with fair random signs, exact: a sum of one scaled binomial per size of change."""
    from scipy.stats import binom  # noqa: PLC0415

    sizes, counts = np.unique(np.abs(changes[changes != 0]).astype(np.int64), return_counts=True)
    chances = np.ones(1)  # of each sum of the sizes that get a plus
    for size, count in zip(sizes, counts, strict=True):
        grown = np.zeros(len(chances) + size * count)
        for plus, chance in enumerate(binom.pmf(np.arange(count + 1), count, 0.5)):
            grown[plus * size : plus * size + len(chances)] += chance * chances
        chances = grown
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return float(min(chances[np.abs(sums) >= abs(changes.sum())].sum(), 1.0))


def _verdict(difference: Difference, p_value: float, *, lower_is_better: bool) -> str:
    interval = difference.interval
    if interval.low <= 0 <= interval.high or p_value > 1 - interval.level:
        return NO_CHANGE
    return BETTER if (difference.change > 0) != lower_is_better else WORSE
