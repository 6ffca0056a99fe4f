"""Journals of raters: what they keep, what a later process finds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_pages import SCALE

from blpo_dspy.calls.store import StoreError
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.journal import (
    CANNOT_TELL,
    LABELLED,
    Answer,
    Draw,
    OtherJournal,
    RaterJournal,
    check_rater,
    journal_folder,
    other_paths,
)

CELLS = {"image": "a.png"}


def said(label: int | None, reason: str = "") -> Answer:
    """An answer."""
    return Answer(CANNOT_TELL if label is None else LABELLED, label, reason, Draw("random"))


def opened(out: Path, rater: str = "ann", labels: LabelSpace = SCALE) -> RaterJournal:
    """The journal of a rater."""
    return RaterJournal(out, rater, labels, ["image"])


def test_answers_changes_and_undo_are_found_again(tmp_path: Path) -> None:
    """An undo gives an earlier answer back, or none; versions only grow."""
    out = tmp_path / "labels.csv"
    journal = opened(out)
    for key, label in (("a", 1), ("b", 2), ("a", 3), ("c", None)):
        journal.put(key, said(label), CELLS, "now")
    assert journal.undo("now") == "c"
    assert journal.undo("now") == "a"
    journal.close()
    for _ in range(2):
        journal = opened(out)
        assert {key: answer.label for key, answer in journal.answers.latest.items()} == {"a": 1, "b": 2}
        assert journal.answers.versions == {"a": 3, "b": 1, "c": 2}
        assert journal.answers.last == "b"
        journal.close()


def test_undo_ends_where_nothing_was_answered(tmp_path: Path) -> None:
    """Which is no error."""
    journal = opened(tmp_path / "labels.csv")
    journal.put("a", said(1), CELLS, "now")
    assert [journal.undo("now"), journal.undo("now")] == ["a", None]
    journal.close()


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    """It was never confirmed."""
    out = tmp_path / "labels.csv"
    journal = opened(out)
    journal.put("a", said(1), CELLS, "now")
    journal.close()
    (path,) = journal_folder(out).glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"kind": "answer", "key": "b", "sta')
    with pytest.warns(UserWarning, match="dropped an incomplete last line"):
        journal = opened(out)
    assert list(journal.answers.latest) == ["a"]
    journal.close()


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "undo"}\n{"kind": "undo"}', '{"kind": "other"}', '{"kind": "answer", "key": 3}', "[]", "{}",
        '{"kind": "answer", "key": "b", "state": "label", "label": 9, "reason": "", "draw": {"by": "r"}, "cells": {}}',
        '{"kind": "answer", "key": "b", "state": "label", "label": 1, "reason": "", "draw": {"by": "random"}}',
        '{"kind": "answer", "key": "b", "state": "label", "label": 1, "reason": "", "draw": {"of": 1}, "cells": {}}',
        '{"kind": "answer", "key": "b", "state": "gone", "label": 1, "reason": "", "draw": {"by": "r"}, "cells": {}}',
    ],
)  # fmt: skip
def test_a_damaged_journal_is_refused_and_left(tmp_path: Path, line: str) -> None:
    """By its own process, and by one of another rater."""
    out = tmp_path / "labels.csv"
    journal = opened(out)
    journal.put("a", said(1), CELLS, "now")
    journal.close()
    (path,) = journal_folder(out).glob("*.jsonl")
    path.write_text(path.read_text() + line + "\n")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"line \d is damaged"):
        opened(out)
    with pytest.raises(StoreError, match="cannot be read"):
        OtherJournal(path, SCALE, ["image"]).refresh()
    assert path.read_bytes() == before


def test_the_same_name_labels_once_at_a_time_and_others_beside_it(tmp_path: Path) -> None:
    """Each has a journal; names that differ in case alone too."""
    out = tmp_path / "labels.csv"
    ann, other = opened(out), opened(out, "Ann")
    with pytest.raises(StoreError, match="another run is writing it"):
        opened(out)
    other.put("a", said(2), CELLS, "now")
    (path,) = other_paths(out, "ann")
    reader = OtherJournal(path, SCALE, ["image"])
    reader.refresh()
    other.put("b", said(3), CELLS, "now")
    reader.refresh()
    assert (reader.rater, list(reader.answers.latest)) == ("Ann", ["a", "b"])
    ann.close()
    other.close()


def test_a_journal_of_another_task_is_refused(tmp_path: Path) -> None:
    """Other labels, by the same rater or by another."""
    out, other = tmp_path / "labels.csv", LabelSpace("Safe", "Unsafe")
    ann = opened(out)
    ann.put("a", said(3), CELLS, "now")
    ann.close()
    with pytest.raises(StoreError, match="differs in"):
        opened(out, labels=other)
    (path,) = other_paths(out, "ben")
    with pytest.raises(StoreError, match="ann was asked for other labels"):
        OtherJournal(path, other, ["image"]).refresh()


@pytest.mark.parametrize("name", ["", " ", "=1", "a\nb", "../x", "a/b", "<b>", "a" * 61, "-a", "ann ", "a,b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """As it becomes a cell and a part of messages."""
    with pytest.raises(BlpoError, match="is not a name"):
        check_rater(name)


@pytest.mark.parametrize("name", ["ann", "Ann Lee", "rater 2", "José", "o'neil", "a@b.org", "李"])
def test_names_of_people_are_taken(name: str) -> None:
    """In any script."""
    assert check_rater(name) == name
