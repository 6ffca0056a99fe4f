"""A comparison as a table for the terminal, for a paper, and as a plot."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from blpo_dspy.agreement.figures import main_words
from blpo_dspy.comparison.compare import Comparison
from blpo_dspy.comparison.figures import FAILED, method_cells, no_evidence, remarks
from blpo_dspy.comparison.methods import METHODS
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import RESULTS, replacing
from blpo_dspy.report.charts import Point, Series, save_line_chart

HEADINGS = (
    "method",
    "val macro-F1",
    "test macro-F1",
    "95 % interval",
    "test kappa",
    "vs none",
    "its interval",
    "p",
    "calls",
    "judge / verbalizer / optimizer",
    "images",
    "tokens",
    "LM seconds",
    "invalid",
    "failed",
)
# What a terminal has room for; the Markdown table has all.
_WIDE = ("method", "val macro-F1", "test macro-F1", "95 % interval", "test kappa", "vs none", "p", "calls")
_NARROW = ("method", "val macro-F1", "test macro-F1", "vs none", "p", "calls")
_COLUMNS_OF_WIDE = 106
TABLE, PLOT = "table.md", "plot.png"


def write_tables(comparison: Comparison, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes the Markdown table and the plot; returns all files of the comparison.

    Raises:
        BlpoError: If they cannot be written.
    """
    files = [Path(folder) / name for name in (RESULTS, TABLE, PLOT)]
    try:
        with replacing(files[1]) as table:
            table.write_text(markdown(comparison), encoding="utf-8")
        plot(comparison, files[2])
    except OSError as error:
        raise BlpoError(f"{folder}: the tables cannot be written ({error.strerror or error})") from error
    return files


def summary(comparison: Comparison) -> list[Mapping[str, str]]:
    """Returns for each method its cells by heading: mean ± sd over seeds, and what is said of the mean.

    The headings are those of `HEADINGS`, with the main figure of the labels (`main_figure`) instead of macro-F1.
    """
    names = dict.fromkeys(row.method for row in comparison.rows)
    headings = _titled(HEADINGS, comparison.labels)
    cells = [_cells(comparison, name) for name in names]
    return [{title: row[name] for title, name in zip(headings, HEADINGS, strict=True)} for row in cells]


def _cells(comparison: Comparison, name: str) -> dict[str, str]:
    found = method_cells(comparison, name)
    if found.vs.verdict == FAILED:
        return {**dict.fromkeys(HEADINGS, "–"), "method": name, "val macro-F1": FAILED}
    said = (found.vs.change, found.vs.interval or "–", found.vs.p)
    spent = (found.total, " / ".join(found.calls) or "–", found.images, found.tokens, found.lm_seconds)
    figures = (found.val, found.test, found.interval or "–", found.second)
    return dict(zip(HEADINGS, (found.name, *figures, *said, *spent, found.invalid, found.failed), strict=True))


