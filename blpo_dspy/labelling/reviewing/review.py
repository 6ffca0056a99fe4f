"""A review: people answer without the label and the judge's opinion in sight, then see both and decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.files import spreadsheet_cell, write_json
from blpo_dspy.labelling.journal import (
    CANNOT_TELL,
    DECISIONS,
    DROP,
    KEEP,
    RELABEL,
    SKIPPED,
    Answer,
    Draw,
    RaterJournal,
)
from blpo_dspy.labelling.reviewing.originals import NewLabel, Originals, Row, write_again
from blpo_dspy.labelling.session import Session, cut, is_new, now, stated, whole
from blpo_dspy.labelling.table import write_csv
from blpo_dspy.report.run.to_review import REVIEWED, ReviewCase, ReviewData

TABLE = "relabelled.csv"
_REVIEWER = "reviewer"
_COLUMNS = ("id", "split", "why", "label", "answer", "judged", "decision", "new_label", "reason")
_TEST = (
    "This is a test picture. If its label changes, it is recorded as used: a figure on it is no longer one of a sealed "
    "test set."
)


@dataclass(frozen=True)
class Case:
    """A row to look at again, with its key."""

    key: str
    about: ReviewCase
    row: Row


@dataclass
class ReviewSession(Session):
    """Shows what a run leaves to look at again, one row after the other.

    Attributes:
        folder: The run's folder, to which the results go.
        data: What the run left.
        labels: Its label space.
        originals: Its rows.
        journal: Of the person.
    """

    folder: Path
    data: ReviewData
    labels: LabelSpace
    originals: Originals
    journal: RaterJournal

    def __post_init__(self) -> None:
        self._cases = [
            Case(_key(case), case, self.originals.rows[case.split, case.id])
            for case in self.data.cases
            if (case.split, case.id) in self.originals.rows
        ]
        self.files: list[Path] = []
        super().__post_init__()

    def __len__(self) -> int:
        return len(self._cases)

    def sources(self, position: int) -> list[tuple[str, ImageSource]]:
        """Returns the images of a row."""
        draft = self._cases[position].row.draft
        if draft.problems:
            raise DataError("; ".join(draft.problems))
        return draft.images

    def _keys(self) -> Iterable[str]:
        return (case.key for case in self._cases)

    def _shown(self, position: int) -> tuple[Sequence[str], Mapping[str, str]]:
        draft = self._cases[position].row.draft
        return [name for name, _ in draft.images], draft.context

    def _done(self, action: Mapping[str, Any]) -> int | None:
        if action.get("do") not in ("answer", "decide"):
            raise BlpoError("the request asks for nothing that this page does; reload the page")
        position = whole(action, "position", len(self._cases))
        case, answers = self._cases[position], self.journal.answers
        decides = action["do"] == "decide"
        answer = self._decided(case, action) if decides else stated(action, self.labels, Draw("review"))
        if is_new(action, answers, case.key, answer):
            self.journal.put(case.key, answer, {"id": case.about.id, "split": case.about.split}, now())
        self.write()
        return None if decides or answer.state == SKIPPED else position

    def _decided(self, case: Case, action: Mapping[str, Any]) -> Answer:
        answer, decision = self.journal.answers.latest.get(case.key), action.get("decision")
        if answer is None or answer.state == SKIPPED or decision not in DECISIONS:
            raise BlpoError("a decision to keep, relabel or drop comes after an answer; reload the page")
        if decision == KEEP and case.about.label is None:
            raise BlpoError("there is no label to keep, as people were tied")
        if decision == DROP:
            return replace(answer, decision=decision, final=None)
        label = case.about.label if decision == KEEP else self.labels.coerce(action.get("label"))
        return replace(answer, decision=str(decision), final=label)

    def _decisions(self) -> dict[str, Answer]:
        return {key: answer for key, answer in self.journal.answers.latest.items() if answer.decision}

    def _upcoming(self) -> list[int]:
        """What is not decided, what was skipped last."""
        latest, decided = self.journal.answers.latest, self._decisions()
        pending = [place for place, case in enumerate(self._cases) if case.key not in decided]
        pending.sort(key=lambda place: (a := latest.get(self._cases[place].key)) is not None and a.state == SKIPPED)
        return pending

    def _about(self) -> dict[str, Any]:
        return {
            "mode": "review",
            "task": self.data.task,
            "done": f"Everything is decided. {TABLE} and the tables to compile with again are in the run's folder.",
            "figures": False,
            "progress": self._progress(),
        }

    def _item(self, position: int) -> dict[str, Any]:
        item = super()._item(position)
        case = self._cases[position]
        answer = self.journal.answers.latest.get(case.key)
        if answer is not None and answer.state != SKIPPED:
            item.update(reveal=self._reveal(case, answer), decided=bool(answer.decision))
        return item

    def _reveal(self, case: Case, answer: Answer) -> dict[str, Any]:
        """What the person may know once they have answered, and what they can decide."""
        about = case.about
        unknown = "" if about.why == "disagreement" else "no valid label"
        judged = unknown if about.judged is None else str(about.judged)
        facts = [
            ("You", "can’t tell" if answer.state == CANNOT_TELL else str(answer.label)),
            ("The table", "no label: people were tied" if about.label is None else str(about.label)),
            ("People", " | ".join(map(str, about.people))),
            ("The judge", judged),
            ("It described", cut("", about.description)["text"]),
            ("It reasoned", cut("", about.reasoning)["text"]),
            ("Decided", _in_words(answer)),
        ]
        return {
            "facts": [[name, value] for name, value in facts if value],
            "choices": _choices(about, answer),
            "warning": _TEST if about.split == "test" else "",
        }

    def _progress(self) -> dict[str, Any]:
        states = [answer.state for answer in self.journal.answers.latest.values()]
        decisions = [answer.decision for answer in self._decisions().values()]
        return {
            "labelled": len(self._cases) - len(self._upcoming()),
            "cannot": 0,
            "skipped": states.count(SKIPPED),
            "before": 0,
            "total": len(self._cases),
            "shares": [(name, decisions.count(name)) for name in DECISIONS],
            "undo": self.journal.answers.last is not None,
        }

    def write(self) -> None:
        """Writes what is decided: relabelled.csv, the tables to compile with again, and which test images were used.

        Raises:
            TableError: If a file cannot be written.
        """
        decisions = self._decisions()
        decided = [(case, decisions[case.key]) for case in self._cases if case.key in decisions]
        table = self.folder / TABLE
        write_csv(table, _COLUMNS, (_cells(case, answer) for case, answer in decided))
        new = {
            (case.about.split, case.about.id): NewLabel(answer.final, answer.reason, answer.final != case.about.label)
            for case, answer in decided
        }
        reasons = self.data.tables is not None and self.data.tables.reason_column is not None
        self.files = [table, *write_again(self.folder, self.originals, new, reasons)]
        used = [c.about.print for c, a in decided if c.about.split == "test" and a.final != c.about.label]
        reviewed = self.folder / REVIEWED
        if used or reviewed.exists():
            write_json(reviewed, {"reviewed": {"run": self.data.run, "on": now()[:10], "prints": used}})


def review_journal(table: Path, data: ReviewData, labels: LabelSpace, shown: Sequence[str]) -> RaterJournal:
    """Returns the journal of a review, which belongs to one run.

    Raises:
        StoreError: As `RaterJournal`, so if it holds the review of an earlier run in the same folder.
    """
    return RaterJournal(table, _REVIEWER, labels, shown, run=data.run, elsewhere="compile into another folder")


def _key(case: ReviewCase) -> str:
    return hashlib.sha256(f"{case.split}:{case.id}".encode()).hexdigest()[:16]


def _in_words(answer: Answer) -> str:
    if not answer.decision:
        return ""
    return "drop" if answer.decision == DROP else f"{answer.decision}: {answer.final}"


def _choices(about: ReviewCase, answer: Answer) -> list[dict[str, Any]]:
    """What can be decided, first what the answer suggests."""
    keep = {"text": f"Keep {about.label}", "key": "K", "decision": KEEP, "label": None}
    own = _relabel(answer.label, "R", "as you say")
    judges = _relabel(about.judged, "J", "as the judge says")
    drop = {"text": "Drop the picture", "key": "D", "decision": DROP, "label": None}
    found = [own] if answer.label is not None and answer.label != about.label else []
    if about.label is not None:
        found.insert(0 if answer.label == about.label else len(found), keep)
    if about.judged is not None and about.judged not in (about.label, answer.label):
        found.append(judges)
    return [*found, drop]


def _relabel(label: Label | None, key: str, why: str) -> dict[str, Any]:
    return {"text": f"Relabel to {label}, {why}", "key": key, "decision": RELABEL, "label": str(label)}


def _cells(case: Case, answer: Answer) -> list[object]:
    about = case.about
    said = "can't tell" if answer.state == CANNOT_TELL else answer.label
    judged = (about.id, about.split, about.why, about.label, said, about.judged)
    found = (*judged, answer.decision, answer.final, answer.reason)
    return ["" if value is None else spreadsheet_cell(value) for value in found]
