"""The journals of a labelled table: one for each rater, so that several people label at once and none waits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blpo_dspy.calls.journal_file import JournalError, JournalFile, Place
from blpo_dspy.calls.journal_lines import of_kind, parsed
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, brief

FORMAT_VERSION = 1
FOLDER = ".journal"
"""What the folder of the journals adds to the name of the table."""

LABELLED, CANNOT_TELL, SKIPPED = "label", "cannot tell", "skip"
_STATES = (LABELLED, CANNOT_TELL, SKIPPED)
KEEP, RELABEL, DROP = "keep", "relabel", "drop"
DECISIONS = (KEEP, RELABEL, DROP)
_LONGEST_NAME = 60
_ELSEWHERE = "name another --out"


@dataclass(frozen=True)
class Draw:
    """How an image came to be shown.

    Attributes:
        by: The ordering, such as "random".
        seed: Of its draw.
        probability: With which the design included it, where that was known when it was drawn.
        stratum: The part of all images that it was drawn from, "" where there are no parts.
    """

    by: str
    seed: int = 0
    probability: float | None = None
    stratum: str = ""


@dataclass(frozen=True)
class Answer:
    """What a rater said about an item, the last time.

    Attributes:
        state: `LABELLED`, `CANNOT_TELL` or `SKIPPED`.
        label: The label, None unless labelled.
        reason: What the person wrote beside it.
        draw: How the item came to be shown.
        decision: In a review what is to become of the table's label, one of `DECISIONS`; "" before that.
        final: The label that was decided on, None if the row is dropped.
    """

    state: str
    label: Label | None
    reason: str
    draw: Draw
    decision: str = ""
    final: Label | None = None


@dataclass
class Answers:
    """The answers of a rater, as the lines of a journal make them.

    Attributes:
        latest: By key, in the order in which items were first answered.
        versions: By key how often its answer has changed.
        cells: By key the cells of its row.
    """

    latest: dict[str, Answer] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    cells: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _before: list[tuple[str, Answer | None]] = field(default_factory=list)

    def take(self, line: Mapping[str, Any], labels: LabelSpace) -> None:
        """Takes a line.

        Raises:
            KeyError: If a part of it is missing.
            ValueError: If a part of it is not what a journal writes.
        """
        kind = of_kind(line, "kind", str)
        if kind == "undo":
            if self.last is None:
                raise ValueError("undo: nothing was answered before")
            self._undo()
            return
        if kind != "answer":
            raise ValueError(f"unknown kind {kind!r}")
        key, answer = of_kind(line, "key", str), _answer_in(line, labels)
        if "cells" in line:
            cells = of_kind(line, "cells", dict)
            self.cells[key] = {name: of_kind(cells, name, str) for name in cells}
        elif key not in self.cells:
            raise KeyError("cells")
        self._before.append((key, self.latest.get(key)))
        self.latest[key] = answer
        self.versions[key] = self.versions.get(key, 0) + 1

    @property
    def last(self) -> str | None:
        """The key of the answer that undo takes back, None if there is none."""
        return self._before[-1][0] if self._before else None

    def before(self, key: str | None) -> str | None:
        """Returns the key that was answered before this one; the last of all for one that was not answered."""
        order = list(dict.fromkeys(key for key, _ in reversed(self._before)))
        place = order.index(key) + 1 if key in order else 0
        return order[place] if place < len(order) else None

    def _undo(self) -> None:
        key, answer = self._before.pop()
        self.versions[key] += 1
        if answer is None:
            del self.latest[key]
        else:
            self.latest[key] = answer


def _answer_in(line: Mapping[str, Any], labels: LabelSpace) -> Answer:
    state, label = of_kind(line, "state", str), line["label"]
    if state not in _STATES:
        raise ValueError(f"state: {state!r} is not one of {', '.join(_STATES)}")
    draw = of_kind(line, "draw", dict)
    label = labels.coerce(label) if state == LABELLED else None
    answer = Answer(state, label, of_kind(line, "reason", str), Draw(**draw))
    if "decision" not in line:
        return answer
    decision, final = of_kind(line, "decision", str), line["final"]
    if decision not in DECISIONS:
        raise ValueError(f"decision: {decision!r} is not one of {', '.join(DECISIONS)}")
    return replace(answer, decision=decision, final=None if decision == DROP else labels.coerce(final))


class RaterJournal:
    """What one rater says, appended and on disk once `put` returns.

    Args:
        out: The table that the labels go to; the journal is in a folder next to it.
        rater: Who labels.
        labels: The closed set of labels.
        shown: The names of the images and texts that are shown.
        run: The run that is reviewed, if one is.
        elsewhere: What the user can do instead of continuing the journal, for the messages.

    Raises:
        JournalError: As `JournalFile`, so if somebody labels under this name already.
        BlpoError: If the name is none.
    """

    def __init__(
        self,
        out: Path,
        rater: str,
        labels: LabelSpace,
        shown: Sequence[str],
        *,
        run: str | None = None,
        elsewhere: str = _ELSEWHERE,
    ) -> None:
        self.rater, self.labels = check_rater(rater), labels
        self.answers = Answers()
        path = journal_folder(out) / _file_name(rater)
        fingerprint = {"rater": rater, **_task(labels, shown), **({} if run is None else {"run": run})}
        self._file = JournalFile(path, fingerprint, self._take, version=FORMAT_VERSION, elsewhere=elsewhere)

    def _take(self, line: dict[str, Any], _: Place) -> None:
        self.answers.take(line, self.labels)

    def put(self, key: str, answer: Answer, cells: Mapping[str, str], on: str) -> None:
        """Writes an answer.

        Raises:
            JournalError: If it cannot be written.
        """
        once = {} if key in self.answers.cells else {"cells": dict(cells)}
        said = asdict(answer)
        if not answer.decision:
            del said["decision"], said["final"]
        self._append({"kind": "answer", "key": key, **said, "on": on, **once})

    def undo(self, on: str) -> str | None:
        """Takes the last answer back and returns the key of its item, None if there is nothing to take back.

        Raises:
            JournalError: If that cannot be written.
        """
        key = self.answers.last
        if key is not None:
            self._append({"kind": "undo", "on": on})
        return key

    def _append(self, line: dict[str, Any]) -> None:
        self._file.append(line)
        self.answers.take(line, self.labels)

    def close(self) -> None:
        """Lets another process write the journal."""
        self._file.close()


class OtherJournal:
    """What another rater has said so far, read as far as its process has written it.

    Args:
        path: The journal.
        labels: The closed set of labels.
        shown: The names of the images and texts that are shown.

    Raises:
        JournalError: If it is damaged, or of another task.
    """

    def __init__(self, path: Path, labels: LabelSpace, shown: Sequence[str]) -> None:
        self.path, self._labels, self._task = path, labels, _task(labels, shown)
        self.rater, self.answers = "", Answers()
        self._read = 0

    def refresh(self) -> None:
        """Reads what was written since the last time; a line that is being written is left for the next time.

        Raises:
            JournalError: If it is damaged, or of another task.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._take(parsed(line))
                    self._read += len(line)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"{self.path}: cannot be read ({brief(error)}); restore or remove the file, or {_ELSEWHERE}"
            ) from error

    def _take(self, line: dict[str, Any]) -> None:
        if self._read:
            self.answers.take(line, self._labels)
            return
        found = of_kind(line, "fingerprint", dict)
        self.rater = of_kind(found, "rater", str)
        if {name: found.get(name) for name in self._task} != self._task:
            raise ValueError(f"{self.rater} was asked for other labels, or shown other inputs")


