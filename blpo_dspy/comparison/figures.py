"""The figures of a method over its seeds, ready to read: for the terminal, a Markdown table and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from blpo_dspy.agreement.figures import main_figure
from blpo_dspy.agreement.intervals import (
    BETTER,
    WORSE,
    Interval,
    SeedsComparison,
    compare_over_seeds,
    interval_over_seeds,
)
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.models.lm import is_embedded
from blpo_dspy.report.numbers import ends, figure, p_cell, spread
from blpo_dspy.workspace.ledger import ROLES

ENDED = "†"
"""Marks the calls of a method that ended by itself before the cap."""
_TONES = {BETTER: "good", WORSE: "bad"}
FAILED = "failed"
"""The verdict on what could not be measured."""


@dataclass(frozen=True)
class Change:
    """A method compared with another in the main figure (`main_figure`).

    Attributes:
        change: Paired difference.
        interval: Its interval.
        p: Exact paired test.
        verdict: In words.
        tone: "good", "bad" or "".
    """

    change: str = "–"
    interval: str = ""
    p: str = "–"
    verdict: str = ""
    tone: str = ""

    @classmethod
    def of(cls, found: SeedsComparison | None, main: str) -> Change:
        """Returns what a comparison found."""
        if found is None:
            return cls()
        change = found.differences.get(main)
        value, interval = (None, None) if change is None else (change.change, change.interval)
        tone = _TONES.get(found.verdict, "")
        return cls(figure(value, signed=True), ends(interval, signed=True), p_cell(found.p_value), found.verdict, tone)


@dataclass(frozen=True)
class Cells:
    """A row of the table: one run, or the mean of a method's runs; all intervals and tests are of that.

    Attributes:
        name: Of the method, or the seed.
        test: The main figure (`main_figure`) on the test set.
        interval: Its interval.
        val: The same on the validation set.
        second: On the test set kappa, of scores the mean error.
        vs: Compared with no optimization.
        calls: By role.
        total: All of them, marked where the search ended by itself before the cap.
        images: Sent to the optimizer LM.
        tokens: Of all roles.
        lm_seconds: Until the answers of the search.
        invalid: Answers of the final measurements without a label.
        failed: Failed calls of the final measurements.
    """

    name: str
    test: str = "–"
    interval: str = ""
    val: str = "–"
    second: str = "–"
    vs: Change = Change()
    calls: tuple[str, ...] = ()
    total: str = "–"
    images: str = "–"
    tokens: str = "–"
    lm_seconds: str = "–"
    invalid: str = "–"
    failed: str = "–"


def method_cells(comparison: Comparison, method: str) -> Cells:
    """Returns the row of a method: means over its seeds."""
    rows = [row for row in comparison.rows if row.method == method]
    done, main = measured(rows), main_figure(comparison.labels)
    failed = len(rows) - len(done)
    name = method + (f" ({failed} of {len(rows)} failed)" if failed and len(rows) > 1 else "")
    if not done:
        return Cells(name, vs=Change(verdict=FAILED, tone="bad"))
    vs = Change.of(versus(comparison, method, "none"), main)
    return Cells(name, **_measures(done, comparison), interval=ends(main_interval(comparison, method)), vs=vs)


def run_cells(comparison: Comparison, row: ComparisonRow) -> Cells:
    """Returns the row of one seed."""
    name, main = f"seed {row.seed}", main_figure(comparison.labels)
    if row.error or row.test is None:
        return Cells(name, vs=Change(verdict=FAILED, tone="bad"))
    paired = row.paired or {}
    difference = paired.get("differences", {}).get(main)
    value, interval = (None, None) if difference is None else (difference["change"], difference["interval"])
    verdict, p = paired.get("verdict", ""), p_cell(paired.get("p_value"))
    vs = Change(figure(value, signed=True), ends(interval, signed=True), p, verdict, _TONES.get(verdict, ""))
    return Cells(name, **_measures([row], comparison), interval=ends(row.test["intervals"][main]), vs=vs)


def _measures(done: Sequence[ComparisonRow], comparison: Comparison) -> dict[str, Any]:
    """The figures of some runs and what they took."""
    labels = comparison.labels
    main, second = main_figure(labels), "mae" if labels.kind == "scores" else "kappa"
    invalid, failed = unanswered(done)
    cells: dict[str, Any] = {
        "test": spread([_figure(row.test, main) for row in done]),
        "val": spread([_figure(row.val, main) for row in done]),
        "second": spread([_figure(row.test, second) for row in done]),
        "invalid": str(invalid),
        "failed": str(failed),
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


def _figure(data: Mapping[str, Any] | None, name: str) -> float | None:
    return None if data is None else data.get(name)


def measured(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Returns the rows with at least one answer about a test image."""
    return [row for row in rows if not row.error and len(row.failed) < len(row.predicted)]


