"""The figures of both judges, each with its interval, and how they changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from blpo_dspy.agreement.figures import figure_names
from blpo_dspy.agreement.intervals import Difference, Interval, agreement_intervals, mean_loss_interval
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.numbers import enough_digits, figure
from blpo_dspy.report.run.measured import Measured

_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen’s κ",
    "spearman": "Spearman’s ρ",
    "pearson": "Pearson’s r",
    "mae": "Mean distance of answers with a label",
    "mean_loss": "Mean distance",
    "invalid_rate": "Answers without a label",
}


@dataclass(frozen=True)
class IntervalEstimate:
    """A figure with its interval."""

    value: float
    interval: Interval | None

    def times(self, factor: float) -> IntervalEstimate:
        """Returns it in another unit."""
        found = self.interval
        ends = None if found is None else replace(found, low=found.low * factor, high=found.high * factor)
        return IntervalEstimate(self.value * factor, ends)

    def digits(self, least: int) -> int:
        """Returns the digits, at least so many, that write no number of it as zero that isn't."""
        ends = [] if self.interval is None else [self.interval.low, self.interval.high]
        return enough_digits([self.value, *ends], least)

    def ends(self, digits: int, unit: str = "", *, signed: bool = False) -> str:
        """Returns the interval in words, "" if there is none."""
        if self.interval is None:
            return ""
        low, high = (figure(end, digits, signed=signed) for end in (self.interval.low, self.interval.high))
        return f"{low}{unit} to {high}{unit}"


@dataclass(frozen=True)
class Figure:
    """One row of the table of figures.

    Attributes:
        name: The figure.
        remark: What to know of it, "" if nothing.
        before: The start's.
        after: The compiled judge's.
        change: After − before on the images that both answered, where the paired comparison has it.
        ceiling: That of a judge whose instruction states the truth.
    """

    name: str
    remark: str
    before: IntervalEstimate | None
    after: IntervalEstimate | None
    change: IntervalEstimate | None
    ceiling: float | None

    @property
    def digits(self) -> int:
        """Of all its numbers."""
        return 2 if self.change is None else self.change.digits(2)


@dataclass(frozen=True)
class Column:
    """How many images a column of the table rests on, and how many are missing as the model failed."""

    n: int
    failed: int


@dataclass(frozen=True)
class FigureTable:
    """All figures, and what each column rests on.

    Attributes:
        rows: The figures.
        before: The start's images, None if it was not measured.
        after: Those of the compiled judge, likewise.
        both: Those that both answered, None if there are none.
        top: Those of the judge whose instruction states the truth, None if there is no such judge.
    """

    rows: tuple[Figure, ...]
    before: Column | None
    after: Column | None
    both: Column | None
    top: Column | None

    @property
    def ceiling(self) -> bool:
        """Whether there is a judge whose instruction states the truth."""
        return self.top is not None


def figure_table(measured: Measured) -> FigureTable:
    """Returns the figures of what a run measured."""
    found = {when: estimates(agreement, measured.seed) for when, agreement in measured.agreements.items()}
    ceiling = {} if measured.ceiling is None else estimates(measured.ceiling, measured.seed)
    changes = {} if measured.paired is None else measured.paired.differences
    invalid = any(a is not None and a.invalid for a in measured.agreements.values())
    rows = []
    for name, title, remark, unit in _rows(measured.labels, invalid):
        first, second, top = (_in(unit, figures.get(name)) for figures in (found["before"], found["after"], ceiling))
        if first or second:
            change = _in(unit, changed(changes.get(name)))
            rows.append(Figure(title, remark, first, second, change, None if top is None else top.value))
    both = None if measured.paired is None else Column(measured.paired.n, measured.n - measured.paired.n)
    before, after, best = map(_column, (*measured.agreements.values(), measured.ceiling))
    return FigureTable(tuple(rows), before, after, both, best)


def _column(agreement: Agreement | None) -> Column | None:
    return None if agreement is None else Column(agreement.n, agreement.failed)


def estimates(agreement: Agreement | None, seed: int) -> dict[str, IntervalEstimate]:
    """Returns the figures of an agreement that are defined."""
    if agreement is None:
        return {}
    intervals = {
        **agreement_intervals(agreement, seed=seed),
        "mean_loss": mean_loss_interval(agreement, seed=seed),
    }
    values = {name: getattr(agreement, name) for name in intervals}
    return {name: IntervalEstimate(value, intervals[name]) for name, value in values.items() if value is not None}


def changed(difference: Difference | None) -> IntervalEstimate | None:
    """Returns the change of a figure, None where it is undefined."""
    return None if difference is None else IntervalEstimate(difference.change, difference.interval)


def figure_title(name: str, labels: LabelSpace) -> str:
    """Returns what a page calls a figure of such labels."""
    if name in ("mean_loss", "mae"):
        return f"{_NAMES[name]} ({labels.unit})"
    if name == "accuracy" and labels.score_range is not None:
        return f"Within {labels.score_range.tolerance} points"
    return _NAMES[name]


def right_in_words(labels: LabelSpace) -> str:
    """Returns when a judge is right about an image: "as people did", or within the tolerance of scores."""
    scores = labels.score_range
    return "as people did" if scores is None else f"within {scores.tolerance} points of people"


def _rows(labels: LabelSpace, invalid: bool) -> Iterator[tuple[str, str, str, float]]:
    """Name, title, remark and unit of each figure; a mean loss is shown as a distance."""
    for name in ("accuracy", "macro_f1", "kappa", "spearman", "pearson"):
        if name in figure_names(labels):
            yield name, figure_title(name, labels), "", 1
    if labels.ordered:
        remark = f"an answer without a label counts as {labels.span} {labels.unit}" if invalid else ""
        yield "mean_loss", figure_title("mean_loss", labels), remark, labels.span
        if invalid:
            yield "mae", figure_title("mae", labels), "", 1
    yield "invalid_rate", figure_title("invalid_rate", labels), "", 1
    if labels.paired:
        yield "flip_rate", "Another label in the other order", "share of the pairs with a label in both", 1


def _in(unit: float, estimate: IntervalEstimate | None) -> IntervalEstimate | None:
    return None if estimate is None else estimate.times(unit)