def terminal_table(comparison: Comparison, width: int) -> Table:
    """Returns the table for a terminal of so many columns."""
    rows = summary(comparison)
    headings = _titled(_WIDE if width >= _COLUMNS_OF_WIDE else _NARROW, comparison.labels)
    headings += [name for name in ("invalid", "failed") if any(cells[name] not in ("0", "–") for cells in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown = heading.replace(" Spearman", "\nSpearman").replace(" mean", "\nmean").replace(" macro", "\nmacro")
        shown = shown.replace(" interval", "\ninterval").replace(" kappa", "\nkappa")
        left, one_line = heading == "method", heading != "p"
        table.add_column(
            Text(shown), justify="left" if left else "right", no_wrap=one_line, min_width=None if one_line else 6
        )
    for cells in rows:
        table.add_row(*(Text(cells[heading]) for heading in headings))
    return table


def _titled(headings: Sequence[str], labels: LabelSpace) -> list[str]:
    """Headings with the figures of such labels in their names."""
    kappa = "mean error" if labels.kind == "scores" else "kappa"
    return [name.replace("macro-F1", main_words(labels)).replace("kappa", kappa) for name in headings]


def markdown(comparison: Comparison) -> str:
    """Returns the table in Markdown, with how to read it, what each method is, and what to know of it below."""
    headings = _titled(HEADINGS, comparison.labels)
    lines = ["| " + " | ".join(headings) + " |", "|---" + "|---:" * (len(HEADINGS) - 1) + "|"]
    for cells in summary(comparison):
        shown = [_one_cell(cells["method"]), *(cells[heading] for heading in headings[1:])]
        lines.append("| " + " | ".join(shown) + " |")
    seeds = list(dict.fromkeys(row.seed for row in comparison.rows))
    models = _one_cell(", ".join(f"{role} {about['model']}" for role, about in comparison.about["models"].items()))
    names = dict.fromkeys(row.method for row in comparison.rows)
    about = [f"- {name}: {METHODS[name].about}" for name in names if name in METHODS]
    legend = " ".join(filter(None, [no_evidence(comparison), _how_to_read(comparison, seeds, models)]))
    return "\n".join([*lines, "", legend, "", *about, *(f"- {_one_cell(line)}" for line in remarks(comparison))]) + "\n"


def _how_to_read(comparison: Comparison, seeds: Sequence[int], models: str) -> str:
    several = f"Mean ± sd over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"Seed {seeds[0]}"
    return (
        f"Every search had at most {comparison.about['max_calls']:,} LM calls ({models}). {several}. “vs none” is the "
        f"difference in test {main_words(comparison.labels)} to no optimization; p is from the exact paired test of "
        "how far the labels of the test images are off, not corrected for the number of methods. Intervals and p are "
        "of the mean over seeds: each resample takes a test image with its answers of all seeds. “calls” are those of "
        "the search, “images” those sent to the optimizer LM; “LM seconds” are the time of the calls, parallel ones "
        "added up, whichever method paid for them. “invalid” answers without a label and “failed” calls are those of "
        "the final measurements; the latter are left out of all figures."
    )


def _one_cell(text: str) -> str:
    """A text of data on one line, neither HTML nor a column, link or picture of Markdown."""
    return re.sub(r"([\\|]|(?<=\])\()", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Draws validation agreement (1 − mean loss) against the LM calls spent, the mean over seeds for each method.

    A line is what the method itself knew: its best program on the whole validation set so far. The point is what it
    returned, measured afterwards; a method that scores no other program on all of the set has the point alone.

    Raises:
        OSError: If it cannot be written.
    """
    save_line_chart(curves(comparison), "validation agreement (at most 1) of the best program so far", Path(path))


def curves(comparison: Comparison) -> list[Series]:
    """Returns what `plot` shows of each method, the best end first."""
    found = []
    for name in dict.fromkeys(row.method for row in comparison.rows if row.curve):
        steps, (spent, score) = _mean_curve(comparison, name)
        corners = (*steps, (max(spent, steps[-1][0]), steps[-1][1])) if len({value for _, value in steps}) > 1 else ()
        end = Point(score, None, f"{name}: {score:.2f} after {spent:,.0f} calls", spent)
        found.append(Series(name, (end,), corners, stepped=True))
    return sorted(found, key=lambda one: -one.points[0].value)


def _mean_curve(comparison: Comparison, method: str) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Returns the mean over seeds of a method's steps (a run that has ended keeps its last value), and of its ends."""
    curves = [row.curve for row in comparison.rows if row.method == method and row.curve]
    spent = sorted({point[0] for curve in curves for point in curve[:-1]})
    steps = [(x, sum(_at(curve, x) for curve in curves) / len(curves)) for x in spent]
    end_spent, end_score = (sum(curve[-1][i] for curve in curves) / len(curves) for i in (0, 1))
    return steps, (end_spent, end_score)


def _at(curve: Sequence[Sequence[float]], spent: float) -> float:
    return [score for x, score in curve if x <= spent or x == curve[0][0]][-1]
