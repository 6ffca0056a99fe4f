"""What raters said: what is kept, what a later process finds, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from label_pages import SCALE

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.journal import (
    CANNOT_TELL,
    LABELLED,
    Answer,
    Draw,
    RaterJournal,
    check_rater,
)
from blpo_dspy.workspace.store import StoreError

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


def test_labels_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    """Their folder is named, with what to do, and no store is made."""
    out = tmp_path / "labels.csv"
    (tmp_path / "labels.csv.journal").mkdir()
    with pytest.raises(StoreError, match=r"labels\.csv\.journal: was written by an earlier version.* another --out"):
        opened(out)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv.journal"]


def test_the_same_name_labels_once_at_a_time_and_others_beside_it(tmp_path: Path) -> None:
    """Names that differ in case alone are two, and each sees what the other says meanwhile."""
    out = tmp_path / "labels.csv"
    ann, other = opened(out), opened(out, "Ann")
    with pytest.raises(StoreError, match=r"another process labels labels\.csv as ann"):
        opened(out)
    other.put("a", said(2), CELLS, "now")
    (reader,) = ann.others(out)
    reader.refresh(["image"])
    other.put("b", said(3), CELLS, "now")
    reader.refresh(["image"])
    assert (reader.rater, list(reader.answers.latest)) == ("Ann", ["a", "b"])
    ann.close()
    other.close()


@pytest.mark.slow
def test_of_many_that_begin_at_once_under_a_name_one_labels(tmp_path: Path) -> None:
    """The others are refused, however close they are."""
    barrier = threading.Barrier(8)

    def begin(_: int) -> RaterJournal | None:
        barrier.wait()
        try:
            return opened(tmp_path / "labels.csv")
        except StoreError:
            return None

    for _ in range(40):
        with ThreadPoolExecutor(8) as pool:
            begun = [journal for journal in pool.map(begin, range(8)) if journal is not None]
        assert len(begun) == 1
        begun[0].close()


def test_tables_of_one_folder_have_raters_of_their_own(tmp_path: Path) -> None:
    """Though they share its store."""
    first, second = opened(tmp_path / "labels.csv"), opened(tmp_path / "other.csv")
    first.put("a", said(2), CELLS, "now")
    assert (second.answers.latest, second.others(tmp_path / "other.csv")) == ({}, [])
    first.close()
    second.close()


def test_labels_of_another_task_are_refused(tmp_path: Path) -> None:
    """Other labels, by the same rater or by another."""
    out, other = tmp_path / "labels.csv", LabelSpace("Safe", "Unsafe")
    ann = opened(out)
    ann.put("a", said(3), CELLS, "now")
    ann.close()
    with pytest.raises(StoreError, match="differs in"):
        opened(out, labels=other)
    ben = opened(out, "ben", other)
    (reader,) = ben.others(out)
    with pytest.raises(StoreError, match="ann was asked for other labels"):
        reader.refresh(["image"])
    ben.close()


@pytest.mark.parametrize("name", ["", " ", "=1", "a\nb", "../x", "a/b", "<b>", "a" * 61, "-a", "ann ", "a,b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """As it becomes a cell and a part of messages."""
    with pytest.raises(BlpoError, match="is not a name"):
        check_rater(name)


@pytest.mark.parametrize("name", ["ann", "Ann Lee", "rater 2", "José", "o'neil", "a@b.org", "李"])
def test_names_of_people_are_taken(name: str) -> None:
    """In any script."""
    assert check_rater(name) == name
