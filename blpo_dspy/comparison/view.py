"""The view model of a comparison's report, between its rows and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from blpo_dspy.agreement.figures import main_figure
from blpo_dspy.agreement.intervals import BETTER, WORSE, Interval, SeedsComparison, interval_method
from blpo_dspy.calls.ledger import ROLES
from blpo_dspy.comparison.compare import Comparison, ComparisonRow
from blpo_dspy.comparison.figures import (
    ENDED,
    ended_early,
    main_interval,
    measured,
    no_evidence,
    remarks,
    unanswered,
    versus,
)
from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.comparison.tables import curves
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.report.charts import Point, Series, dot_chart, line_chart
from blpo_dspy.report.numbers import ends, figure, p_cell, spread
from blpo_dspy.report.run.headline import models_and_day

_OURS = "blpo"
_TITLES = {"macro_f1": "macro F1", "spearman": "Spearman’s ρ"}
_TONES = {BETTER: "good", WORSE: "bad"}
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


@dataclass(frozen=True)
class Cells:
    """A row of the table: one run, or the mean of a method's runs; all intervals and tests are of that.

    Attributes:
        name: Of the method, or the seed.
        test: The main figure (`main_figure`) on the test set.
        interval: Its interval.
        val: The same on the validation set.
        change: Paired difference in it to no optimization.
        change_interval: Its interval.
        p: Exact paired test.
        verdict: In words.
        tone: "good", "bad" or "".
        calls: By role.
        total: All of them, marked where the search ended by itself before the cap.
        images: Sent to the optimizer LM.
        tokens: Of all roles.
        lm_seconds: Waited for the answers of the search.
        unanswered: Invalid answers and failed calls of the final measurements.
    """

    name: str
    test: str = "–"
    interval: str = ""
    val: str = "–"
    change: str = "–"
    change_interval: str = ""
    p: str = "–"
    verdict: str = ""
    tone: str = ""
    calls: tuple[str, ...] = ("–",) * len(ROLES)
    total: str = "–"
    images: str = "–"
    tokens: str = "–"
    lm_seconds: str = "–"
    unanswered: str = "–"


@dataclass(frozen=True)
class Contrast:
    """A method compared with another in the main figure: the difference, its interval, the test and what it says."""

    name: str
    change: str
    interval: str
    p: str
    verdict: str
    tone: str


@dataclass(frozen=True)
class MethodView:
    """One method: what it is, its rows, and the instructions of each seed.

    Attributes:
        name: Its name.
        about: What it is, in a sentence.
        mean: The row of the method.
        seeds: A row for each seed, none where there is but one.
        texts: Seed, judge and verbalizer instruction.
    """

    name: str
    about: str
    mean: Cells
    seeds: tuple[Cells, ...]
    texts: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class ComparisonPage:
    """Everything on the page, in its order."""

    task: str
    about: str
    tone: str
    title: str
    sentences: tuple[str, ...]
    seeds: tuple[int, ...]
    dots: str | None
    base: float | None
    chart: str | None
    measured: str
    figure: str
    methods: tuple[MethodView, ...]
    contrasts: tuple[Contrast, ...]
    no_evidence: str
    remarks: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    versions: tuple[tuple[str, str], ...]
    interval_method: str


def comparison_page(comparison: Comparison, about: About) -> ComparisonPage:
    """Returns what the report of a comparison shows."""
    names = list(dict.fromkeys(row.method for row in comparison.rows))
    labels = comparison.labels
    by_method = {name: [row for row in comparison.rows if row.method == name] for name in names}
    seeds = tuple(dict.fromkeys(row.seed for row in comparison.rows))
    paired = {name: found for name in names if (found := versus(comparison, name, "none")) is not None}
    title, tone, sentences = _headline(paired, len(seeds))
    name = main_figure(labels)
    figure_title = _TITLES[name]
    dots, base = _dots(by_method, name)
    lines = curves(comparison)
    return ComparisonPage(
        task=comparison.about["student"]["judge"],
        about=models_and_day({role: model["model"] for role, model in comparison.about["models"].items()}, about.on),
        tone=tone,
        title=title,
        sentences=sentences,
        seeds=seeds,
        dots=dots,
        base=base,
        chart=line_chart(lines, "validation agreement") if lines else None,
        measured="mean distance from the human rating" if labels.ordered else "accuracy",
        figure=figure_title,
        methods=tuple(
            _method(method, rows, main_interval(comparison, method), paired.get(method), name)
            for method, rows in by_method.items()
        ),
        contrasts=tuple(
            _contrast(comparison, one, name) for one in names if versus(comparison, one, _OURS) is not None
        ),
        no_evidence=no_evidence(comparison),
        remarks=tuple(remarks(comparison)),
        facts=_facts(comparison, labels, seeds, about),
        command=about.command,
        versions=about.versions,
        interval_method=interval_method(labels),
    )


def _headline(paired: Mapping[str, SeedsComparison], seeds: int) -> tuple[str, str, tuple[str, ...]]:
    if not paired:
        return "No method was compared with no optimization", "none", ()
    better, worse = ([n for n, found in paired.items() if found.verdict == verdict] for verdict in (BETTER, WORSE))
    open_ = len(paired) - len(better) - len(worse)
    mean = f", in the mean over {seeds} seeds" if seeds > 1 else ""
    title = f"{len(better)} of {len(paired)} methods agree with people better than no optimization{mean}"
    sentences = []
    if better:
        sentences.append(f"Better on the sealed test images: {', '.join(better)}.")
    if worse:
        sentences.append(f"Worse: {', '.join(worse)}.")
    if open_:
        sentences.append(f"{open_} of {len(paired)}: not distinguishable from no change.")
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
                points.append(Point(value, (low, high), f"{name}, {_dot_label(row.seed, value, low, high)}"))
        if points:
            series.append(Series(name, tuple(points)))
            means[name] = fmean(point.value for point in points)
    series.sort(key=lambda one: -means[one.name])
    base = means.get("none")
    return (dot_chart(series, f"test {_TITLES[main]}", base) if series else None), base


def _dot_label(seed: int, value: float, low: float, high: float) -> str:
    return f"seed {seed}: {value:.2f}, 95% interval {low:.2f} to {high:.2f}"


def _method(
    name: str, rows: Sequence[ComparisonRow], interval: Interval | None, paired: SeedsComparison | None, main: str
) -> MethodView:
    done = measured(rows)
    about = METHODS[name].about if name in METHODS else ""
    texts = tuple((row.seed, text["judge"], text["verbalizer"]) for row in done if (text := row.instructions))
    seeds = tuple(_run(row, main) for row in rows) if len(rows) > 1 else ()
    return MethodView(name, about, _mean(name, rows, interval, paired, main), seeds, texts)


def _run(row: ComparisonRow, main: str) -> Cells:
    """The row of one seed."""
    name = f"seed {row.seed}"
    if row.error or row.test is None:
        return Cells(name, verdict="failed", tone="bad")
    paired = row.paired or {}
    difference = paired.get("differences", {}).get(main)
    verdict = paired.get("verdict", "")
    return Cells(
        name,
        **_measures([row], main),
        interval=ends(row.test["intervals"][main]),
        change=figure(difference and difference["change"], signed=True),
        change_interval=ends(difference and difference["interval"], signed=True),
        p=p_cell(paired.get("p_value")),
        verdict=verdict,
        tone=_TONES.get(verdict, ""),
    )


def _mean(
    name: str, rows: Sequence[ComparisonRow], interval: Interval | None, paired: SeedsComparison | None, main: str
) -> Cells:
    """The row of a method."""
    done = measured(rows)
    failed = len(rows) - len(done)
    shown = name + (f" ({failed} of {len(rows)} failed)" if failed and len(rows) > 1 else "")
    if not done:
        return Cells(shown, verdict="failed", tone="bad")
    cells = _measures(done, main)
    if paired is None:
        return Cells(shown, **cells, interval=ends(interval))
    change = paired.differences.get(main)
    return Cells(
        shown,
        **cells,
        interval=ends(interval),
        change=figure(None if change is None else change.change, signed=True),
        change_interval=ends(None if change is None else change.interval, signed=True),
        p=p_cell(paired.p_value),
        verdict=paired.verdict,
        tone=_TONES.get(paired.verdict, ""),
    )


def _measures(done: Sequence[ComparisonRow], main: str) -> dict[str, Any]:
    """The figures of some runs and what they took."""
    cells = {
        "test": spread([(row.test or {})[main] for row in done]),
        "val": spread([(row.val or {}).get(main) for row in done]),
        "unanswered": " / ".join(map(str, unanswered(done))),
    }
    searched = [row for row in done if row.calls is not None]
    if not searched:
        return cells
    return cells | {
        "calls": tuple(f"{fmean((row.calls or {}).get(role, 0) for row in searched):,.0f}" for role in ROLES),
        "total": spread([row.spent for row in searched], 0) + (ENDED if ended_early(searched) else ""),
        "images": spread([row.images for row in searched], 0),
        "tokens": spread([row.tokens for row in searched], 0),
        "lm_seconds": spread([row.lm_seconds for row in searched], 0),
    }


def _contrast(comparison: Comparison, name: str, main: str) -> Contrast:
    found = versus(comparison, name, _OURS)
    assert found is not None
    change = found.differences.get(main)
    return Contrast(
        name,
        figure(None if change is None else change.change, signed=True),
        ends(None if change is None else change.interval, signed=True),
        p_cell(found.p_value),
        found.verdict,
        _TONES.get(found.verdict, ""),
    )


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
