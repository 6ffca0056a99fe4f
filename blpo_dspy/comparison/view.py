"""The view model of a comparison's report, between its rows and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from blpo_dspy.agreement.figures import main_figure
from blpo_dspy.agreement.intervals import BETTER, WORSE, interval_method
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.figures import (
    FAILED,
    Change,
    measured,
    method_cells,
    no_evidence,
    remarks,
    run_cells,
    versus,
)
from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.comparison.tables import curves
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.charts import Point, Series, dot_chart, line_chart
from blpo_dspy.report.run.headline import models_and_day

_OURS = "blpo"
_TITLES = {"macro_f1": "macro F1", "spearman": "Spearman’s ρ"}
_EVIDENCE = {"both": "image and description", "image": "the image", "description": "the description"}


@dataclass(frozen=True)
class About:
    """What a comparison's folder holds besides its rows; empty where it was made in Python.

    Attributes:
        how: Where the data came from.
        command: The command line.
        versions: Of the libraries.
        on: The day.
    """

    how: str = ""
    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    on: str = ""


def comparison_page(comparison: Comparison, about: About) -> dict[str, Any]:
    """Returns what the report of a comparison shows, by the names that its template has for it."""
    names = list(dict.fromkeys(row.method for row in comparison.rows))
    by_method = {name: [row for row in comparison.rows if row.method == name] for name in names}
    seeds = list(dict.fromkeys(row.seed for row in comparison.rows))
    methods = [_method(comparison, method, rows) for method, rows in by_method.items()]
    found = {method["name"]: method["mean"].vs.verdict for method in methods}
    title, tone, sentences = _headline(
        {name: one for name, one in found.items() if one not in ("", FAILED)}, len(seeds)
    )
    labels = comparison.labels
    main = main_figure(labels)
    dots, base = _dots(by_method, main)
    lines = curves(comparison)
    against = {name: versus(comparison, name, _OURS) for name in names}
    return {
        "task": comparison.about["student"]["judge"],
        "about": models_and_day({role: model["model"] for role, model in comparison.about["models"].items()}, about.on),
        "tone": tone,
        "title": title,
        "sentences": sentences,
        "seeds": seeds,
        "dots": dots,
        "base": base,
        "chart": line_chart(lines, "validation agreement") if lines else None,
        "measured": "mean distance from the human rating" if labels.ordered else "accuracy",
        "figure": _TITLES[main],
        "methods": methods,
        "contrasts": [(name, Change.of(one, main)) for name, one in against.items() if one is not None],
        "no_evidence": no_evidence(comparison),
        "remarks": remarks(comparison),
        "facts": _facts(comparison, labels, seeds, about),
        "command": about.command,
        "versions": about.versions,
        "interval_method": interval_method(labels),
    }


def _headline(verdicts: Mapping[str, str], seeds: int) -> tuple[str, str, tuple[str, ...]]:
    if not verdicts:
        return "No method was compared with no optimization", "none", ()
    better, worse = ([name for name, found in verdicts.items() if found == verdict] for verdict in (BETTER, WORSE))
    open_ = len(verdicts) - len(better) - len(worse)
    mean = f", in the mean over {seeds} seeds" if seeds > 1 else ""
    title = f"{len(better)} of {len(verdicts)} methods agree with people better than no optimization{mean}"
    sentences = []
    if better:
        sentences.append(f"Better on the sealed test images: {', '.join(better)}.")
    if worse:
        sentences.append(f"Worse: {', '.join(worse)}.")
    if open_:
        sentences.append(f"{open_} of {len(verdicts)}: not distinguishable from no change.")
    sentences.append("No test is corrected for the number of methods.")
    return title, "good" if better else "none", tuple(sentences)


def _dots(by_method: Mapping[str, Sequence[ComparisonRow]], main: str) -> tuple[str | None, float | None]:
    """The plot of test agreement, and that of no optimization."""
    series, means = [], {}
    for name, rows in by_method.items():
        points = []
        for row in measured(rows):
            assert row.test is not None
            value, interval = row.test[main], row.test["intervals"][main]
            if value is not None:
                low, high = (value, value) if interval is None else (interval["low"], interval["high"])
                said = f"seed {row.seed}: {value:.2f}, 95% interval {low:.2f} to {high:.2f}"
                points.append(Point(value, (low, high), f"{name}, {said}"))
        if points:
            series.append(Series(name, tuple(points)))
            means[name] = fmean(point.value for point in points)
    series.sort(key=lambda one: -means[one.name])
    base = means.get("none")
    return (dot_chart(series, f"test {_TITLES[main]}", base) if series else None), base


def _method(comparison: Comparison, name: str, rows: Sequence[ComparisonRow]) -> dict[str, Any]:
    """A method: what it is, its row and those of its seeds, and the instructions of each seed."""
    return {
        "name": name,
        "about": METHODS[name].about if name in METHODS else "",
        "mean": method_cells(comparison, name),
        "seeds": [run_cells(comparison, row) for row in rows] if len(rows) > 1 else [],
        "texts": [
            (row.seed, text["judge"], text["verbalizer"]) for row in measured(rows) if (text := row.instructions)
        ],
    }


def _facts(
    comparison: Comparison, labels: LabelSpace, seeds: Sequence[int], about: About
) -> tuple[tuple[str, str], ...]:
    shared, evidence = comparison.about, comparison.about["student"]["evidence"]
    facts = [
        ("Labels", ", ".join(labels.names) or labels.describe()),
        ("Data", about.how),
        *((f"{name} set", f"sha256 {shared[name][:16]}…") for name in ("train", "val", "test") if name in shared),
        *((f"{role} model", model["model"]) for role, model in shared["models"].items()),
        ("The judge reads", _EVIDENCE.get(evidence, evidence)),
        ("Context", ", ".join(shared["student"]["context"])),
        ("First verbalizer instruction", shared["student"]["verbalizer"]),
        (
            "Cap of a search",
            f"{shared['max_calls']:,} LM calls" + (f", ${usd:g}" if (usd := shared.get("max_usd")) else ""),
        ),
        ("Seeds", ", ".join(map(str, seeds))),
    ]
    return tuple((name, text) for name, text in facts if text)
