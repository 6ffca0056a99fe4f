"""What a calibrated judge escalates, as a table for people to label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blpo_dspy.predictions.files import Rows, write_rows

_SHOWN = ("description", "confidence")


def write_escalated(
    path: Path, given: Sequence[str], found: Mapping[str, type], rows: Rows, types: Mapping[str, type]
) -> None:
    """Writes the rows that are escalated: their own columns, what the judge said, and an empty `label`.

    Args:
        path: The file.
        given: The columns of the source, as the predictions have them.
        found: The columns that the judge adds, with their types.
        rows: Gives the rows of the predictions.
        types: The types of columns that are known.

    Raises:
        BlpoError: If the file cannot be written.
    """
    said = {"judge_label": "label", **{name: name for name in _SHOWN if name in found}}

    def escalated() -> Iterator[dict[str, Any]]:
        for row in rows():
            if row["escalate"]:
                yield {**{n: row[n] for n in given}, **{new: row[name] for new, name in said.items()}}

    kinds = {name: kind for name, kind in types.items() if name in given}
    kinds |= {"label": found["label"], **{new: found[name] for new, name in said.items()}}
    write_rows(path, list(dict.fromkeys([*given, *said, "label"])), escalated, kinds)
