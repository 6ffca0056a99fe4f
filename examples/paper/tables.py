"""The paper's tables from the rows of comparisons, its own numbers next to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from blpo_dspy.agreement.intervals import MeanSd, mean_sd
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.rows import ComparisonRow
from paper.measures import MEASURES
from paper.methods import ABLATIONS, AXES, Sizes
from paper.published import ABLATION, MAIN
from paper.sets import PaperSet


@dataclass(frozen=True)
class Result:
    """What was found on one dataset.

    Attributes:
        data: The dataset.
        main: The methods and ablations.
        sweep: The points of Fig. 4, if they were run.
    """

    data: PaperSet
    main: Comparison
    sweep: Comparison | None = None

    def rows(self, method: str) -> list[ComparisonRow]:
        """The runs of a method that didn't fail, one for each seed."""
        every = [*self.main.rows, *(self.sweep.rows if self.sweep else ())]
        found = {row.seed: row for row in every if row.method == method and not row.error}
        return [found[seed] for seed in sorted(found)]


def figure(result: Result, method: str, name: str) -> MeanSd | None:
    """Returns a figure of the test half, mean and standard deviation over seeds; None if no seed defines it."""
    values = [row.test[name] for row in result.rows(method) if row.test is not None]
    defined = [value for value in values if value is not None]
    return mean_sd(defined) if defined else None


def point(sizes: Sizes, option: str, value: int) -> str:
    """Returns the name of the run that is a point of a sweep."""
    return "blpo" if sizes.blpo[option] == value else f"{option}={value}"


def main_table(result: Result) -> str:
    """Returns the rows of one dataset in the paper's Table 1, with its authors' own measures."""
    measures = MEASURES[result.data.name]
    heads = ["method", "macro-F1", "paper", "accuracy", "paper", *(m.name for m in measures), "calls", "images"]
    lines = [f"### {result.data.name}", "", _line(heads), "|---" + "|---:" * (len(heads) - 1) + "|"]
    published = MAIN.get(result.data.name, {})
    for method in dict.fromkeys(row.method for row in result.main.rows):
        f1, accuracy = published.get(method, (None, None))
        rows = result.rows(method)
        own = [[m.measure(*_answered(result, row)) for row in rows] for m in measures]
        cells = [method, _shown(figure(result, method, "macro_f1")), _number(f1)]
        cells += [_shown(figure(result, method, "accuracy")), _number(accuracy)]
        cells += [_shown(mean_sd(known) if (known := [v for v in values if v is not None]) else None) for values in own]
        cells += [_shown(mean_sd([float(row.spent) for row in rows]) if rows else None, 0)]
        cells += [_shown(mean_sd([float(row.images) for row in rows]) if rows else None, 0)]
        lines.append(_line(cells))
    return "\n".join(lines)


def _answered(result: Result, row: ComparisonRow) -> tuple[list[dspy.Example], list[Any]]:
    """The test examples about which a row has an answer, and the labels."""
    left = [i for i in range(len(row.predicted)) if i not in set(row.failed)]
    return [result.data.test[i] for i in left], [row.predicted[i] for i in left]


def ablation_table(results: Sequence[Result]) -> str:
    """Returns the paper's ablation: macro-F1 by dataset, ours and the paper's."""
    names = [result.data.name for result in results]
    heads = ["macro-F1", *(cell for name in names for cell in (name, "paper"))]
    lines = ["### Ablation", "", _line(heads), "|---" + "|---:" * (len(heads) - 1) + "|"]
    for method in (name for name in ABLATIONS if any(result.rows(name) for result in results)):
        cells = [method]
        for result in results:
            cells += [_shown(figure(result, method, "macro_f1"))]
            cells += [_number(ABLATION.get(result.data.name, {}).get(method))]
        lines.append(_line(cells))
    return "\n".join(lines)


def sweep_table(results: Sequence[Result], sizes: Sizes) -> str:
    """Returns the sweeps of Fig. 4: macro-F1 by dataset for each value of each option."""
    heads = ["macro-F1", *(result.data.name for result in results)]
    others = ", ".join(f"{symbol} = {sizes.blpo[option]}" for option, (symbol, _) in AXES.items())
    lines = [f"### Sweeps (Fig. 4), else {others}", "", _line(heads), "|---" + "|---:" * (len(heads) - 1) + "|"]
    for option, values in sizes.sweeps.items():
        for value in values:
            shown = [_shown(figure(result, point(sizes, option, value), "macro_f1")) for result in results]
            lines.append(_line([f"{AXES[option][0]} = {value}", *shown]))
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> list[str]:
    """Returns one line for each run that failed."""
    rows: list[tuple[str, ComparisonRow]] = []
    for result in results:
        rows += [(result.data.name, row) for row in (*result.main.rows, *(result.sweep.rows if result.sweep else ()))]
    return [f"{name}: {row.method}, seed {row.seed}, failed: {row.error}" for name, row in rows if row.error]


def notes(models: Mapping[str, str], seeds: Sequence[int]) -> str:
    """Returns how to read the tables."""
    used = ", ".join(f"{role} {model}" for role, model in models.items())
    return (
        f"Mean ± sd over the seeds {', '.join(map(str, seeds))} of the search, on one and the same draw of images "
        f"({used}). “paper”: Llama-4-Maverick in the main table, Llama-4-Scout in the ablation, each on a draw of its "
        "own that isn't published. An invalid answer counts as wrong. “calls” are those of the search, “images” those "
        "sent to the optimizer LM."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _shown(found: MeanSd | None, digits: int = 2) -> str:
    if found is None:
        return "–"
    return f"{found.mean:,.{digits}f}" + ("" if found.sd is None else f" ± {found.sd:,.{digits}f}")
