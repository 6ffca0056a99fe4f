"""One person who labels: what the page shows, and what each of its answers does."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import reason_text
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.items import EARLIER, Items, Work, shares
from blpo_dspy.labelling.journal import CANNOT_TELL, LABELLED, SKIPPED, Answer, Answers, Draw, RaterJournal
from blpo_dspy.labelling.order.enough import EVERY, enough
from blpo_dspy.labelling.order.ordering import Ordering, RandomOrder
from blpo_dspy.labelling.table import LabelTable, shown_by
from blpo_dspy.predictions.reading import CHOSEN

AHEAD = 3
_LONGEST_TEXT = 20_000  # characters of a context text that are shown
_LONGEST_REASON = 2_000
_MOST_KEYS = 9


class ConflictError(BlpoError):
    """An answer to an item that has been answered otherwise since the page was shown it."""


class Session(ABC):
    """One person in front of a page, who is shown one item after the other.

    Attributes:
        labels: The closed set of labels.
        journal: Of the person.
    """

    labels: LabelSpace
    journal: RaterJournal

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._order = tuple(self._keys())
        self._positions = {key: position for position, key in enumerate(self._order)}

    @abstractmethod
    def sources(self, position: int) -> list[tuple[str, ImageSource]]:
        """Returns the images of an item.

        Raises:
            BlpoError: If they may not be used.
        """

    @abstractmethod
    def write(self) -> None:
        """Writes the tables.

        Raises:
            TableError: If one cannot be written.
        """

    @abstractmethod
    def _keys(self) -> Iterable[str]:
        """The keys of all items, in order."""

    @abstractmethod
    def _shown(self, position: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """The names of an item's images, and its texts."""

    @abstractmethod
    def _upcoming(self) -> list[int]:
        """The positions of what comes next, at least of the first few."""

    @abstractmethod
    def _done(self, action: Mapping[str, Any]) -> int | None:
        """Does what a person asked for; returns the position that is shown then, None for what comes next."""

    @abstractmethod
    def _about(self) -> dict[str, Any]:
        """What the page shows of the whole."""

    def view(self, position: int | None = None) -> dict[str, Any]:
        """Returns what the page shows: the item at a position, or the next one; none where all are done."""
        with self._lock:
            return self._view(position)

    def act(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Records what a person says, or takes the last of it back, and returns what the page shows then.

        Args:
            action: "do" is "answer", "undo", or in a review "decide"; all but "undo" have "position" and "version", an
                answer "state", "label", "reason", a decision "decision", "label".

        Raises:
            ConflictError: If the item was answered otherwise since.
            BlpoError: If the action cannot be read, or cannot be written to the disk.
        """
        with self._lock:
            if action.get("do") != "undo":
                return self._view(self._done(action))
            key = self.journal.undo(now())
            if key is None:
                raise ConflictError("nothing is left to undo")
            self.write()
            return self._view(self._positions.get(key))

    def _view(self, position: int | None) -> dict[str, Any]:
        upcoming, last = self._upcoming(), self.journal.answers.last
        if position is None:
            position = upcoming[0] if upcoming else None
        return {
            "rater": self.journal.rater,
            **labels_shown(self.labels),
            "item": None if position is None else self._item(position),
            "last": None if last is None else self._positions.get(last),
            "ahead": [self._pictures(place) for place in upcoming if place != position][:AHEAD],
            **self._about(),
        }

    def _item(self, position: int) -> dict[str, Any]:
        if not 0 <= position < len(self._order):
            raise BlpoError(f"there are {len(self._order)} pictures; reload the page")
        key, answers = self._order[position], self.journal.answers
        before = answers.before(key)
        return {
            **self._pictures(position),
            "texts": [cut(name, text) for name, text in self._shown(position)[1].items()],
            "version": answers.versions.get(key, 0),
            "answer": answer_shown(answers.latest.get(key)),
            "before": None if before is None else self._positions.get(before),
        }

    def _pictures(self, position: int) -> dict[str, Any]:
        """The position of an item and its images as the page asks for them: by number, never by path."""
        names, key = self._shown(position)[0], self._order[position]
        images = [{"name": name, "url": f"image/{position}/{i}?{key[:8]}"} for i, name in enumerate(names)]
        return {"position": position, "images": images}


@dataclass
class LabelSession(Session):
    """Labels the items of a table one after the other.

    Attributes:
        items: What is to be labelled.
        labels: The closed set of labels.
        journal: Of the rater.
        table: The table that the labels go to.
        ordering: What comes next.
        task: The question, as the page states it.
        verdict: Returns a judge's label of an item by key, None where it has no say; None without a judge.
    """

    items: Items
    labels: LabelSpace
    journal: RaterJournal
    table: LabelTable
    ordering: Ordering
    task: str = ""
    verdict: Callable[[str], Label | None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._enough: tuple[int, dict[str, Any] | None] = (0, None)
        self._offered: dict[str, Draw] = {}
        rater = self.journal.rater
        # Labels of somebody else in the table leave an item to this rater; those of nobody in particular don't.
        self._given = {
            key
            for key, several in self.items.given.items()
            if any(given.rater in (rater, EARLIER) for given in several)
        }

    def sources(self, position: int) -> list[tuple[str, ImageSource]]:
        """Returns the images of an item."""
        return self.items.sources(position)

    def write(self) -> None:
        """Writes the table of labels."""
        self.table.write()

    def _keys(self) -> Iterable[str]:
        return (item.key for item in self.items.items)

    def _shown(self, position: int) -> tuple[Sequence[str], Mapping[str, str]]:
        names, cells = [], self.items.items[position].cells
        for column, image in self.items.reader.columns.images.items():
            names += [image.name] * (cells[column].count("|") + 1 if image.several else 1)
        return names, self.items.texts(position)

    def _done(self, action: Mapping[str, Any]) -> None:
        if action.get("do") != "answer":
            raise BlpoError("the request asks for nothing that this page does; reload the page")
        item = self.items.items[whole(action, "position", len(self.items.items))]
        answers = self.journal.answers
        known = answers.latest.get(item.key)
        # How it came to be shown: as it did the first time; chosen if no ordering drew it.
        draw = self._offered.get(item.key, Draw(CHOSEN)) if known is None else known.draw
        answer = stated(action, self.labels, draw)
        if is_new(action, answers, item.key, answer):
            self.journal.put(item.key, answer, item.cells, now())
        self.table.write()  # also if an earlier request could not

    def _upcoming(self) -> list[int]:
        """What is neither answered nor skipped, and then what was skipped."""
        latest = self.journal.answers.latest
        found = self.ordering.upcoming({*latest, *self._given}, AHEAD + 1)
        self._offered.update(found)
        skipped = [key for key, answer in latest.items() if answer.state == SKIPPED and key in self._positions]
        return [self._positions[key] for key in [*(key for key, _ in found), *skipped]][: AHEAD + 1]

    def _about(self) -> dict[str, Any]:
        return {
            "mode": "label",
            "task": self.task,
            "done": f"Every picture has an answer of {self.journal.rater}. The labels are in {self.table.path.name}.",
            "figures": True,
            "enough": self._sufficiency(),
            "progress": self._progress(),
        }

    def _sufficiency(self) -> dict[str, Any] | None:
        """How exactly the labels measure a judge's agreement, computed again after so many labels."""
        labelled = {key: a.label for key, a in self.journal.answers.latest.items() if a.label is not None}
        step = len(labelled) // EVERY
        if step != self._enough[0]:
            included = self.ordering.inclusion(shown_by(self.table.everyone()))
            sample = {key: label for key, label in labelled.items() if included[key] is not None}
            right = None
            if self.verdict is not None:
                said = {key: self.verdict(key) for key in sample}
                sample = {key: label for key, label in sample.items() if said[key] is not None}
                right = sum(self.labels.right(label, said[key]) for key, label in sample.items())
            size, share = len(self.items.items), self.ordering.share
            self._enough = step, enough(len(sample), right, images=size, share=share)
        return self._enough[1]

    def _progress(self) -> dict[str, Any]:
        latest = [a for key, a in self.journal.answers.latest.items() if key in self._positions]
        given = [answer.label for answer in latest if answer.label is not None]
        states = [answer.state for answer in latest]
        return {
            "labelled": len(given),
            "cannot": states.count(CANNOT_TELL),
            "skipped": states.count(SKIPPED),
            "before": len(self._given),
            "total": len(self.items.items),
            "shares": shares(self.labels, given) if given or self.labels.score_range is None else [],
            "undo": self.journal.answers.last is not None,
        }


def open_session(
    work: Work,
    items: Items,
    order: Callable[[list[str]], Ordering] = RandomOrder,
    verdict: Callable[[str], Label | None] | None = None,
) -> LabelSession:
    """Returns the session of a rater, and writes the table; the caller closes its journal. `order` chooses among keys.

    Raises:
        BlpoError: If something cannot be written, or somebody labels under this name already.
    """
    ordering = order([item.key for item in items.items if item.key not in items.given])
    journal = RaterJournal(work.out, work.rater, work.labels, items.fields.names)
    try:
        table = LabelTable(work.out, items, journal, ordering)
        session = LabelSession(items, work.labels, journal, table, ordering, work.task, verdict)
        table.write()
    except BaseException:
        journal.close()
        raise
    return session


def labels_shown(labels: LabelSpace) -> dict[str, Any]:
    """Returns the labels with the key of each: a digit that is the label, or its place; of scores their range."""
    found = labels.score_range
    if found is not None:
        return {"labels": [], "paired": False, "scores": {"low": found.low, "high": found.high, "step": found.step}}
    digits = labels.numeric and any(name in "123456789" for name in labels.names)
    keys = [
        name if digits and len(name) == 1 else str(place) if not digits and place <= _MOST_KEYS else ""
        for place, name in enumerate(labels.names, 1)
    ]
    named = [{"label": name, "key": key} for name, key in zip(labels.names, keys, strict=True)]
    return {"labels": named, "paired": labels.paired, "scores": None}


def cut(name: str, text: str) -> dict[str, Any]:
    """Returns a text as the page shows it: its beginning, and how long it is in all."""
    return {"name": name, "text": text[:_LONGEST_TEXT], "length": len(text), "cut": len(text) > _LONGEST_TEXT}


def whole(action: Mapping[str, Any], name: str, below: int | None = None) -> int:
    """Returns a whole number of an action.

    Raises:
        BlpoError: If it is none, or not below a number.
    """
    value = action.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (below is not None and value >= below):
        raise BlpoError(f"{name} is not a whole number of this page; reload the page")
    return value


def stated(action: Mapping[str, Any], labels: LabelSpace, draw: Draw) -> Answer:
    """Returns the answer that an action states.

    Raises:
        BlpoError: If it is none.
    """
    state = action.get("state")
    if state not in (LABELLED, CANNOT_TELL, SKIPPED):
        raise BlpoError("an answer is a label, can't tell, or a skip; reload the page")
    reason = str(action.get("reason") or "").strip()
    if len(reason) > _LONGEST_REASON:
        raise BlpoError(f"the reason has {len(reason)} characters; at most {_LONGEST_REASON} are kept")
    label = labels.coerce(action.get("label")) if state == LABELLED else None
    return Answer(state, label, reason_text("the reason", reason) if reason else "", draw)


def is_new(action: Mapping[str, Any], answers: Answers, key: str, answer: Answer) -> bool:
    """Returns whether an answer is to be written: not if it was, and is sent again as the reply was lost.

    Raises:
        ConflictError: If the item was answered otherwise since the page was shown it.
    """
    if whole(action, "version") == answers.versions.get(key, 0):
        return True
    if answers.latest.get(key) == answer:
        return False
    raise ConflictError("this picture was answered in another tab meanwhile; look at that answer first")


def answer_shown(answer: Answer | None) -> dict[str, Any] | None:
    """Returns an answer as the page shows it."""
    if answer is None:
        return None
    return {
        "state": answer.state,
        "label": None if answer.label is None else str(answer.label),
        "reason": answer.reason,
    }


def now() -> str:
    """Returns the time, as journals keep it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
