"""The charts: what they show, that data stays text, and that they look alike for everyone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

import blpo_dspy.report
from blpo_dspy.report import charts
from blpo_dspy.report.charts import WIDTHS, Plane, Point, Series, dot_chart, line_chart, save_line_chart, scatter_chart

HOSTILE = "<script>alert(1)</script> $x^2$ \\frac \x00\x1b\ud800 &amp; \u65e5"
TWO = (
    Series(HOSTILE, (Point(0.5, (0.3, 0.6), f"start {HOSTILE}", 0, False), Point(0.7, None, "end", 300))),
    Series("other", (Point(0.6, None, "one", 250),), ((0, 0.4), (250, 0.6)), stepped=True),
)


def drawings(chart: str) -> list[ElementTree.Element]:
    """Each SVG of a chart as a tree."""
    return list(ElementTree.fromstring(f"<div>{chart}</div>"))


def numbers(text: str) -> list[float]:
    """All numbers in a text."""
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]


@pytest.mark.parametrize(("values", "spent"), [([0.5], [0]), ([-0.9, 1.0], [3, 100_000]), ([0.99, 0.999], [1, 2])])
def test_a_chart_stays_within_its_frame(values: list[float], spent: list[float]) -> None:
    """One point, negative figures and figures near 1, for a desk and for a phone; labels do not crowd."""
    points = tuple(Point(y, (y, y), "", x) for x, y in zip(spent, values, strict=True))
    series = [Series("m", points, tuple(zip(spent, values, strict=True)))]
    for chart in (line_chart(series, "F1"), dot_chart(series, "F1", 0.5)):
        shown = drawings(chart)
        assert [(svg.get("class"), svg.get("width")) for svg in shown] == [(n, str(w)) for n, w in WIDTHS.items()]
        for svg in shown:
            width, height = numbers(svg.get("viewBox", ""))[2:]
            assert (width, height) == (float(svg.get("width", "")), float(svg.get("height", "")))
            assert 4 <= len(list(svg.iter("text"))) <= 20
            for text in svg.iter("text"):
                assert 0 <= float(text.get("x", "")) <= width
                assert 0 <= float(text.get("y", "")) <= height
            for path in svg.iter("path"):
                moved = numbers(path.get("transform", "0 0"))
                at = numbers(path.get("d", ""))
                assert all(-1 <= x + moved[0] <= width + 1 for x in at[::2])
                assert all(-1 <= y + moved[1] <= height + 1 for y in at[1::2])


@pytest.mark.slow
def test_a_method_alone_is_drawn_on_an_axis_from_0_to_1() -> None:
    """With a line or without; several methods, and a negative figure, have an axis of their own."""

    def axis(*series: Series) -> list[str]:
        wide = drawings(line_chart(series, "agreement"))[0]
        return [text.text or "" for text in wide.iter("text") if re.fullmatch(r"[\d.]+", text.text or "")]

    line = Series("blpo", (Point(0.95, None, "", 300),), ((0, 0.9), (300, 0.95)), stepped=True)
    assert {"0.0", "0.2", "1.0"} <= set(axis(line))
    assert "1.0" not in axis(Series("", (Point(-0.25, None, "", 300),)))
    lone = Series("blpo", (Point(0.95, None, "", 300),), stepped=True)
    assert {"0.0", "0.2", "1.0"} <= set(axis(lone))
    assert "0.0" not in axis(lone, Series("opro", (Point(0.9, None, "", 300),)))


@pytest.mark.slow
def test_each_point_tells_its_figure_to_who_points_and_to_who_listens() -> None:
    """As a title and in the label of the drawing."""
    for chart in (line_chart(TWO, "accuracy"), dot_chart(TWO, "accuracy", None)):
        for svg in drawings(chart):
            assert svg.get("role") == "img"
            assert svg.get("aria-label", "").startswith("accuracy")
            assert svg.get("aria-label", "").endswith("; end; one")
            assert {title.text for title in svg.iter("title")} >= {"end", "one"}


def test_text_of_data_is_text() -> None:
    """No tag, no formula, nothing that XML cannot hold; a long name is cut."""
    plain = "<script>alert(1)</script> $x^2$ \\frac &amp; \u65e5"
    for chart in (line_chart(TWO, HOSTILE), dot_chart(TWO, HOSTILE, 0.4)):
        assert "<script" not in chart
        for svg in drawings(chart):
            assert f"start {plain}" in [title.text for title in svg.iter("title")]
            assert [text for text in svg.iter("text") if (text.text or "").endswith("<script>alert(1)</script> $…")]


@pytest.mark.slow
def test_a_chart_is_the_pages_own() -> None:
    """Every colour is one of the page's, and nothing in it has an id, an address, a font or a style sheet."""
    page = (Path(blpo_dspy.report.__file__).parent / "base.html").read_text()
    light, dark = (dict(re.findall(r"(--\w+): (#\w+)", part)) for part in page.split("@media", 1)[0:2])
    many = [Series(f"m{i}", (Point(i / 30, (0, 1), "", i),), ((0, 0), (i, i / 30))) for i in range(26)]
    for chart in (line_chart(many, "F1"), dot_chart(many, "F1", 0.5)):
        used = set(re.findall(r"var\((.*?)\)", chart))
        assert used <= set(light) & set(dark)
        assert not re.search(r"#|id=|href|url|http|font|<style|<defs|<metadata|DOCTYPE", chart)
    assert {c: light[name].replace("#fff", "#ffffff") for c, name in charts._VARIABLES.items()} == {
        c: c for c in charts._VARIABLES
    }


