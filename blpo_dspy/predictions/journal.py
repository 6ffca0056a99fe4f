"""The journal of predictions: what was paid for and each row's verdict, so that an interrupted call resumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blpo_dspy.calls.journal import AnswerJournal
from blpo_dspy.calls.journal_file import Place
from blpo_dspy.calls.journal_lines import of_kind
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.store import Answer

FORMAT_VERSION = 3
SUFFIX = ".journal.jsonl"
_SYNC_SECONDS = 1.0
_OPTIONAL: Mapping[str, type | tuple[type, ...]] = {"inconsistent": bool, "confidence": (int, float), "escalate": bool}


class PredictionJournal(AnswerJournal):
    """The journal next to a table of predictions, of a size that fits no memory.

    Args:
        path: The file, created if missing.
        fingerprint: What verdicts depend on apart from the rows: judge and models. A journal with another is refused.
        patience: Seconds for which another process that is writing it is waited for.

    Raises:
        JournalError: As `JournalFile`.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any], *, patience: float = 0.0) -> None:
        super().__init__()
        self._rows: dict[str, Place] = {}
        self._done: set[str] = set()
        self._answered: dict[str, Usage] = {}
        self._open(
            path,
            fingerprint,
            version=FORMAT_VERSION,
            elsewhere="name another output",
            patience=patience,
            sync_seconds=_SYNC_SECONDS,
        )

    def _take_answer(self, key: str, role: str, usage: Usage) -> None:
        self._answered[role] = self._answered.get(role, Usage()) + usage

    def _take_other(self, line: dict[str, Any], place: Place) -> None:
        if line["kind"] != "row":
            raise ValueError(f"unknown kind {line['kind']!r}")
        _check_row(line)
        self._note_row(line, place)

    @property
    def done(self) -> frozenset[str]:
        """The keys of rows that need no further call: those with an error are tried again."""
        return frozenset(self._done)

    @property
    def earlier(self) -> Ledger:
        """The usage of earlier sessions."""
        return Ledger(self._answered) + Ledger(self._failed)

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns what was last written about rows of this content."""
        place = self._rows.get(key)
        return None if place is None else self._file.read(place)["data"]

    def put_row(self, key: str, data: Mapping[str, Any]) -> None:
        """Writes the verdict on rows of this content; rows with an error are tried again by the next session.

        Raises:
            JournalError: If it cannot be written.
        """
        entry = {"kind": "row", "key": key, "data": dict(data)}
        self._note_row(entry, self._file.append(entry))

    def _note_row(self, entry: Mapping[str, Any], place: Place) -> None:
        self._rows[entry["key"]] = place
        if entry["data"]["error"] is None:
            self._done.add(entry["key"])

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns a known answer, which costs nothing (see `AnswerStore`)."""
        answer = self._answer(key)
        return None if answer is None else (answer, Usage(cached=1))


def _check_row(line: Mapping[str, Any]) -> None:
    """Refuses what `put_row` doesn't write."""
    of_kind(line, "key", str)
    row = of_kind(line, "data", dict)
    of_kind(row, "invalid", bool)
    label = of_kind(row, "label", (str, int, float, type(None)))
    if isinstance(label, float) and not math.isfinite(label):
        raise ValueError(f"label: {label} is not one that a judge gives")
    for name, kinds in _OPTIONAL.items():
        if name in row:
            of_kind(row, name, kinds)
    for name in ("description", "reasoning", "answer", "error"):
        of_kind(row, name, (str, type(None)))
