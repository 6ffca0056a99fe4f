"""The paired comparison within each label and group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blpo_dspy.agreement.intervals import BETTER, WORSE, PairedComparison
from blpo_dspy.report.run.figure_table import levels
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
        right: Those judged as people did before and after.
        errors: On a scale the mean loss in levels before and after, which the verdict is about.
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
    kinds = {"Human label": lambda item: str(item.label), "Group": lambda item: item.group}
    tables = (_table(measured, kind, key) for kind, key in kinds.items())
    return tuple(table for table in tables if len(table.groups) > 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted by Holm's method (1979), in the given order."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _table(measured: Measured, kind: str, key: Callable[[Item], str]) -> GroupTable:
    parts: dict[str, list[Item]] = {}
    for item in measured.items:
        parts.setdefault(key(item), []).append(item)
    order = {name: place for place, name in enumerate(measured.labels.names)}
    largest = sorted(parts, key=lambda name: -len(parts[name]))[:_MOST_GROUPS]
    names = sorted(largest, key=lambda name: (order.get(name, len(order)), -len(parts[name]), name))
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
    accuracy, loss, steps = paired.differences["accuracy"], paired.differences["mean_loss"], levels(measured.labels)
    right = (round(accuracy.before * paired.n), round(accuracy.after * paired.n))
    errors = (loss.before * steps, loss.after * steps) if measured.labels.ordered else None
    return Group(name or "(none)", paired.n, right, errors, verdict, tone)