def test_the_legend_shows_what_is_drawn() -> None:
    """A dot where there is no line, a dot on a line where there is."""
    lines = {}
    for name, corners in (("dot", ()), ("line", ((0.0, 0.1), (5.0, 0.4)))):
        wide = drawings(line_chart([Series(name, (Point(0.4, None, "", 5),), corners)], "F1"))[0]
        strokes = [path for path in wide.iter("path") if "fill: none; stroke: var(--accent)" in path.get("style", "")]
        lines[name] = len([path for path in strokes if numbers(path.get("d", ""))])
    assert lines == {"dot": 0, "line": 2}


@pytest.mark.slow
def test_the_same_figures_make_the_same_bytes_whatever_a_user_set() -> None:
    """And what a user set stays as it was."""
    first = [line_chart(TWO, "F1"), dot_chart(TWO, "F1", 0.5)]
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert [line_chart(TWO, "F1"), dot_chart(TWO, "F1", 0.5)] == first
        assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_drawing_says_nothing_on_the_terminal_and_opens_no_window(tmp_path: Path) -> None:
    """Not even where matplotlib finds no place for its cache and no letter in its font; it is imported only then."""
    code = (
        "import sys, blpo_dspy.cli.aligning.compile, blpo_dspy.comparison.page as page\n"
        "import blpo_dspy.report.charts as c\n"
        "assert 'matplotlib' not in sys.modules\n"
        "c.dot_chart([c.Series('\\u65e5', (c.Point(0.5, None, ''),))], 'F1', None)\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    environment = {"PATH": "", "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "MPLCONFIGDIR": "/dev/null/none"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_picture_has_all_methods_and_none(tmp_path: Path) -> None:
    """Where there is no series there is an empty frame."""
    for series in ((), TWO):
        save_line_chart(series, "F1", tmp_path / "plot.png")
        assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_scatter_plot_shows_the_pairs_within_its_squares() -> None:
    """One square a judge, dots and band inside; of many pairs evenly picked ones, so that a page stays small."""
    planes = [Plane(f"before {HOSTILE}", ((0, 0), (100, 100), (32.5, 80))), Plane("after", ())]
    for drawing in drawings(scatter_chart(planes, 0, 100, 10, f"people {HOSTILE}")):
        width, height = numbers(drawing.get("viewBox", ""))[2:]
        assert "people" in drawing.get("aria-label", "")
        texts = ["".join(text.itertext()) for text in drawing.iter("text")]
        assert texts.count("People’s score") == texts.count("Judge’s score") == 2
        for path in drawing.iter("path"):
            if not path.get("transform"):
                xs, ys = numbers(path.get("d", ""))[::2], numbers(path.get("d", ""))[1::2]
                assert all(-1 <= x <= width + 1 for x in xs)
                assert all(-1 <= y <= height + 1 for y in ys)
    many = Plane("many", tuple((i / 50, i / 50) for i in range(5000)))
    assert len(scatter_chart([many], 0, 100, 10, "many")) < 400_000
