"""What each rater of a table says: rows of the store of its folder, so that several people label at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, brief
from blpo_dspy.workspace.job import Job, plain
from blpo_dspy.workspace.store import FILE_NAME, Store, StoreError

_KIND, _OLD = "labels", ".journal"  # the latter of a version without a store

LABELLED, CANNOT_TELL, SKIPPED = "label", "cannot tell", "skip"
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
    """The answers of a rater, as the lines of a store make them.

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
        """Takes a line."""
        if line["kind"] == "undo":
            self._undo()
            return
        key = line["key"]
        if "cells" in line:
            self.cells[key] = line["cells"]
        self._before.append((key, self.latest.get(key)))
        self.latest[key] = _answer_in(line, labels)
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
    label = labels.coerce(line["label"]) if line["state"] == LABELLED else None
    answer = Answer(line["state"], label, line["reason"], Draw(**line["draw"]))
    if "decision" not in line:
        return answer
    decision = line["decision"]
    return replace(answer, decision=decision, final=None if decision == DROP else labels.coerce(line["final"]))


class RaterJournal:
    """What one rater says, each answer a row of the store of the folder that the labels go to; kept once `put` returns.

    Args:
        out: The table that the labels go to.
        rater: Who labels.
        labels: The closed set of labels.
        shown: The names of the images and texts that are shown.
        run: The run that is reviewed, if one is.
        elsewhere: What the user can do instead of continuing, for the messages.

    Raises:
        StoreError: As `Store`, or if somebody labels under this name at the moment, or did with other labels.
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
        if (old := out.with_name(out.name + _OLD)).exists():
            raise StoreError(
                f"{old}: was written by an earlier version of blpo-dspy, whose labels this one does not continue; "
                f"give {out.name} as the TABLE, and {elsewhere}"
            )
        self.store = Store(out.parent / FILE_NAME)
        try:
            fingerprint = {"rater": rater, **_task(labels, shown), **({} if run is None else {"run": run})}
            name = _prefix(out) + rater
            with self.store.transaction():  # of two processes that begin at once the second finds the first
                self._check_alone(out)
                self._job = Job(self.store, _KIND, fingerprint, name=name, elsewhere=elsewhere)
            for line in _lines(self.store, self._job.id, 0):
                self.answers.take(line[1], labels)
        except BaseException:
            self.store.close()
            raise

    def _check_alone(self, out: Path) -> None:
        sql = "SELECT session FROM jobs WHERE kind = ? AND name = ? AND ended IS NULL"
        found = self.store.one(sql, (_KIND, _prefix(out) + self.rater))
        if found is not None and self.store.lives(found[0]):
            raise StoreError(
                f"{self.store.path}: another process labels {out.name} as {self.rater}; end it, or label under "
                "another name",
                option="rater",
            )

    def put(self, key: str, answer: Answer, cells: Mapping[str, str], on: str) -> None:
        """Writes an answer.

        Raises:
            StoreError: If it cannot be written.
        """
        once = {} if key in self.answers.cells else {"cells": dict(cells)}
        said = asdict(answer)
        if not answer.decision:
            del said["decision"], said["final"]
        self._append({"kind": "answer", "key": key, **said, "on": on, **once})

    def undo(self, on: str) -> str | None:
        """Takes the last answer back and returns the key of its item, None if there is nothing to take back.

        Raises:
            StoreError: If that cannot be written.
        """
        key = self.answers.last
        if key is not None:
            self._append({"kind": "undo", "on": on})
        return key

    def _append(self, line: dict[str, Any]) -> None:
        self.store.write("INSERT INTO labels (job, line) VALUES (?, ?)", (self._job.id, json.dumps(line)))
        self.answers.take(line, self.labels)

    def others(self, out: Path) -> list[OtherJournal]:
        """Returns the other raters of a table."""
        return [each for each in raters_of(self.store, out, self.labels) if each.rater != self.rater]

    def close(self) -> None:
        """Lets another process label under this name; closing again does nothing."""
        with suppress(StoreError):  # it is closed, or the disk is full: the end of this process tells others too
            self._job.end("done")
        self.store.close()


class OtherJournal:
    """What a rater has said so far, read as far as it is written.

    Attributes:
        job: The rater's job in the store.
        rater: The rater.
        answers: What was said.
    """

    def __init__(self, store: Store, job: int, fingerprint: Mapping[str, Any], labels: LabelSpace) -> None:
        self._store, self.job, self._labels = store, job, labels
        self.rater, self.answers = str(fingerprint["rater"]), Answers()
        self._found = {name: fingerprint[name] for name in ("labels", "shown")}
        self._read = 0

    def refresh(self, shown: Sequence[str]) -> None:
        """Reads what was written since the last time.

        Raises:
            StoreError: If it is of another task.
        """
        if self._found != json.loads(plain(_task(self._labels, shown))):
            raise StoreError(
                f"{self._store.path}: {self.rater} was asked for other labels, or shown other inputs; {_ELSEWHERE}"
            )
        for number, line in _lines(self._store, self.job, self._read):
            self.answers.take(line, self._labels)
            self._read = number


def raters_of(store: Store, out: Path, labels: LabelSpace) -> list[OtherJournal]:
    """Returns the raters of a table, by name."""
    prefix = _prefix(out)
    sql = "SELECT id, fingerprint FROM jobs WHERE kind = ? AND substr(name, 1, ?) = ? ORDER BY name"
    rows = store.rows(sql, (_KIND, len(prefix), prefix))
    return [OtherJournal(store, job, json.loads(found), labels) for job, found in rows]


def labels_in_journals(out: Path, labels: LabelSpace, shown: Sequence[str]) -> dict[str, Label]:
    """Returns by key what was labelled so far, by any rater; of several labels that of the first rater.

    Raises:
        StoreError: As `OtherJournal`.
    """
    found: dict[str, Label] = {}
    if not (out.parent / FILE_NAME).exists():
        return found
    with closing(Store(out.parent / FILE_NAME)) as store:
        for journal in raters_of(store, out, labels):
            journal.refresh(shown)
            for key, answer in journal.answers.latest.items():
                if answer.label is not None:
                    found.setdefault(key, answer.label)
    return found


def is_labelled(out: Path) -> bool:
    """Whether the store of its folder knows a table of labels."""
    path = out.parent / FILE_NAME
    if not path.exists():
        return False
    with closing(Store(path)) as store:
        return bool(raters_of(store, out, LabelSpace("a", "b")))


def _prefix(out: Path) -> str:
    return f"{out.name}/"


def _lines(store: Store, job: int, after: int) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = store.rows("SELECT id, line FROM labels WHERE job = ? AND id > ? ORDER BY id", (job, after))
    return ((number, json.loads(line)) for number, line in rows)


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


def _task(labels: LabelSpace, shown: Sequence[str]) -> dict[str, Any]:
    return {"labels": labels.to_dict(), "shown": list(shown)}
