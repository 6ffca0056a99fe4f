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
from blpo_dspy.errors import counted
from blpo_dspy.report.numbers import figure
from blpo_dspy.report.run.figure_table import IntervalEstimate, figure_title
from blpo_dspy.report.run.folder import RunFolder
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


def out_of_fold(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how the judges of the folds differ: each fold, and mean and spread; None of a run without folds."""
    found = result.get("folds")
    if not found:
        return None
    over = found["over_folds"]
    labels = LabelSpace.from_dict(result["labels"])
    titles = {"mae": figure_title("mean_loss", labels)}
    names = [name for name in table_figures(labels) if all(name in over[when] for when in WHEN)]
    return {
        "figures": [titles.get(name) or figure_title(name, labels) for name in names],
        "rows": [
            (row["fold"], row["after"]["n"], [_change([row[when][name] for when in WHEN]) for name in names])
            for row in found["rows"]
        ],
        "spread": [
            (title, [_change([over[when][name][key] for when in WHEN]) for name in names])
            for key, title in (("mean", "Mean"), ("sd", "Standard deviation"))
        ],
    }


def _change(values: Sequence[float | None]) -> str:
    return " → ".join(map(figure, values))


def fidelity_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how often the description alone led to the label from the pixels: overall, then by that label.

    On a scale, where a label next to it is nearly as good, `figures` are the two judges' weighted kappas (of scores,
    rank correlations) of the same, named by `figure`. It is None where a run measured none.
    """
    recorded = result.get("fidelity")
    if recorded is None:
        return None
    before, after = (Agreement.from_dict(recorded[when]) for when in WHEN)
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
        figures = [getattr(before, name), getattr(after, name)]
        poor = figures[1] is not None and figures[1] < _FAITHFUL_KAPPA
        title = "Spearman’s ρ" if name == "spearman" else "Cohen’s κ (quadratic weights)"
        return {"rows": rows, "figures": figures, "remark": _POOR if poor else "", "figure": title}
    upper = rows[0][2].interval
    poor = upper is not None and upper.high < _FAITHFUL
    return {"rows": rows, "figures": None, "remark": _POOR if poor else ""}


def _right(agreement: Agreement, row: int | None = None) -> Share:
    if agreement.labels.kind == "scores":
        count = sum(agreement.labels.right(true, said) for true, said in agreement.pairs)
        return Share(count, agreement.n, proportion_interval(count, agreement.n))
    rows = range(len(agreement.labels)) if row is None else (row,)
    count, n = sum(agreement.confusion[i][i] for i in rows), sum(sum(agreement.confusion[i]) for i in rows)
    return Share(count, n, proportion_interval(count, n))


def stated_labels_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what a run recorded of descriptions that give a verdict, by judge; nothing where none was checked."""
    recorded = result.get("stated_labels") or {}
    return [{**found, "when": when.capitalize()} for when in WHEN if (found := recorded.get(when)) and found["n"]]


def doubts_of(run: RunFolder, *, images: bool, blur: frozenset[str]) -> dict[str, Any] | None:
    """Returns the likely label errors of a run: how many of how many, and those shown; None if none was looked for."""
    recorded = run.result.get("label_errors")
    if not recorded or not recorded["looked_at"]:
        return None
    shown = [
        {
            "error": error,
            "picture": run.picture(error.thumbnail) if images else None,
            "blurred": any(str(label) in blur for label in (error.label, error.judged)),
        }
        for error in run.doubtful
    ]
    about = {"count": len(recorded["found"]), "looked_at": recorded["looked_at"]}
    return {**about, "shown": shown, "file": LABEL_ERRORS}


def humans_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how far people agree with each other, and the judge with them; None if each image had one label."""
    found = result.get("humans")
    if not found:
        return None
    images = f"on the same {found['images']:,} images"
    pairwise = "spearman" if "spearman" in found else "kappa"
    sign, letter = ("Spearman’s ρ", "ρ") if pairwise == "spearman" else ("Cohen’s κ", "κ")
    named = {
        pairwise: (
            f"People with each other, {sign}",
            found[pairwise],
            f"mean of {counted(found['pairs'], 'pair')} of raters",
        ),
        "alpha": ("People with each other, Krippendorff’s α", found["alpha"], f"{found['raters']} raters"),
        "before": (f"The judge with people, {letter}, before", found["judge"]["before"], images),
        "after": (f"The judge with people, {letter}, after", found["judge"]["after"], images),
    }
    intervals = {name: Interval(**ends) for name, ends in found["intervals"].items() if ends}
    rows = [
        {"name": title, "estimate": IntervalEstimate(value, intervals.get(name)), "remark": remark}
        for name, (title, value, remark) in named.items()
        if value is not None
    ]
    left_out = found.get("left_out") or {}
    remarks = [
        f"{found['ratings']:,} ratings of {found['items']:,} images by more than one person; their label is the "
        f"{found['rule']} of the ratings.",
        f"People disagree on {found['disagreeing']:,} of them (disagreements.csv).",
        *(f"{count:,} images were left out: {reason}." for reason, count in left_out.items() if count),
    ]
    return {"headline": str(found.get("headline", "")), "rows": rows, "remarks": remarks}
