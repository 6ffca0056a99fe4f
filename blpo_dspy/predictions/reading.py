"""Verdicts read back from a table that `predict` wrote, and what people said about the same rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import Table, TableSource, read_table, require_columns
from blpo_dspy.errors import BlpoError, DataError, brief, counted

LABEL, CONFIDENCE, SERVED_BY = "label", "confidence", "served_by"
RATER, REASON, CANNOT = "rater", "reason", "cannot_tell"
"""Columns of people's labels: who gave one, why, and whether that person could not tell."""
CHANCE, STRATUM, DRAWN = "inclusion_probability", "stratum", "drawn"
CHOSEN = "chosen"
"""What stands in the column `drawn` of an image that nobody drew at random."""
_TEXTS = ("description", "reasoning", "answer")
ADDED = (LABEL, *_TEXTS, "invalid", "inconsistent", CONFIDENCE, "escalate", SERVED_BY, "error")
"""The columns that a judge adds to a table."""
_MOST_LEVELS = 20


@dataclass(frozen=True)
class Verdicts:
    """Verdicts of a judge, one for each row of its table.

    Attributes:
        table: The table; its rows have all of their columns.
        keys: By what each row is known again.
        labels: The judge's labels, None where it gave none.
        confidence: Its confidence in each, None where it is unknown.
        undecided: Whether a pair's label changed with the order of its images.
    """

    table: Table
    keys: tuple[str, ...]
    labels: tuple[Label | None, ...]
    confidence: tuple[float | None, ...]
    undecided: tuple[bool, ...]

    @property
    def has_confidence(self) -> bool:
        """Whether any row states a confidence."""
        return any(value is not None for value in self.confidence)


def whole_table(source: TableSource) -> Table:
    """Returns the rows of a table with all of their columns, none of which are images.

    Raises:
        DataError: If it cannot be read, has no rows, or naming all rows that cannot be read.
    """
    table = read_table(source, [LABEL])
    if table.rows and set(table.columns) - set(table.rows[0].values):
        table = read_table(source, table.columns)
    if table.problems:
        raise DataError(
            f"{table.name}: {counted(len(table.problems), 'row')} cannot be read; repair them:", table.problems
        )
    if not table.rows:
        raise DataError(f"{table.name}: no rows; give a table that `blpo judge --out` wrote")
    return table


def verdicts_in(table: Table, labels: LabelSpace, key: Sequence[str] = ()) -> Verdicts:
    """Returns the verdicts of a table.

    Args:
        table: With the column `label`, and `confidence` where it is known.
        labels: The judge's labels.
        key: The columns by which a row is known again; none leaves `keys` empty.

    Raises:
        DataError: If a column is missing, or naming all rows that cannot be used: an unknown label, a confidence
            outside [0, 1], or a key that is empty or that of two rows.
    """
    require_columns(table.name, table.columns, [LABEL, *key], advice="give what `blpo judge --out` wrote", option=())
    found: list[Label | None] = []
    sure: list[float | None] = []
    problems = []
    for row in table.rows:
        for read, into in ((_label_in(labels), found), (_confidence_in, sure)):
            try:
                into.append(read(row.values))
            except BlpoError as error:
                problems.append(f"{row.where}: {error}")
    keys = [key_of(row.values, key) for row in table.rows] if key else []
    problems += repeated([row.where for row in table.rows], keys)
    if problems:
        raise DataError(f"{table.name}: {counted(len(problems), 'row')} cannot be used; repair them:", problems)
    undecided = tuple(text_in(row.values, "inconsistent").lower() == "true" for row in table.rows)
    return Verdicts(table, tuple(keys), tuple(found), tuple(sure), undecided)


def key_columns(first: Table, second: Table, key: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the columns by which rows of two tables are the same: those given, or all that both have.

    Columns that a judge, a draw or people add are none of them.

    Raises:
        DataError: If there is none, or one is missing.
    """
    if key:
        for table in (first, second):
            require_columns(table.name, table.columns, key, advice="", option="key")
        return tuple(key)
    apart = {*ADDED, CHANCE, STRATUM, DRAWN, RATER, REASON, CANNOT}
    shared = tuple(name for name in first.columns if name in second.columns and name not in apart)
    if not shared:
        raise DataError(
            f"{first.name} and {second.name} have no column in common by which an image is known again; keep the "
            "column of the images in both"
        )
    return shared


def key_of(values: Mapping[str, Any], key: Sequence[str]) -> str:
    """Returns by what a row is known again; "" where a column of it is empty in all."""
    parts = [text_in(values, name) for name in key]
    return "\x1f".join(parts) if any(parts) else ""


def repeated(places: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Returns a problem for each row whose key is empty or that of another row."""
    times = Counter(keys)
    named = [(where, key.replace("\x1f", ", ")) for where, key in zip(places, keys, strict=False)]
    empty = [f"{where}: nothing says which image it is" for where, key in named if not key]
    twice = [
        f"{where}: {brief(name)} is there {times[key]} times"
        for (where, name), key in zip(named, keys, strict=True)
        if key and times[key] > 1
    ]
    return empty + twice


def text_in(values: Mapping[str, Any], name: str) -> str:
    """Returns a cell as text without white space around it, "" if it holds nothing."""
    value = values.get(name)
    empty = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if empty else str(value).strip()


def number_in(values: Mapping[str, Any], name: str) -> float | None:
    """Returns a cell as a number, None if it is empty.

    Raises:
        BlpoError: If it is not a number.
    """
    text = text_in(values, name)
    try:
        return float(text) if text else None
    except ValueError:
        raise BlpoError(f"{name} {brief(repr(text))} is not a number") from None


def space_of(*tables: tuple[Table, str]) -> LabelSpace:
    """Returns the labels that columns of tables hold: whole numbers are a scale, others scores, texts are nominal.

    Raises:
        BlpoError: If there are fewer than two.
    """
    texts = {text for table, column in tables for row in table.rows if (text := text_in(row.values, column))}
    if len(texts) < 2:
        only = f"only {brief(next(iter(texts)))!r}" if texts else "no label"
        raise BlpoError(f"there is {only} in the tables, so the labels are unknown; give the judge", option="judge")
    try:
        numbers = sorted(float(text) for text in texts)
    except ValueError:
        return LabelSpace(*sorted(texts))
    low, high = numbers[0], numbers[-1]
    if all(number.is_integer() for number in numbers) and high - low < _MOST_LEVELS:
        return LabelSpace.ordinal(int(low), int(high))
    return LabelSpace.scores(low, high)


def _label_in(labels: LabelSpace) -> Any:
    def read(values: dict[str, Any]) -> Label | None:
        return labels.coerce(values[LABEL]) if text_in(values, LABEL) else None

    return read


def _confidence_in(values: dict[str, Any]) -> float | None:
    value = number_in(values, CONFIDENCE)
    if value is not None and not 0 <= value <= 1:
        raise BlpoError(f"{CONFIDENCE} {value:g} is not within 0 and 1")
    return value
