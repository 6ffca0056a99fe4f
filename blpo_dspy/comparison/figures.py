"""The figures of a method over its seeds: the interval of its mean, and its difference to another method."""

from __future__ import annotations

from collections.abc import Sequence

from blpo_dspy.agreement.figures import main_figure
from blpo_dspy.agreement.intervals import Interval, SeedsComparison, compare_over_seeds, interval_over_seeds
from blpo_dspy.comparison.compare import Comparison, ComparisonRow
from blpo_dspy.models.lm import is_embedded

ENDED = "†"
"""Marks the calls of a method that ended by itself before the cap."""


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
