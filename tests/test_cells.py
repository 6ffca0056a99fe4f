"""Cells that no spreadsheet runs."""

from __future__ import annotations

import pytest

from blpo_dspy.files import spreadsheet_cell


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
