"""Likely label errors and their table."""

from __future__ import annotations

import csv

import dspy
import pytest

from blpo_dspy.errors import BlpoError
from blpo_dspy.label_errors import likely_label_errors, write_label_errors
from blpo_dspy.labelling import Verdict
from blpo_dspy.labels import LabelSpace

SCALE = LabelSpace.ordinal(1, 5)


def found(*rows: tuple[int, list[int | None]], **options: float) -> list[tuple[str, int | str, float]]:
    """Id, judged label and stability of the likely errors among examples with such labels and answers."""
    examples = [dspy.Example(id=f"e{i}", label=label) for i, (label, _) in enumerate(rows)]
    verdicts = [[Verdict(label, description="seen") for label in answers] for _, answers in rows]
    return [(e.id, e.judged, e.stability) for e in likely_label_errors(SCALE, examples, verdicts, **options)]


def test_the_farthest_labels_come_first_and_right_ones_not_at_all() -> None:
    """A near miss is likelier a matter of taste."""
    assert found((3, [4, 4]), (1, [5, 5]), (2, [2, 2])) == [("e1", 5, 1.0), ("e0", 4, 1.0)]


def test_an_unstable_answer_is_no_evidence() -> None:
    """Unless less is asked for."""
    rows = ((1, [5, 5, 4]), (1, [None, None, 5]), (1, []))
    assert found(*rows) == []
    assert found(*rows, min_stability=0.6) == [("e0", 5, pytest.approx(2 / 3))]


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
