"""The tables and the plot of a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.figures import remarks
from blpo_dspy.comparison.rows import ComparisonRow
from blpo_dspy.comparison.tables import HEADINGS, curves, markdown, plot, summary, terminal_table, write_tables
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError

SAFETY = LabelSpace("Safe", "Unsafe")
TRUTH = ["Safe", "Unsafe"] * 20
ABOUT = {
    "max_calls": 1600,
    "student": {"labels": SAFETY.to_dict()},
    "models": {role: {"model": "acme/one"} for role in ("judge", "verbalizer", "optimizer")},
}


def comparison(*rows: ComparisonRow, about: dict[str, Any] | None = None) -> Comparison:
    """A comparison of these rows."""
    return Comparison(rows, about or ABOUT, TRUTH)


def row(method: str, seed: int, f1: float | None, **options: Any) -> ComparisonRow:
    """A finished row with the figures that a table shows; the judge is right about the first share `f1` of images."""
    figures = {"macro_f1": f1, "kappa": f1, "invalid": 0, "failed": 0}
    calls = {"judge": 1500, "verbalizer": 10 * seed, "optimizer": 5, "cached": 99}
    right = round((f1 or 0) * len(TRUTH))
    given = {
        "val": figures,
        "test": {**figures, "intervals": {"macro_f1": None}},
        "calls": calls,
        "lm_seconds": 1234.5,
        "tokens": 123456 + 2000 * seed,
        "capped": True,
        "predicted": [t if i < right else {"Safe": "Unsafe", "Unsafe": "Safe"}[t] for i, t in enumerate(TRUTH)],
        **options,
    }
    return ComparisonRow(method, seed, **given)


NONE = [row("none", seed, 0.25, calls=None) for seed in (0, 1)]
BLPO = [
    row("blpo", 0, 0.5, curve=[[0.0, 0.5], [300.0, 0.75], [1505.0, 0.75]]),
    row("blpo", 1, 0.6, curve=[[0.0, 0.5], [600.0, 0.95], [1515.0, 0.95]], images=3),
]
FAILED = ComparisonRow("gepa", 0, error="ValueError: a | b\nsecond line [bold]")


def test_a_line_has_mean_and_deviation_over_seeds_and_what_is_said_of_the_mean() -> None:
    """One interval, difference and p for all seeds; calls without the cached ones, thousands apart."""
    none, blpo = summary(comparison(*NONE, *BLPO))
    assert list(blpo) == list(HEADINGS)
    assert blpo["test macro-F1"] == "0.55 ± 0.07"
    low, high = map(float, blpo["95 % interval"].split(" to "))
    assert 0.35 < low < 0.55 < high < 0.75
    assert blpo["vs none"] == "+0.30"
    low, high = map(float, blpo["its interval"].split(" to "))
    assert 0.1 < low < 0.3 < high < 0.5
    assert blpo["p"] == "< 0.001"
    assert (blpo["calls"], blpo["tokens"], blpo["images"]) == ("1,510 ± 7", "124,456 ± 1,414", "2 ± 2")
    assert (blpo["judge / verbalizer / optimizer"], blpo["LM seconds"]) == ("1,500 / 5 / 5", "1,234")
    assert (none["test macro-F1"], none["calls"], none["vs none"], none["p"]) == ("0.25", "–", "–", "–")


def test_an_undefined_statistic_is_a_dash() -> None:
    """A kappa of a constant judge, say."""
    one = row("blpo", 0, None)
    (cells,) = summary(comparison(one))
    assert (cells["test macro-F1"], cells["vs none"]) == ("–", "–")


def test_names_in_the_markdown_are_neither_html_nor_links() -> None:
    """A method and a model of any name, and what an error says; our own figures stay as they are."""
    hostile = "<script>alert(1)</script> [x](javascript:y) ![z](//host/z.png)"
    models = {role: {"model": hostile} for role in ABOUT["models"]}
    lines = (*NONE, row(hostile, 0, 0.5), *BLPO, ComparisonRow("gepa", 0, error=hostile))
    text = markdown(comparison(*lines, about={**ABOUT, "models": models}))
    assert "<script" not in text
    assert "](" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 5
    assert "| < 0.001 |" in text


def test_failures_are_said_in_the_table_and_in_full_below() -> None:
    """All runs of a method failed, or some of them."""
    (cells,) = summary(comparison(FAILED))
    assert cells["val macro-F1"] == "failed"
    mixed = comparison(FAILED, row("gepa", 1, 0.5))
    assert summary(mixed)[0]["method"] == "gepa (1 of 2 failed)"
    assert summary(mixed)[0]["test macro-F1"] == "0.50"
    assert remarks(mixed) == ["gepa, seed 0, failed: ValueError: a | b\nsecond line [bold]"]


def test_answers_that_are_none_are_counted_and_told_of() -> None:
    """Invalid ones, and calls that failed, of both sets; a terminal shows the columns only where there are any."""
    lost = row("gepa", 0, 0.5, failed=[3], outages=1)
    figures = {"macro_f1": 0.5, "kappa": 0.5, "invalid": 2, "failed": 1}
    lost = replace(lost, test={**figures, "intervals": {}}, val=figures)
    with_lost = comparison(*NONE[:1], lost)
    assert [(cells["invalid"], cells["failed"]) for cells in summary(with_lost)] == [("0", "0"), ("4", "2")]
    assert remarks(with_lost) == [
        "gepa, seed 0: 2 calls of the final measurements failed; repeat the command to retry them"
    ]
    shown = [column.header.plain for column in terminal_table(with_lost, 80).columns]
    assert shown[-2:] == ["invalid", "failed"]
    assert "failed" not in [column.header.plain for column in terminal_table(comparison(*NONE), 80).columns]


def test_a_search_that_ended_before_the_cap_is_marked() -> None:
    """In the calls, with the reason below."""
    early = comparison(*NONE, BLPO[0], replace(BLPO[1], capped=False))
    assert summary(early)[1]["calls"] == "1,510 ± 7†"
    assert remarks(early) == ["† ended by itself before the cap"]
    assert remarks(comparison(*NONE, *BLPO)) == []


def test_the_offline_engine_is_said_to_be_no_evidence() -> None:
    """In the Markdown table, if any model is it."""
    models = {**ABOUT["models"], "judge": {"model": "embedded/1?seed=0"}}
    assert "no evidence about real models" in markdown(comparison(*NONE, about={**ABOUT, "models": models}))
    assert "no evidence" not in markdown(comparison(*NONE))


def test_markdown_is_one_table_whatever_an_error_holds() -> None:
    """Every line of the table has the same number of cells; the notes name models, cap and methods."""
    text = markdown(comparison(*NONE, *BLPO, FAILED))
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
    console.print(terminal_table(comparison(*NONE, *named), width))
    shown = console.export_text()
    assert (" to " in shown) is (width == 120)
    assert "0.55 ± 0.07" in shown
    assert "…" not in shown
    assert len(shown.splitlines()) <= 6


@pytest.mark.slow
def test_the_files_are_written_beside_the_results(tmp_path: Path) -> None:
    """A Markdown table and a picture."""
    found = comparison(*NONE, *BLPO)
    files = write_tables(found, tmp_path)
    assert [file.name for file in files] == ["results.json", "table.md", "plot.png"]
    assert files[1].read_text() == markdown(found)
    with Image.open(files[2]) as image:
        assert min(image.size) > 500
    with pytest.raises(BlpoError, match="cannot be written"):
        write_tables(found, tmp_path / "missing")


def test_a_line_lasts_at_least_until_its_last_step() -> None:
    """The mean over seeds of the best so far, and where the programs returned stand; the best of them first."""
    late = row("opro", 0, 0.7, curve=[[0.0, 0.5], [900.0, 0.9], [1000.0, 0.96]])
    short = row("opro", 1, 0.7, curve=[[0.0, 0.7], [10.0, 0.96]])
    opro, blpo = curves(comparison(*NONE, *BLPO, late, short))
    assert [(point.value, point.spent) for point in blpo.points] == [(pytest.approx(0.85), 1510)]
    assert blpo.corners == ((0, 0.5), (300, 0.625), (600, pytest.approx(0.85)), (1510, pytest.approx(0.85)))
    assert opro.points[0].spent == 505
    assert opro.corners[-1] == (900, pytest.approx(0.93))


def test_a_method_that_knew_of_nothing_but_the_start_has_no_line() -> None:
    """It would be a flat one, over those of all the others."""
    (one,) = curves(comparison(row("textgrad", 0, 0.7, curve=[[0.0, 0.5], [300.0, 0.5], [1505.0, 0.75]])))
    assert one.corners == ()


@pytest.mark.slow
def test_a_comparison_without_curves_still_has_a_plot(tmp_path: Path) -> None:
    """Where every method failed there is an empty one."""
    plot(comparison(FAILED), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_rows_survive_json() -> None:
    """What a table needs is in the file."""
    data = json.loads(json.dumps(comparison(*BLPO).to_dict()))
    read = Comparison(tuple(ComparisonRow(**one) for one in data["rows"]), data["about"], data["truth"])
    assert markdown(read) == markdown(comparison(*BLPO))
    assert replace(read.rows[0], curve=()).spent == 1505
