"""The table of labels: rewritten whole with each answer from the answers of all raters, so that it is always valid."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from blpo_dspy.data.ratings import Ratings, ratings_from_rows
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import replacing, spreadsheet_cell
from blpo_dspy.labelling.items import Given, Items
from blpo_dspy.labelling.journal import (
    CANNOT_TELL,
    SKIPPED,
    Answer,
    Answers,
    Draw,
    OtherJournal,
    RaterJournal,
)
from blpo_dspy.labelling.order.ordering import Ordering
from blpo_dspy.predictions.reading import CANNOT, CHANCE, DRAWN, LABEL, RATER, REASON, STRATUM

_OURS = (LABEL, REASON, RATER, CANNOT, DRAWN, CHANCE, STRATUM)


class TableError(BlpoError):
    """A table that cannot be written; what was confirmed is in the store."""


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Iterable[object]],
    lock: AbstractContextManager[object] | None = None,
) -> None:
    """Writes a table, complete or not at all, while a lock is held.

    Raises:
        TableError: If it cannot be written.
    """
    try:
        with (
            lock or nullcontext(),
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows(chain([header], rows))
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror or error})") from error


@dataclass(frozen=True)
class LabelTable:
    """A CSV with one row for each answer of each rater, which `blpo compile` reads.

    What was skipped has a row without a label, as it was drawn.

    Attributes:
        path: The file.
        items: What is labelled; the labels that its table held already are in the file too.
        own: The answers of the rater who labels.
        ordering: What says with which probability an image was included.
        others: The answers of the other raters.
    """

    path: Path
    items: Items
    own: RaterJournal
    ordering: Ordering
    others: list[OtherJournal] = field(default_factory=list)

    def write(self) -> None:
        """Writes the file, complete or not at all; another rater's process waits meanwhile.

        Raises:
            TableError: If it cannot be written.
        """
        columns = [name for name in self.items.columns if name not in _OURS]
        write_csv(self.path, [*columns, *_OURS], self._rows(columns), self.own.store.transaction())

    def everyone(self) -> list[tuple[str, Answers]]:
        """Returns what each rater has said so far, by name, so that it doesn't matter who writes."""
        known = {other.job for other in self.others}
        self.others.extend(other for other in self.own.others(self.path) if other.job not in known)
        for other in self.others:
            other.refresh(self.items.fields.names)
        people = {self.own.rater: self.own.answers, **{other.rater: other.answers for other in self.others}}
        return sorted(people.items())

    def ratings(self) -> Ratings | None:
        """Returns who labelled what, by key, with the labels that the table held already; None without any."""
        rows: list[tuple[str, str | None, object]] = [
            (key, given.rater, given.label) for key, several in self.items.given.items() for given in several
        ]
        for rater, answers in self.everyone():
            labelled = ((key, answer.label) for key, answer in answers.latest.items() if answer.label is not None)
            rows += [(key, rater, label) for key, label in labelled]
        return ratings_from_rows(self.own.labels, rows) if rows else None

    def _rows(self, columns: Sequence[str]) -> Iterator[list[object]]:
        people = self.everyone()
        draws = shown_by(people)
        included = self.ordering.inclusion(draws)
        for item in self.items.items:
            for given in self.items.given.get(item.key, ()):
                yield [*_cells(item.cells, columns), *_given_cells(given, item.cells)]
        for rater, answers in people:
            for key, answer in answers.latest.items():
                cells = answers.cells[key]
                # What was skipped is part of a sample like what nobody can tell.
                if answer.state != SKIPPED or included[key] is not None:
                    yield [*_cells(cells, columns), *_answer_cells(answer, rater, cells, included[key])]


def shown_by(people: Sequence[tuple[str, Answers]]) -> dict[str, Draw]:
    """Returns by key how each item that anybody was shown was drawn, the first time."""
    return {key: answer.draw for _, answers in reversed(people) for key, answer in answers.latest.items()}


def _cells(cells: Mapping[str, str], columns: Sequence[str]) -> list[object]:
    return [cells.get(name, "") for name in columns]


def _given_cells(given: Given, cells: Mapping[str, str]) -> list[object]:
    design = [cells.get(name, "") for name in (DRAWN, CHANCE, STRATUM)]
    return [given.label, spreadsheet_cell(given.reason), given.rater, "", *design]


def _answer_cells(answer: Answer, rater: str, cells: Mapping[str, str], share: float | None) -> list[object]:
    """What is written about an answer.

    A table that was itself drawn from a larger collection states with which probability; of the rows that are labelled
    of it that is multiplied by their share.
    """
    label = "" if answer.label is None else answer.label
    cannot = "yes" if answer.state == CANNOT_TELL else ""
    included = "" if share is None else f"{share * float(cells.get(CHANCE) or 1):.6g}"
    stratum = answer.draw.stratum or cells.get(STRATUM, "")
    return [label, spreadsheet_cell(answer.reason), rater, cannot, answer.draw.by, included, stratum]
