"""The journal of predictions: what was paid for and each row's verdict, so that an interrupted call resumes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blpo_dspy.calls.journal import AnswerJournal
from blpo_dspy.calls.journal_file import Place
from blpo_dspy.calls.journal_lines import of_kind
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.store import Answer
from blpo_dspy.predictions.results import Outcome, outcome_of

FORMAT_VERSION = 3
SUFFIX = ".journal.jsonl"
_SYNC_SECONDS = 1.0
_OPTIONAL: Mapping[str, type | tuple[type, ...]] = {"inconsistent": bool, "confidence": (int, float), "escalate": bool}


class PredictionJournal(AnswerJournal):
    """The journal next to a table of predictions, of a size that fits no memory.

    Args:
        path: The file, created if missing.
        fingerprint: What verdicts depend on apart from the rows: judge and models. A journal with another is refused.
        patience: Seconds to wait for another process that is writing it.

    Attributes:
        earlier: The usage of earlier sessions.

    Raises:
        JournalError: As `JournalFile`.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any], *, patience: float = 0.0) -> None:
        super().__init__()
        self._rows: dict[str, tuple[Place, Outcome]] = {}
        self._outcomes: dict[Outcome, Outcome] = {}  # one object for all rows that are alike
        self._answered: dict[str, Counter[str]] = {}
        self._failed = Ledger({})
        self._open(
            path,
            fingerprint,
            version=FORMAT_VERSION,
            elsewhere="name another output",
            patience=patience,
            sync_seconds=_SYNC_SECONDS,
        )
        answered = {role: Usage(**total) for role, total in self._answered.items()}
        self.earlier = Ledger(answered) + self._failed

    def _take_answer(self, key: str, role: str, usage: Mapping[str, Any]) -> None:
        total = self._answered.setdefault(role, Counter())
        for name, value in usage.items():
            if value:
                total[name] += value

    def _take_failed(self, key: str, role: str, usage: Usage) -> None:
        self._failed += Ledger({role: usage})

    def _take_other(self, line: dict[str, Any], place: Place) -> None:
        if line["kind"] != "row":
            raise ValueError(f"unknown kind {line['kind']!r}")
        _check_row(line)
        self._note_row(line, place)

    @property
    def done(self) -> frozenset[str]:
        """The keys of rows that need no further call: those with an error are tried again."""
        return frozenset(key for key, (_, outcome) in self._rows.items() if outcome.kind != "error")

    def outcome(self, key: str) -> Outcome | None:
        """Returns what rows of this content are counted for."""
        found = self._rows.get(key)
        return None if found is None else found[1]

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns what was last written about rows of this content."""
        found = self._rows.get(key)
        return None if found is None else self._file.read(found[0])["data"]

    def put_row(self, key: str, data: Mapping[str, Any]) -> Outcome:
        """Writes the verdict on rows of this content; rows with an error are tried again by the next session.

        Returns:
            What such a row is counted for.

        Raises:
            JournalError: If it cannot be written.
        """
        entry = {"kind": "row", "key": key, "data": dict(data)}
        return self._note_row(entry, self._file.append(entry))

    def _note_row(self, entry: Mapping[str, Any], place: Place) -> Outcome:
        outcome = outcome_of(entry["data"])
        outcome = self._outcomes.setdefault(outcome, outcome)
        self._rows[entry["key"]] = place, outcome
        return outcome

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