def other_paths(out: Path, rater: str) -> list[Path]:
    """Returns the journals of all other raters of a table."""
    return [path for path in sorted(journal_folder(out).glob("*.jsonl")) if path.name != _file_name(rater)]


def labels_in_journals(out: Path, labels: LabelSpace, shown: Sequence[str]) -> dict[str, Label]:
    """Returns by key what was labelled so far, by any rater; of several labels that of the first journal.

    Raises:
        JournalError: As `OtherJournal`.
    """
    found: dict[str, Label] = {}
    for path in sorted(journal_folder(out).glob("*.jsonl")):
        journal = OtherJournal(path, labels, shown)
        journal.refresh()
        for key, answer in journal.answers.latest.items():
            if answer.label is not None:
                found.setdefault(key, answer.label)
    return found


def journal_folder(out: Path) -> Path:
    """Returns the folder with the journals of a table."""
    return out.with_name(out.name + FOLDER)


def check_rater(rater: str) -> str:
    """Returns the name of a rater.

    Raises:
        BlpoError: If it is empty, long, or could be taken for something else in a table.
    """
    plain = re.fullmatch(r"\w[\w .'@-]*", rater) is not None and rater == rater.strip()
    if not plain or len(rater) > _LONGEST_NAME:
        raise BlpoError(
            f"rater={brief(repr(rater))} is not a name: write at most {_LONGEST_NAME} letters, digits, spaces and "
            ". ' @ -, the first a letter or digit",
            option="rater",
        )
    return rater


def _file_name(rater: str) -> str:
    """The name of a rater's file, another one for names that differ in what a file system ignores."""
    plain = re.sub(r"[^a-z0-9]+", "-", rater.lower()).strip("-")[:30]
    return f"{plain}-{hashlib.sha256(rater.encode()).hexdigest()[:8]}.jsonl"


def _task(labels: LabelSpace, shown: Sequence[str]) -> dict[str, Any]:
    return {"labels": labels.to_dict(), "shown": list(shown)}
