"""Test items with the verdicts of both judges, and which of them a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace

FIXED, BROKEN, WRONG = "fixed", "broken", "still wrong"
KINDS = (FIXED, BROKEN, WRONG)
MOST_SHOWN = 24  # of each kind


@dataclass(frozen=True)
class Item:
    """One test example with both judges' verdicts.

    Attributes:
        id: The example's id.
        label: The human label.
        before: What the start said.
        after: What the compiled judge said.
        group: The example's group, "" if it has none.
        context: The text inputs other than the image.
        thumbnail: Name of its small picture in the run folder, None if there is none.
        reason: What people wrote beside the label, "" if they wrote nothing.
    """

    id: str
    label: Label
    before: Verdict
    after: Verdict
    group: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    thumbnail: str | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, without the fields that have their default value."""
        return {**_given(self), **{when: _given(getattr(self, when)) for when in ("before", "after")}}

    def bare(self) -> Item:
        """Returns the item with its labels and group alone."""
        before, after = (
            Verdict(v.label, failure=v.failure and "failed", inconsistent=v.inconsistent)
            for v in (self.before, self.after)
        )
        return Item(self.id, self.label, before, after, self.group)

    @property
    def answered(self) -> bool:
        """Whether both judges' models answered."""
        return not (self.before.failure or self.after.failure)

    def kind(self, labels: LabelSpace) -> str | None:
        """Returns what compiling did to it, one of `KINDS`; None where it was right both times, or a call failed."""
        right = (labels.right(self.label, self.before.label), labels.right(self.label, self.after.label))
        if not self.answered:
            return None
        return {(False, True): FIXED, (True, False): BROKEN, (False, False): WRONG}.get(right)


def _given(record: Item | Verdict) -> dict[str, Any]:
    """The fields whose value isn't the default one."""
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {field.name: value for field, value in values if value not in (field.default, {})}


def worth_showing(items: Sequence[Item], labels: LabelSpace) -> dict[str, tuple[int, list[int]]]:
    """Returns by kind how many items there are and the positions of those to show, the largest differences first."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for position, item in enumerate(items):
        kind = item.kind(labels)
        if kind is not None:
            found[kind].append(position)

    def distance(position: int) -> float:
        item = items[position]
        return max(labels.loss(item.label, verdict.label) for verdict in (item.before, item.after))

    return {
        kind: (len(places), sorted(places, key=lambda place: (-distance(place), place))[:MOST_SHOWN])
        for kind, places in found.items()
    }
