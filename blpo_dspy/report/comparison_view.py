"""What a comparison's report says: the view model between its rows and the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from blpo_dspy.comparison import Comparison, Row
from blpo_dspy.comparison_tables import curves, failures
from blpo_dspy.labels import LabelSpace
from blpo_dspy.ledger import ROLES
from blpo_dspy.methods import METHODS
from blpo_dspy.report.charts import Point, Series, dot_chart, line_chart
from blpo_dspy.statistics import BETTER, METHOD, WORSE, MeanSd, mean_sd

_EVIDENCE = {"both": "image and description", "image": "the image", "description": "the description"}


@dataclass(frozen=True)
class About:
    """What a comparison's folder holds beside its rows; empty where it was made in Python.

    Attributes:
        how: Where the data came from.
        command: The command line.
        versions: Of the libraries.
    """

    how: str = ""
    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cells:
    """A row of the table: one run, or the mean of a method's runs.

    Attributes:
        name: Of the method, or the seed.
        test: Test macro-F1.
        interval: Its interval, "" for a mean of several.
        val: Validation macro-F1.
        change: Paired difference in test macro-F1 to no optimization.
        change_interval: Its interval.
        p: Exact paired test.
        verdict: In words.
        tone: "good", "bad" or "".
        calls: By role.
        total: All of them.
        images: Sent to the optimizer LM.
        tokens: Of all roles.
        seconds: Of the search.
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
    seconds: str = "–"


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
    tone: str
    title: str
    sentences: tuple[str, ...]
    seeds: tuple[int, ...]
    dots: str | None
    base: float | None
    chart: str | None
    measured: str
    methods: tuple[MethodView, ...]
    failures: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    versions: tuple[tuple[str, str], ...]
    interval_method: str = METHOD


def comparison_page(comparison: Comparison, about: About) -> ComparisonPage:
    """Returns what the report of a comparison shows."""
    names = list(dict.fromkeys(row.method for row in comparison.rows))
    labels = LabelSpace.from_dict(comparison.about["student"]["labels"])
    by_method = {name: [row for row in comparison.rows if row.method == name] for name in names}
    seeds = tuple(dict.fromkeys(row.seed for row in comparison.rows))
    title, tone, sentences = _headline(by_method)
    dots, base = _dots(by_method)
    lines = curves(comparison)
    return ComparisonPage(
        task=comparison.about["student"]["judge"],
        tone=tone,
        title=title,
        sentences=sentences,
        seeds=seeds,
        dots=dots,
        base=base,
        chart=line_chart(lines, "validation agreement") if lines else None,
        measured="mean distance from the human rating" if labels.ordered else "accuracy",
        methods=tuple(_method(name, rows) for name, rows in by_method.items()),
        failures=tuple(failures(comparison)),
        facts=_facts(comparison, labels, seeds, about),
        command=about.command,
        versions=about.versions,
    )


def _done(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.error and row.test is not None]


def _headline(by_method: Mapping[str, Sequence[Row]]) -> tuple[str, str, tuple[str, ...]]:
    compared = {name: [row for row in _done(rows) if row.paired] for name, rows in by_method.items()}
    compared = {name: rows for name, rows in compared.items() if rows}
    if not compared:
        return "No method was compared with no optimization", "none", ()
    better = [name for name, rows in compared.items() if _all(rows, BETTER)]
    worse = [name for name, rows in compared.items() if _all(rows, WORSE)]
    open_ = len(compared) - len(better) - len(worse)
    several = len({row.seed for rows in compared.values() for row in rows}) > 1
    always = " with every seed" if several else ""
    title = f"{len(better)} of {len(compared)} methods agree with people better than no optimization{always}"
    sentences = []
    if better:
        sentences.append(f"Better on the sealed test images{always}: {', '.join(better)}.")
    if worse:
        sentences.append(f"Worse{always}: {', '.join(worse)}.")
    if open_:
        clear = "not distinguishable from no change" + (" with at least one seed" if several else "")
        sentences.append(f"{open_} of {len(compared)}: {clear}.")
    sentences.append(
        "Each method was tested against no optimization, none against another, and no test is corrected for their "
        "number: two methods whose intervals overlap are not told apart here."
    )
    return title, "good" if better else "none", tuple(sentences)


def _all(rows: Sequence[Row], verdict: str) -> bool:
    return all((row.paired or {})["verdict"] == verdict for row in rows)


def _dots(by_method: Mapping[str, Sequence[Row]]) -> tuple[str | None, float | None]:
    """The plot of test agreement, and that of no optimization."""
    series, means = [], {}
    for name, rows in by_method.items():
        points = []
        for row in _done(rows):
            assert row.test is not None
            value, interval = row.test["macro_f1"], row.test["intervals"]["macro_f1"]
            if value is not None:
                low, high = (value, value) if interval is None else (interval["low"], interval["high"])
                points.append(Point(value, (low, high), f"{name}, {_told(row.seed, value, low, high)}"))
        if points:
            series.append(Series(name, tuple(points)))
            means[name] = fmean(point.value for point in points)
    series.sort(key=lambda one: -means[one.name])
    base = means.get("none")
    return (dot_chart(series, "test macro F1", base) if series else None), base


def _told(seed: int, value: float, low: float, high: float) -> str:
    return f"seed {seed}: {value:.2f}, 95% interval {low:.2f} to {high:.2f}"


