"""Cells that no spreadsheet runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blpo_dspy.data.tables import read_table
from blpo_dspy.files import plain_cell, spreadsheet_cell, write_sheet


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-1e", "+", "-1-1"]
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    """Whatever opens a formula in one of the usual programs."""
    assert spreadsheet_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-3", "+1.5", "-.5", "-1e-3", "a=b", "", "photos/-1.jpg", -3, 2.5, True, None])
def test_numbers_and_other_values_stay_as_they_are(value: object) -> None:
    """A column of numbers below zero can still be added up."""
    assert spreadsheet_cell(value) == value


@given(st.text(alphabet="'=+-@\t1.a", max_size=6))
def test_a_cell_is_read_as_the_text_that_was_written(text: str) -> None:
    """Also one with apostrophes of its own."""
    written = spreadsheet_cell(text)
    assert isinstance(written, str)
    assert plain_cell(written) == text


def test_a_table_names_the_same_files_when_it_is_read_again(tmp_path: Path) -> None:
    """Whatever their names begin with; so do its columns."""
    names = ["=b.png", "-a.png", "@eaDir/c.png", "'=d.png", "'e.png", "-3"]
    write_sheet(tmp_path / "t.csv", [["image", "=x"], *([name, f"+{name}"] for name in names)])
    table = read_table(tmp_path / "t.csv", ["image"])
    assert table.columns == ("image", "=x")
    assert [row.values for row in table.rows] == [{"image": name, "=x": f"+{name}"} for name in names]
