"""The checks of a report: people among themselves, what descriptions carry, doubtful labels, folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blpo_dspy.agreement.figures import pair_figure, table_figures
from blpo_dspy.agreement.intervals import Interval, proportion_interval
from blpo_dspy.agreement.label_errors import FILE_NAME as LABEL_ERRORS
from blpo_dspy.agreement.measure import Agreement
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.numbers import figure
from blpo_dspy.report.run.figure_table import IntervalEstimate, figure_title
from blpo_dspy.report.run.folder import RunFolder, ShownError
from blpo_dspy.report.run.measured import WHEN

# Below this share, even at the upper end of its interval, descriptions leave out much of what decides; on a scale
# below this kappa (or rank correlation), where by the usual reading moderate agreement ends.
_FAITHFUL, _FAITHFUL_KAPPA = 0.8, 0.6
_POOR = (
    "Descriptions leave out much of what decides: the optimizer model, which sees descriptions alone, may not learn "
    "what matters from them."
)
_MOST_LABELS = 15


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's interval."""

    count: int
    n: int
    interval: Interval | None

    @property
    def text(self) -> str:
        """The share in percent, a dash of nothing."""
        return f"{self.count / self.n:.0%}" if self.n else "–"

    @property
    def ends(self) -> str:
        """The interval in percent."""
        return "" if self.interval is None else f"{self.interval.low:.0%} to {self.interval.high:.0%}"


@dataclass(frozen=True)
class FidelityTable:
    """How often the description alone led to the label from the pixels: overall, then by that label.

    On a scale, where a label next to it is nearly as good, `figures` are the two judges' weighted kappas (of scores,
    rank correlations) of the same, named by `figure`.
    """

    rows: tuple[tuple[str, Share, Share], ...]
    figures: tuple[float | None, float | None] | None
    remark: str
    figure: str = ""


@dataclass(frozen=True)
class StatedLabels:
    """Descriptions that give a verdict: of which judge, how many of how many, and the first few."""

    when: str
    count: int
    n: int
    examples: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Doubt:
    """A likely label error with its picture as a data URI, if it is shown."""

    error: ShownError
    picture: str | None
    blurred: bool


@dataclass(frozen=True)
class Doubts:
    """The likely label errors: how many, of how many looked at, those shown, and the file with all of them."""

    count: int
    looked_at: int
    shown: tuple[Doubt, ...]
    file: str = LABEL_ERRORS


@dataclass(frozen=True)
class Human:
    """A line about people: what it is, the figure with its interval, and what it rests on."""

    name: str
    estimate: IntervalEstimate
    remark: str


@dataclass(frozen=True)
class Humans:
    """How far people agree with each other, the ceiling for a judge, and the judge with people."""

    headline: str
    rows: tuple[Human, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class OutOfFold:
    """How the judges of the folds differ: each fold with its images, and each figure before and after in it.

    Attributes:
        figures: Their names.
        rows: Number of a fold, how many of its images were judged, and its figures.
        spread: Mean and standard deviation of the figures over the folds, by name.
    """

    figures: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]
    spread: tuple[tuple[str, tuple[str, ...]], ...]


def out_of_fold(result: Mapping[str, Any]) -> OutOfFold | None:
    """Returns the figures of each fold of a run, None if it had no folds."""
    found = result.get("folds")
    if not found:
        return None
    over = found["over_folds"]
    labels = LabelSpace.from_dict(result["labels"])
    titles = {"mae": figure_title("mean_loss", labels)}
    figures = {name: titles.get(name) or figure_title(name, labels) for name in table_figures(labels)}
    names = [name for name in figures if all(name in over[when] for when in WHEN)]
    rows = tuple(
        (
            str(row["fold"]),
            row["after"]["n"],
            tuple(_change([row[when][name] for when in WHEN]) for name in names),
        )
        for row in found["rows"]
    )
    spread = tuple(
        (title, tuple(_change([over[when][name][key] for when in WHEN]) for name in names))
        for key, title in (("mean", "Mean"), ("sd", "Standard deviation"))
    )
    return OutOfFold(tuple(figures[name] for name in names), rows, spread)


def _change(values: Sequence[float | None]) -> str:
    return " → ".join(map(figure, values))


