"""A comparison as a table for the terminal, for a paper, and as a plot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from blpo_dspy.comparison import RESULTS, Comparison, Row
from blpo_dspy.errors import BlpoError
from blpo_dspy.methods import METHODS
from blpo_dspy.report.charts import Point, Series, save_line_chart
from blpo_dspy.statistics import mean_sd

HEADINGS = (
    "method",
    "val macro-F1",
    "test macro-F1",
    "95 % interval",
    "test kappa",
    "vs none",
    "p",
    "calls",
    "images",
    "tokens",
    "seconds",
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
        files[1].write_text(markdown(comparison), encoding="utf-8")
        plot(comparison, files[2])
    except OSError as error:
        raise BlpoError(f"{folder}: the tables cannot be written ({error.strerror or error})") from error
    return files


def summary(comparison: Comparison) -> list[Mapping[str, str]]:
    """Returns for each method its cells by heading: mean ± sd over seeds, the interval of its first seed."""
    names = dict.fromkeys(row.method for row in comparison.rows)
    return [_cells(name, [row for row in comparison.rows if row.method == name]) for name in names]


def failures(comparison: Comparison) -> list[str]:
    """Returns one line for each run that failed."""
    return [f"{row.method}, seed {row.seed}, failed: {row.error}" for row in comparison.rows if row.error]


def _cells(name: str, rows: Sequence[Row]) -> dict[str, str]:
    done = [row for row in rows if not row.error]
    failed = len(rows) - len(done)
    if not done:
        return {**dict.fromkeys(HEADINGS, "–"), "method": name, "val macro-F1": "failed"}
    searched = [row for row in done if row.calls is not None]
    return {
        "method": name + (f" ({failed} of {len(rows)} failed)" if failed else ""),
        "val macro-F1": _mean([_figure(row.val, "macro_f1") for row in done], 2),
        "test macro-F1": _mean([_figure(row.test, "macro_f1") for row in done], 2),
        "95 % interval": _interval(done[0]),
        "test kappa": _mean([_figure(row.test, "kappa") for row in done], 2),
        "vs none": _mean([_change(row) for row in done], 2, sign="+"),
        "p": ", ".join("–" if row.paired is None else f"{row.paired['p_value']:.2g}" for row in done),
        "calls": _mean([float(row.spent) for row in searched], 0),
        "images": _mean([float(row.images) for row in searched], 0),
        "tokens": _mean([float(row.tokens) for row in searched], 0),
        "seconds": _mean([row.seconds for row in searched], 0),
    }


def _figure(data: Mapping[str, Any] | None, name: str) -> float | None:
    return None if data is None else data[name]


def _change(row: Row) -> float | None:
    difference = None if row.paired is None else row.paired["differences"].get("macro_f1")
    return None if difference is None else float(difference["change"])


def _mean(values: Sequence[float | None], digits: int, sign: str = "") -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "–"
    found = mean_sd(defined)
    spread = f"{found.sd:.{digits}f}" if found.sd else ""
    return f"{found.mean:{sign},.{digits}f}" + (f" ± {spread}" if float(spread or 0) else "")


def _interval(row: Row) -> str:
    interval = (row.test or {}).get("intervals", {}).get("macro_f1")
    return "–" if interval is None else f"{interval['low']:.2f}–{interval['high']:.2f}"


def terminal_table(comparison: Comparison, width: int) -> Table:
    """Returns the table for a terminal of so many columns."""
    headings = _WIDE if width >= _COLUMNS_OF_WIDE else _NARROW
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        shown = heading.replace(" macro", "\nmacro").replace(" interval", "\ninterval").replace(" kappa", "\nkappa")
        left, one_line = heading == "method", heading != "p"
        table.add_column(
            Text(shown), justify="left" if left else "right", no_wrap=one_line, min_width=None if one_line else 6
        )
    for cells in summary(comparison):
        table.add_row(*(Text(cells[heading]) for heading in headings))
    return table


def markdown(comparison: Comparison) -> str:
    """Returns the table in Markdown, with how to read it, what each method is, and what failed below it."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * (len(HEADINGS) - 1) + "|"]
    for cells in summary(comparison):
        lines.append("| " + " | ".join(_one_cell(cells[heading]) for heading in HEADINGS) + " |")
    seeds = list(dict.fromkeys(row.seed for row in comparison.rows))
    models = ", ".join(f"{role} {about['model']}" for role, about in comparison.about["models"].items())
    notes = [
        "",
        f"Every search had at most {comparison.about['max_calls']:,} LM calls ({models}). Mean ± sd over "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}; the interval is of seed {seeds[0]}. "
        "“vs none” is the difference in test macro-F1 to no optimization; p is from the paired test of the losses on "
        "the test images, one per seed, not corrected for the number of methods. “calls” are those of the search, "
        "“images” those sent to the optimizer LM.",
        "",
        *(
            f"- {name}: {METHODS[name].about}"
            for name in dict.fromkeys(row.method for row in comparison.rows)
            if name in METHODS
        ),
        *(f"- {_one_cell(line)}" for line in failures(comparison)),
    ]
    return "\n".join([*lines, *notes]) + "\n"


def _one_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Draws validation agreement (1 − mean loss) against the LM calls spent, the mean over seeds for each method.

    A line is what the method itself knew: its best program on the whole validation set so far. The point is what it
    returned, measured afterwards; a method that validates nothing on the way has the point alone.

    Raises:
        OSError: If it cannot be written.
    """
    save_line_chart(curves(comparison), "validation agreement (1 − mean loss) of the best program so far", Path(path))


def curves(comparison: Comparison) -> list[Series]:
    """Returns what `plot` shows of each method, the best end first."""
    found = []
    for name in dict.fromkeys(row.method for row in comparison.rows if row.curve):
        steps, (spent, score) = _mean_curve(comparison, name)
        corners = (*steps, (max(spent, steps[-1][0]), steps[-1][1])) if len(steps) > 1 else ()
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
