"""The records of a source, one for each image: label, stratum, group and context, known before it is fetched."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """One labelled image that is not fetched yet.

    Args:
        id: Unique within the source and stable for a revision.
        label: The human label.
        key: The source's key of the image; data, never a path on this machine.
        stratum: What a draw is balanced over: the label, or the label within a category.
        group: Records with the same group are never split up; None for a group of its own.
        context: Further text inputs, such as the prompt an image was made from.
        extra: Further fields, kept in the example but not among its inputs.
    """

    id: str
    label: Label
    key: Hashable
    stratum: str
    group: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


class BadRow(Exception):  # noqa: N818 - a finding about data that is counted, not an error that ends a run
    """A row that cannot be used: the kind of fault, by which rows are counted, and what this row holds."""

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind}: {detail}" if detail else kind)


@dataclass(frozen=True)
class Skipped:
    """Rows that were skipped, each with its reason."""

    rows: tuple[tuple[str, BadRow], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many rows by kind of fault, most frequent first."""
        return dict(Counter(reason.kind for _, reason in self.rows).most_common())

    def and_unreadable(self, lines: Iterable[str]) -> Skipped:
        """Returns these and rows that could not be read at all, given as "where: why"."""
        return Skipped(self.rows + tuple((line, BadRow("unreadable row")) for line in lines))

    def lines(self) -> list[str]:
        """Returns one line per row."""
        return [f"{where}: {reason}" for where, reason in self.rows]

    def describe(self) -> str:
        """Returns the counts in words, each with a reason if one is known; "none" if nothing was skipped.

        For example "no label 3, odd label 2 (such as 'maybe')".
        """
        details: dict[str, str] = {}
        for _, reason in self.rows:
            if reason.detail:
                details.setdefault(reason.kind, f" (such as {' '.join(reason.detail.split())})")
        return ", ".join(f"{kind} {count}{details.get(kind, '')}" for kind, count in self.counts.items()) or "none"


@dataclass(frozen=True)
class Listing:
    """All usable records of a source, and what was found while reading them.

    Args:
        records: In the order of the source.
        strata: What a draw is to be balanced over, also those without a record.
        columns: The columns that its table has.
        skipped: Rows without a record.
        notes: Notes about these labels for the user.
    """

    records: tuple[Record, ...]
    strata: tuple[str, ...]
    columns: tuple[str, ...]
    skipped: Skipped
    notes: tuple[str, ...] = ()

    @property
    def pool(self) -> dict[str, int]:
        """How many records each stratum has."""
        counts = Counter(record.stratum for record in self.records)
        return {stratum: counts[stratum] for stratum in self.strata}


def in_strata(records: tuple[Record, ...], labels: LabelSpace) -> tuple[Record, ...]:
    """Returns records of scores with the bin that each is in as its stratum; others as they are."""
    if labels.kind != "scores":
        return records
    _, strata = labels.strata([record.label for record in records])
    return tuple(replace(record, stratum=str(name)) for record, name in zip(records, strata, strict=True))


def strata_of(records: Iterable[Record], labels: LabelSpace) -> tuple[str, ...]:
    """Returns what a draw is balanced over: the labels; of scores the bins that records are in, lowest first."""
    found = {record.stratum: record.label for record in records}
    return labels.names or tuple(sorted(found, key=lambda stratum: labels.score(found[stratum])))


def collect(rows: Iterable[tuple[str, T]], make: Callable[[str, T], Record]) -> tuple[tuple[Record, ...], Skipped]:
    """Returns a record for each row, given with its name, that `make` accepts; the others are skipped for its `BadRow`.

    Of repeated rows the first counts; rows that give the same image different labels are all skipped.
    """
    found: dict[Hashable, list[tuple[str, Record]]] = {}
    skipped: list[tuple[str, BadRow]] = []
    for where, row in rows:
        try:
            record = make(where, row)
        except BadRow as reason:
            skipped.append((where, reason))
        else:
            found.setdefault((record.key, *sorted(record.context.items())), []).append((where, record))
    records = []
    for same in found.values():
        labels = sorted({str(record.label) for _, record in same})
        if len(labels) > 1:
            skipped += [(where, BadRow("contradictory labels", " and ".join(labels))) for where, _ in same]
        else:
            records.append(same[0][1])
            skipped += [(where, BadRow("repeated row")) for where, _ in same[1:]]
    return tuple(records), Skipped(tuple(skipped))


def text_of(value: object, kind: str) -> str:
    """Returns the text in a cell; a `BadRow` of this kind is raised if there is none."""
    if not isinstance(value, str) or not value.strip():
        raise BadRow(kind, "" if value is None or value == "" else repr(value)[:80])
    return value


def number_of(value: object, kind: str) -> float:
    """Returns the finite number in a cell, which may be written as text; else a `BadRow` of this kind is raised."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadRow(kind, "" if value is None or value == "" else repr(value)[:80])
    return number


def whole_of(value: object, low: int, high: int, kind: str) -> int:
    """Returns the whole number from `low` to `high` in a cell; else a `BadRow` of this kind is raised."""
    number = number_of(value, kind)
    if number != int(number) or not low <= number <= high:
        raise BadRow(kind, f"{value!r} is not a whole number from {low} to {high}")
    return int(number)