def fidelity_of(result: Mapping[str, Any]) -> FidelityTable | None:
    """Returns the fidelity that a run recorded, None if it measured none."""
    recorded = result.get("fidelity")
    if recorded is None:
        return None
    before, after = (Agreement.from_dict(recorded[when]) for when in ("before", "after"))
    if not after.n or not before.n:
        return None
    rows = [("All", _right(before), _right(after))]
    if len(after.labels) <= _MOST_LABELS:  # none of scores
        rows += [
            (name, _right(before, i), _right(after, i))
            for i, name in enumerate(after.labels.names)
            if sum(before.confusion[i]) or sum(after.confusion[i])
        ]
    if after.labels.ordered:
        name = pair_figure(after.labels)
        found = getattr(before, name), getattr(after, name)
        poor = found[1] is not None and found[1] < _FAITHFUL_KAPPA
        title = "Spearman’s ρ" if name == "spearman" else "Cohen’s κ (quadratic weights)"
        return FidelityTable(tuple(rows), found, _POOR if poor else "", title)
    upper = rows[0][2].interval
    return FidelityTable(tuple(rows), None, _POOR if upper is not None and upper.high < _FAITHFUL else "")


def _right(agreement: Agreement, row: int | None = None) -> Share:
    if agreement.labels.kind == "scores":
        count = sum(agreement.labels.right(true, said) for true, said in agreement.pairs)
        return Share(count, agreement.n, proportion_interval(count, agreement.n))
    rows = range(len(agreement.labels)) if row is None else (row,)
    count, n = sum(agreement.confusion[i][i] for i in rows), sum(sum(agreement.confusion[i]) for i in rows)
    return Share(count, n, proportion_interval(count, n))


def stated_labels_of(result: Mapping[str, Any]) -> tuple[StatedLabels, ...]:
    """Returns what a run recorded of descriptions that give a verdict; nothing where none was checked."""
    recorded = result.get("stated_labels") or {}
    return tuple(
        StatedLabels(title, found["count"], found["n"], tuple(found["examples"]))
        for when, title in (("before", "Before"), ("after", "After"))
        if (found := recorded.get(when)) and found["n"]
    )


def doubts_of(run: RunFolder, *, images: bool, blur: frozenset[str]) -> Doubts | None:
    """Returns the likely label errors of a run, None if nothing was looked at."""
    recorded = run.result.get("label_errors")
    if not recorded or not recorded["looked_at"]:
        return None
    shown = tuple(
        Doubt(error, run.picture(error.thumbnail) if images else None, _unsafe(error, blur)) for error in run.doubtful
    )
    return Doubts(len(recorded["found"]), recorded["looked_at"], shown)


def _unsafe(error: ShownError, blur: frozenset[str]) -> bool:
    return any(str(label) in blur for label in (error.label, error.judged))


def humans_of(result: Mapping[str, Any]) -> Humans | None:
    """Returns what a run recorded about several raters, None if each image had one label."""
    found = result.get("humans")
    if not found:
        return None
    images = f"on the same {found['images']:,} images"
    pairwise = "spearman" if "spearman" in found else "kappa"
    sign, letter = ("Spearman’s ρ", "ρ") if pairwise == "spearman" else ("Cohen’s κ", "κ")
    named = {
        pairwise: (f"People with each other, {sign}", found[pairwise], f"mean of {found['pairs']} pairs of raters"),
        "alpha": ("People with each other, Krippendorff’s α", found["alpha"], f"{found['raters']} raters"),
        "before": (f"The judge with people, {letter}, before", found["judge"]["before"], images),
        "after": (f"The judge with people, {letter}, after", found["judge"]["after"], images),
    }
    rows = tuple(
        Human(
            title, IntervalEstimate(value, Interval(**ends) if (ends := found["intervals"].get(name)) else None), remark
        )
        for name, (title, value, remark) in named.items()
        if value is not None
    )
    left_out = found.get("left_out") or {}
    remarks = [
        f"{found['ratings']:,} ratings of {found['items']:,} images by more than one person; their label is the "
        f"{found['rule']} of the ratings.",
        f"People disagree on {found['disagreeing']:,} of them (disagreements.csv).",
        *(f"{count:,} images were left out: {reason}." for reason, count in left_out.items() if count),
    ]
    return Humans(str(found.get("headline", "")), rows, tuple(remarks))
