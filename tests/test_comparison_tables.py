"""The tables and the plot of a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from blpo_dspy.comparison import Comparison, Row
from blpo_dspy.comparison_tables import (
    HEADINGS,
    curves,
    failures,
    markdown,
    plot,
    summary,
    terminal_table,
    write_tables,
)
from blpo_dspy.errors import BlpoError

ABOUT = {
    "max_calls": 1600,
    "models": {role: {"model": "acme/one"} for role in ("judge", "verbalizer", "optimizer")},
}


def row(method: str, seed: int, f1: float | None, **options: Any) -> Row:
    """A finished row with the figures that a table shows."""
    figures = {"macro_f1": f1, "kappa": f1}
    interval = None if f1 is None else {"low": f1 - 0.1, "high": f1 + 0.1}
    test = {**figures, "intervals": {"macro_f1": interval}}
    calls = {"judge": 1500, "verbalizer": 10 * seed, "optimizer": 5, "cached": 99}
    paired = {"p_value": 0.031, "differences": {"macro_f1": {"change": 0.25}}}
    given = {
        "val": figures,
        "test": test,
        "calls": calls,
        "paired": paired,
        "seconds": 12.4,
        "tokens": 123456,
        **options,
    }
    return Row(method, seed, **given)


NONE = [row("none", seed, 0.25, calls=None, paired=None) for seed in (0, 1)]
BLPO = [
    row("blpo", 0, 0.5, curve=[[0.0, 0.5], [300.0, 0.75], [1505.0, 0.75]]),
    row("blpo", 1, 0.6, curve=[[0.0, 0.5], [600.0, 0.95], [1515.0, 0.95]], images=3),
]
FAILED = Row("gepa", 0, error="ValueError: a | b\nsecond line [bold]")


def test_a_line_has_mean_and_deviation_over_seeds_and_the_first_seeds_interval() -> None:
    """Calls without the cached ones, thousands apart; a dash where there is no figure."""
    none, blpo = summary(Comparison((*NONE, *BLPO), ABOUT))
    assert list(blpo) == list(HEADINGS)
    assert blpo["test macro-F1"] == "0.55 ± 0.07"
    assert blpo["95 % interval"] == "0.40–0.60"
    assert (blpo["vs none"], blpo["p"]) == ("+0.25", "0.031, 0.031")
    assert (blpo["calls"], blpo["tokens"], blpo["images"]) == ("1,510 ± 7", "123,456", "2 ± 2")
    assert (none["test macro-F1"], none["calls"], none["vs none"], none["p"]) == ("0.25", "–", "–", "–, –")


def test_an_undefined_statistic_is_a_dash() -> None:
    """A kappa of a constant judge, say."""
    (cells,) = summary(Comparison((row("blpo", 0, None),), ABOUT))
    assert (cells["test macro-F1"], cells["95 % interval"]) == ("–", "–")


def test_failures_are_said_in_the_table_and_in_full_below() -> None:
    """All runs of a method failed, or some of them."""
    (cells,) = summary(Comparison((FAILED,), ABOUT))
    assert cells["val macro-F1"] == "failed"
    mixed = Comparison((FAILED, row("gepa", 1, 0.5)), ABOUT)
    assert summary(mixed)[0]["method"] == "gepa (1 of 2 failed)"
    assert summary(mixed)[0]["test macro-F1"] == "0.50"
    assert failures(mixed) == ["gepa, seed 0, failed: ValueError: a | b\nsecond line [bold]"]


def test_markdown_is_one_table_whatever_an_error_holds() -> None:
    """Every line of the table has the same number of cells; the notes name models, cap and methods."""
    text = markdown(Comparison((*NONE, *BLPO, FAILED), ABOUT))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {len(HEADINGS) + 1}
    assert "at most 1,600 LM calls (judge acme/one" in text
    assert "- blpo: BLPO, the defaults" in text
    assert "- gepa, seed 0, failed: ValueError: a \\| b second line [bold]" in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(width: int) -> None:
    """Names, figures and headings unbroken from 80 columns on."""
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    named = [replace(one, method="judge-as-verbalizer") for one in BLPO]
    console.print(terminal_table(Comparison((*NONE, *named), ABOUT), width))
    shown = console.export_text()
    assert ("0.40–0.60" in shown) is (width == 120)
    assert "0.55 ± 0.07" in shown
    assert "…" not in shown
    assert len(shown.splitlines()) <= 6


def test_the_files_are_written_beside_the_results(tmp_path: Path) -> None:
    """A Markdown table and a picture."""
    comparison = Comparison((*NONE, *BLPO), ABOUT)
    files = write_tables(comparison, tmp_path)
    assert [file.name for file in files] == ["results.json", "table.md", "plot.png"]
    assert files[1].read_text() == markdown(comparison)
    with Image.open(files[2]) as image:
        assert min(image.size) > 500
    with pytest.raises(BlpoError, match="cannot be written"):
        write_tables(comparison, tmp_path / "missing")


def test_a_line_lasts_at_least_until_its_last_step() -> None:
    """The mean over seeds of the best so far, and where the programs returned stand; the best of them first."""
    late = row("opro", 0, 0.7, curve=[[0.0, 0.5], [900.0, 0.9], [1000.0, 0.96]])
    short = row("opro", 1, 0.7, curve=[[0.0, 0.7], [10.0, 0.96]])
    opro, blpo = curves(Comparison((*NONE, *BLPO, late, short), ABOUT))
    assert [(point.value, point.spent) for point in blpo.points] == [(pytest.approx(0.85), 1510)]
    assert blpo.corners == ((0, 0.5), (300, 0.625), (600, pytest.approx(0.85)), (1510, pytest.approx(0.85)))
    assert opro.points[0].spent == 505
    assert opro.corners[-1] == (900, pytest.approx(0.93))


def test_a_comparison_without_curves_still_has_a_plot(tmp_path: Path) -> None:
    """Where every method failed there is an empty one."""
    plot(Comparison((FAILED,), ABOUT), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_rows_survive_json() -> None:
    """What a table needs is in the file."""
    data = json.loads(json.dumps(Comparison(tuple(BLPO), ABOUT).to_dict()))
    read = Comparison(tuple(Row(**one) for one in data["rows"]), data["about"])
    assert markdown(read) == markdown(Comparison(tuple(BLPO), ABOUT))
    assert replace(read.rows[0], curve=()).spent == 1505
