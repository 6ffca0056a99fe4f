"""Likely label errors and their table."""

from __future__ import annotations

import csv

import dspy
import pytest

from blpo_dspy.agreement.label_errors import likely_label_errors, write_label_errors
from blpo_dspy.agreement.verdicts import Verdict
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

SCALE = LabelSpace.ordinal(1, 5)


def found(*rows: tuple[int, list[int | None]], **options: float) -> list[tuple[str, int | str, float]]:
    """Id, judged label and stability of the likely errors among examples with such labels and answers."""
    examples = [dspy.Example(id=f"e{i}", label=label) for i, (label, _) in enumerate(rows)]
    verdicts = [[Verdict(label, description="seen") for label in answers] for _, answers in rows]
    return [(e.id, e.judged, e.stability) for e in likely_label_errors(SCALE, examples, verdicts, **options)]


def test_the_farthest_labels_come_first_and_right_ones_not_at_all() -> None:
    """Of equally far ones the stablest."""
    rows = ((3, [5, 5, 4]), (3, [5, 5]), (1, [5, 5]), (2, [2, 2]))
    assert found(*rows) == [("e2", 5, 1.0), ("e1", 5, 1.0), ("e0", 5, pytest.approx(2 / 3))]


def test_a_label_next_to_the_judges_on_a_long_scale_is_a_matter_of_taste() -> None:
    """On three levels it is half the scale, and of names none is nearer than another."""
    verdicts = [[Verdict(2)]]
    for labels, count in ((SCALE, 0), (LabelSpace.ordinal(1, 4), 0), (LabelSpace.ordinal(1, 3), 1)):
        assert len(likely_label_errors(labels, [dspy.Example(id="a", label=1)], verdicts)) == count
    assert likely_label_errors(LabelSpace(1, 2, 3, 4), [dspy.Example(id="a", label=1)], verdicts)


def test_an_unstable_answer_is_no_evidence() -> None:
    """Most of what the judge said before must be what it says in the end, which is not the human label."""
    rows = ((1, [5, 5, 4]), (1, [5, 4, 4]), (1, [None, 5, 5]), (1, [1, 5, 5]), (1, []))
    assert found(*rows) == [("e0", 5, pytest.approx(2 / 3))]
    assert found(*rows, min_stability=1) == []


def test_failed_calls_do_not_count() -> None:
    """Neither for nor against."""
    verdicts = [[Verdict(5), Verdict(None, failure="timeout")]]
    (error,) = likely_label_errors(SCALE, [dspy.Example(id="a", label=1)], verdicts)
    assert error.stability == 1.0


def test_the_table_runs_no_formula(tmp_path) -> None:
    """What a model wrote is text in a spreadsheet too."""
    verdicts = [[Verdict(5, description='=HYPERLINK("http://evil")', reasoning="sharp, clear\nand bright")]]
    errors = likely_label_errors(SCALE, [dspy.Example(id="a.png", label=1)], verdicts)
    write_label_errors(tmp_path / "errors.csv", errors)
    with (tmp_path / "errors.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["description"] == '\'=HYPERLINK("http://evil")'
    assert (row["id"], row["label"], row["judged"], row["new_label"]) == ("a.png", "1", "5", "")
    assert row["reasoning"] == "sharp, clear\nand bright"


def test_a_folder_that_is_not_there_is_named(tmp_path) -> None:
    """No traceback."""
    with pytest.raises(BlpoError, match="cannot be written"):
        write_label_errors(tmp_path / "none" / "errors.csv", [])


def test_a_score_is_doubtful_beyond_twice_the_tolerance() -> None:
    """And stable if the judge's answers are within the tolerance of each other."""
    labels = LabelSpace.scores(0, 100)
    answers = {"near": [58, 58], "far": [75, 70.5, 68], "unstable": [90, 40, 30], "right": [50]}
    examples = [dspy.Example(id=name, label=40) for name in answers]
    verdicts = [[Verdict(score) for score in scores] for scores in answers.values()]
    (error,) = likely_label_errors(labels, examples, verdicts)
    assert (error.id, error.judged, error.stability) == ("far", 75, 1.0)