def main_interval(comparison: Comparison, method: str) -> Interval | None:
    """Returns the interval of a method's main test figure, the mean over its seeds, None if that is undefined."""
    rows = measured([row for row in comparison.rows if row.method == method])
    if not rows:
        return None
    predicted, failed = [row.predicted for row in rows], [row.failed for row in rows]
    return interval_over_seeds(comparison.labels, comparison.truth, predicted, failed, main_figure(comparison.labels))


def versus(comparison: Comparison, method: str, other: str) -> SeedsComparison | None:
    """Returns a method compared with another over the seeds that both have, None if there are none."""
    before, after = ({row.seed: row for row in measured(comparison.rows) if row.method == m} for m in (other, method))
    pairs = [(before[seed], after[seed]) for seed in after if seed in before]
    lost = [(one, two, {*one.failed, *two.failed}) for one, two in pairs]
    answered = [found for found in lost if len(found[2]) < len(comparison.truth)]
    if method == other or not answered:
        return None
    return compare_over_seeds(
        comparison.labels,
        comparison.truth,
        [one.predicted for one, _, _ in answered],
        [two.predicted for _, two, _ in answered],
        [failed for _, _, failed in answered],
    )


def unanswered(rows: Sequence[ComparisonRow]) -> tuple[int, int]:
    """Returns how many answers of the final measurements state no label, and how many calls of them failed."""
    parts = [part for row in rows for part in (row.val, row.test) if part is not None]
    return sum(part["invalid"] for part in parts), sum(part["failed"] for part in parts)


def ended_early(rows: Sequence[ComparisonRow]) -> bool:
    """Whether a search ended by itself before the cap."""
    return any(row.calls is not None and not row.capped for row in rows)


def no_evidence(comparison: Comparison) -> str:
    """Returns a sentence where a model is the offline engine, so that the rows are no evidence about real ones."""
    if not any(is_embedded(model["model"]) for model in comparison.about["models"].values()):
        return ""
    return (
        "The offline engine (embedded) is not a multimodal LLM: these figures show that the methods run, and are no "
        "evidence about real models."
    )


def remarks(comparison: Comparison) -> list[str]:
    """Returns the remarks on the rows of the table, a line each."""
    lines = [f"{ENDED} ended by itself before the cap"] if ended_early(comparison.rows) else []
    for row in comparison.rows:
        if row.error:
            lines.append(f"{row.method}, seed {row.seed}, failed: {row.error}")
            continue
        if row.lost:
            count = f"{row.lost:,} of {row.spent:,} calls"
            again = "; repeat the command to search again without them" if row.cut_short else ""
            lines.append(
                f"{row.method}, seed {row.seed}: {count} of the search failed, and count against its cap{again}"
            )
        if lost := unanswered([row])[1]:
            again = "; repeat the command to retry them" if row.outages else ""
            lines.append(f"{row.method}, seed {row.seed}: {lost} calls of the final measurements failed{again}")
    return lines
