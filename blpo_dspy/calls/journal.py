"""The journals of runs: what was paid for and its results, so that an interrupted run resumes without paying again.

The algorithm is deterministic given the LM's answers. A resumed run therefore starts from the beginning and takes
every answer that the journal holds from there; it pays only for what is missing and ends with the same bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blpo_dspy.calls.batch_record import BatchRecord
from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.journal_file import JournalFile, Place, damage
from blpo_dspy.calls.journal_lines import answer_in, check_answer, encoded, of_kind, parsed, role_in, usage_in
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.store import Answer, AnswerStore

FILE_NAME = "journal.jsonl"
FORMAT_VERSION = 1
_ELSEWHERE = "choose another folder"


class AnswerJournal(AnswerStore):
    """Answers and failed attempts in a file, of which memory holds the places alone.

    A subclass says which other lines there are, and what the usage of earlier sessions counts for. It calls `_open` at
    the end of its `__init__`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._answers: dict[str, Place] = {}
        self._batches: dict[str, BatchRecord] = {}

    def _open(self, path: Path, fingerprint: Mapping[str, Any], **options: Any) -> None:
        self._file = JournalFile(path, fingerprint, self._take, **options)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def _take(self, line: dict[str, Any], place: Place) -> None:
        if line["kind"] == "answer":
            usage, role, key = check_answer(line), role_in(line), of_kind(line, "key", str)
            self._answers[key] = place
            self._take_answer(key, role, usage)
        elif line["kind"] == "failed":
            self._take_failed(str(line.get("key", "")), role_in(line), usage_in(line))
        elif line["kind"] == "batch":
            self._note_batch(BatchRecord.read(line))
        else:
            self._take_other(line, place)

    def _take_answer(self, key: str, role: str, usage: Mapping[str, Any]) -> None:
        """Notes the fields of the usage of an answer that an earlier session paid for."""
        raise NotImplementedError

    def _take_failed(self, key: str, role: str, usage: Usage) -> None:
        """Notes the usage of a failed attempt of an earlier session; the key is "" where an old line has none."""
        raise NotImplementedError

    def _take_other(self, line: dict[str, Any], place: Place) -> None:
        """Notes a line of another kind; raises a ValueError if there is no such kind."""
        raise NotImplementedError

    def _answer(self, key: str) -> Answer | None:
        place = self._answers.get(key)
        return None if place is None else answer_in(self._file.read(place))

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Writes an answer to the file, then remembers it."""
        place = self._file.append(
            {"kind": "answer", "key": key, "role": role, **vars(answer), "usage": vars(answer.usage)}
        )
        with self._lock:
            self._answers[key] = place

    def put_failed(self, key: str, role: str, usage: Usage) -> None:
        """Writes down an attempt that failed."""
        self._file.append({"kind": "failed", "key": key, "role": role, "usage": asdict(usage)})

    @property
    def batches(self) -> dict[str, BatchRecord]:
        """The batches whose answers are not all known yet, by their names here."""
        return dict(self._batches)

    def put_batch(self, record: BatchRecord) -> None:
        """Writes where a batch stands; it is on disk once this returns."""
        self._file.append(record.line())
        self._file.sync()
        self._note_batch(record)

    def _note_batch(self, record: BatchRecord) -> None:
        if record.closed:
            self._batches.pop(record.name, None)
        else:
            self._batches[record.name] = record.after(self._batches.get(record.name))

    def knows(self, key: str) -> bool:
        """Whether there is an answer to a request."""
        return key in self._answers

    def close(self) -> None:
        """Ends writing and lets another run continue."""
        self._file.close()


class Journal(AnswerJournal):
    """The journal of a search; each line is on disk before anyone uses what it says.

    Args:
        folder: The log folder, created if missing.
        fingerprint: What the run is: data, options, models. A journal of another run is refused.
        file_name: The journal's file in the folder; it belongs to one run at a time.
        known: Answers by request that were paid for elsewhere; taking one adds nothing to the ledger here.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        *,
        file_name: str = FILE_NAME,
        known: Mapping[str, Answer] | None = None,
    ) -> None:
        super().__init__()
        self._known = known or {}
        self._unclaimed: dict[str, Ledger] = {}
        self._counts_unused = False
        # Needed before every call, and changed only where an answer is taken up.
        self._unused: Ledger | None = None
        self._recorded: dict[tuple[str, int], Any] = {}
        self._attempts: dict[str, Ledger] = {}  # those that failed, at requests without an answer
        self._open(Path(folder) / file_name, fingerprint, version=FORMAT_VERSION, elsewhere=_ELSEWHERE)

    def _take_answer(self, key: str, role: str, usage: Mapping[str, Any]) -> None:
        # A search that resumes goes the same way only if an answer's failed attempts count where it is taken up.
        self._unclaimed[key] = Ledger({role: Usage(**usage)}) + self._attempts.pop(key, Ledger({}))

    def _take_failed(self, key: str, role: str, usage: Usage) -> None:
        self._attempts[key] = self._attempts.get(key, Ledger({})) + Ledger({role: usage})

    def _take_other(self, line: dict[str, Any], place: Place) -> None:
        if line["kind"] != "record":
            raise ValueError(f"unknown kind {line['kind']!r}")
        self._recorded[of_kind(line, "type", str), of_kind(line, "number", int)] = line["data"]

    def knows(self, key: str) -> bool:
        """Whether there is an answer to a request, here or where others were paid for."""
        return super().knows(key) or key in self._known

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns a known answer and what this use of it adds to the ledger (see `AnswerStore`)."""
        with self._lock:
            answer = self._answer(key) or self._known.get(key)
            if answer is None:
                return None
            if (paid := self._unclaimed.pop(key, None)) is not None:
                self._unused = None
                return answer, paid.total
            return answer, Usage(cached=1)

    def failed(self) -> dict[str, Usage]:
        """Returns the usage of the failed attempts of earlier sessions at requests without an answer, by role."""
        return dict(sum(self._attempts.values(), Ledger({})).roles)

    def spend_under(self, budget: Budget | None) -> None:
        """Notes what the run may spend, as far as that decides its way.

        Under the budget that it began with a run goes the same way again and takes every answer up. Under another one
        it may leave some out, which count as well then: see `unused`.
        """
        caps = {} if budget is None else {k: v for k, v in asdict(budget).items() if k != "max_seconds"}
        first = self.recorded("budget", 0)
        if first is None:
            self.record("budget", 0, caps)
        self._counts_unused = first not in (None, caps)
        self._unused = None

    def unused(self) -> Ledger:
        """Returns the usage of the answers that earlier sessions paid for and this one has not taken up so far."""
        with self._lock:
            if self._unused is None:
                self._unused = sum(self._unclaimed.values() if self._counts_unused else (), Ledger({}))
            return self._unused

    def recorded(self, kind: str, number: int) -> Any:
        """Returns what was written with `record`, in this session or an earlier one; None if nothing was."""
        return self._recorded.get((kind, number))

    def record(self, kind: str, number: int, data: Any) -> None:
        """Writes a result of the run (a round, a validation, the end), once."""
        entry = parsed(encoded({"kind": "record", "type": kind, "number": number, "data": data}))
        if self._recorded.get((kind, number)) != entry["data"]:
            self._file.append(entry)
            self._recorded[kind, number] = entry["data"]


def answers_in(folder: str | os.PathLike[str]) -> dict[str, Answer]:
    """Returns by request the answers in a folder's journal, which no run is writing any more."""
    path, answers = Path(folder) / FILE_NAME, {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = parsed(line)
            if entry["kind"] == "answer":
                answers[of_kind(entry, "key", str)] = answer_in(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise damage(path, number, error, _ELSEWHERE) from error
    return answers