def _method(name: str, rows: Sequence[Row]) -> MethodView:
    done = _done(rows)
    cells = tuple(_run(row) for row in rows)
    about = METHODS[name].about if name in METHODS else ""
    texts = tuple((row.seed, text["judge"], text["verbalizer"]) for row in done if (text := row.instructions))
    if len(cells) == 1:
        return MethodView(name, about, replace(cells[0], name=name), (), texts)
    return MethodView(name, about, _mean(name, rows, done), cells, texts)


def _run(row: Row) -> Cells:
    name = f"seed {row.seed}"
    if row.error or row.test is None:
        return Cells(name, verdict="failed", tone="bad")
    paired = row.paired or {}
    difference = paired.get("differences", {}).get("macro_f1")
    verdict = paired.get("verdict", "")
    searched = row.calls is not None
    return Cells(
        name,
        test=_figure(row.test["macro_f1"]),
        interval=_ends(row.test["intervals"]["macro_f1"]),
        val=_figure((row.val or {}).get("macro_f1")),
        change=_figure(difference and difference["change"], "+"),
        change_interval=_ends(difference and difference["interval"], "+"),
        p=_p(paired["p_value"]) if paired else "–",
        verdict=verdict,
        tone={BETTER: "good", WORSE: "bad"}.get(verdict, ""),
        calls=tuple(f"{(row.calls or {}).get(role, 0):,}" if searched else "–" for role in ROLES),
        total=f"{row.spent:,}" if searched else "–",
        images=f"{row.images:,}" if searched else "–",
        tokens=f"{row.tokens:,}" if searched else "–",
        seconds=f"{row.seconds:,.0f}" if searched else "–",
    )


def _mean(name: str, rows: Sequence[Row], done: Sequence[Row]) -> Cells:
    failed = len(rows) - len(done)
    shown = name + (f" ({failed} of {len(rows)} failed)" if failed else "")
    if not done:
        return Cells(shown, verdict="failed", tone="bad")
    paired = [row.paired for row in done if row.paired]
    changes = [p["differences"]["macro_f1"]["change"] for p in paired if "macro_f1" in p["differences"]]
    counts = {verdict: sum(p["verdict"] == verdict for p in paired) for verdict in (BETTER, WORSE)}
    told = [f"{verdict} with {count} of {len(paired)} seeds" for verdict, count in counts.items() if count]
    searched = [row for row in done if row.calls is not None]
    return Cells(
        shown,
        test=_spread([(row.test or {})["macro_f1"] for row in done]),
        val=_spread([(row.val or {}).get("macro_f1") for row in done]),
        change=_spread(changes, 2, "+"),
        verdict="; ".join(told) or ("not distinguishable from no change" if paired else ""),
        tone=_tone(counts, len(paired)),
        calls=tuple(f"{fmean((row.calls or {}).get(role, 0) for row in searched):,.0f}" for role in ROLES)
        if searched
        else (),
        total=_spread([float(row.spent) for row in searched], 0),
        images=_spread([float(row.images) for row in searched], 0),
        tokens=_spread([float(row.tokens) for row in searched], 0),
        seconds=_spread([row.seconds for row in searched], 0),
    )


def _tone(counts: Mapping[str, int], n: int) -> str:
    return next((tone for verdict, tone in ((BETTER, "good"), (WORSE, "bad")) if n and counts[verdict] == n), "")


def _spread(values: Sequence[float | None], digits: int = 2, sign: str = "") -> str:
    defined = [value for value in values if value is not None]
    return _mean_sd(mean_sd(defined), digits, sign) if defined else "–"


def _mean_sd(found: MeanSd, digits: int, sign: str) -> str:
    spread = "" if found.sd is None else f"{found.sd:,.{digits}f}"
    return _minus(f"{found.mean:{sign},.{digits}f}") + (f" ± {spread}" if float(spread.replace(",", "") or 0) else "")


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else _minus(f"{value:{sign}.2f}")


def _ends(interval: Mapping[str, Any] | None, sign: str = "") -> str:
    return "" if interval is None else _minus(f"{interval['low']:{sign}.2f} to {interval['high']:{sign}.2f}")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def _minus(text: str) -> str:
    """With the minus of print, and none before a zero."""
    return re.sub(r"[-+](?=0\.0+(?!\d))", "", text).replace("-", "−")


def _facts(
    comparison: Comparison, labels: LabelSpace, seeds: Sequence[int], about: About
) -> tuple[tuple[str, str], ...]:
    shared, evidence = comparison.about, comparison.about["student"]["evidence"]
    facts = [
        ("Labels", ", ".join(labels.names)),
        ("Data", about.how),
        *((f"{name} set", f"sha256 {shared[name][:16]}…") for name in ("train", "val", "test") if name in shared),
        *((f"{role} model", model["model"]) for role, model in shared["models"].items()),
        ("The judge reads", _EVIDENCE.get(evidence, evidence)),
        ("Context", ", ".join(shared["student"]["context"])),
        ("First verbalizer instruction", shared["student"]["verbalizer"]),
        ("Cap of a search", f"{shared['max_calls']:,} LM calls"),
        ("Seeds", ", ".join(map(str, seeds))),
    ]
    return tuple((name, text) for name, text in facts if text)
