"""The paired comparison within each label and group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.agreement.intervals import BETTER, WORSE, PairedComparison
from blpo_dspy.population.shifts import holm
from blpo_dspy.report.run.items import Item
from blpo_dspy.report.run.measured import Measured, compared

_MOST_GROUPS = 40
_LEVEL = 0.05
_FIGURES = ("accuracy", "mean_loss")
_SHORT = "not distinguishable"


@dataclass(frozen=True)
class Group:
    """A part of the images before and after.

    Attributes:
        name: The label or group.
        n: Its images.
        right: Those judged rightly before and after.
        errors: On a scale the mean distance before and after, which the verdict is about.
        verdict: In words.
        tone: "good", "bad" or "".
    """

    name: str
    n: int
    right: tuple[int, int]
    errors: tuple[float, float] | None
    verdict: str
    tone: str


@dataclass(frozen=True)
class GroupTable:
    """The parts of one kind; `left_out` are the smaller ones beyond the most shown."""

    kind: str
    groups: tuple[Group, ...]
    left_out: int


def groups_of(measured: Measured) -> tuple[GroupTable, ...]:
    """Returns the tables of parts, where there is more than one part.

    Verdicts are corrected for the number of rows: of many parts of pure noise some would else show a change.
    """
    names, strata = measured.labels.strata([item.label for item in measured.items])
    parts = {"Human label": list(map(str, strata)), "Group": [item.group for item in measured.items]}
    tables = (_table(measured, kind, part, list(map(str, names))) for kind, part in parts.items())
    return tuple(table for table in tables if len(table.groups) > 1)


def _natural(name: str) -> str:
    """A key by which "batch 9" comes before "batch 10"."""
    return re.sub(r"\d+", lambda number: number[0].zfill(20), name)


def _table(measured: Measured, kind: str, part_of: Sequence[str], names_in_order: Sequence[str]) -> GroupTable:
    parts: dict[str, list[Item]] = {}
    for item, part in zip(measured.items, part_of, strict=True):
        parts.setdefault(part, []).append(item)
    order = {name: place for place, name in enumerate(names_in_order)}
    largest = sorted(parts, key=lambda name: -len(parts[name]))[:_MOST_GROUPS]
    names = sorted(largest, key=lambda name: (order.get(name, len(order)), -len(parts[name]), _natural(name)))
    found = [
        (name, comparison)
        for name in names
        if (comparison := compared(measured.labels, parts[name], measured.seed, _FIGURES))
    ]
    adjusted = holm([comparison.p_value for _, comparison in found])
    groups = tuple(_group(measured, name, one, p) for (name, one), p in zip(found, adjusted, strict=True))
    return GroupTable(kind, groups, len(parts) - len(largest))


def _group(measured: Measured, name: str, paired: PairedComparison, p_value: float) -> Group:
    verdict = paired.verdict if paired.verdict in (BETTER, WORSE) and p_value <= _LEVEL else _SHORT
    tone = {BETTER: "good", WORSE: "bad"}.get(verdict, "")
    accuracy, loss, steps = paired.differences["accuracy"], paired.differences["mean_loss"], measured.labels.span
    right = (round(accuracy.before * paired.n), round(accuracy.after * paired.n))
    errors = (loss.before * steps, loss.after * steps) if measured.labels.ordered else None
    return Group(name or "(none)", paired.n, right, errors, verdict, tone)
