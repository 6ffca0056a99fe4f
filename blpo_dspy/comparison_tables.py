"""A comparison as a table for the terminal, for a paper, and as a plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from blpo_dspy.comparison import Comparison, Row
from blpo_dspy.errors import BlpoError
from blpo_dspy.methods import METHODS
from blpo_dspy.statistics import mean_sd

_HEADINGS = (
    "method",
    "val macro-F1",
    "test macro-F1",
    "95 % interval",
    "test kappa",
    "vs none (p)",
    "calls",
    "images",
    "tokens",
    "seconds",
)


def summary(comparison: Comparison) -> list[tuple[str, ...]]:
    """Returns one line per method: mean ± sd over seeds, the interval of its first seed, errors in words."""
    names = list(dict.fromkeys(row.method for row in comparison.rows))
    return [_line(name, [row for row in comparison.rows if row.method == name]) for name in names]


def _line(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    done = [row for row in rows if not row.error]
    if not done:
        return (name, f"failed: {rows[0].error}", *[""] * (len(_HEADINGS) - 2))
    calls = "–" if done[0].calls is None else _mean([float(row.spent) for row in done], 0)
    return (
        name + (f" ({len(rows) - len(done)} of {len(rows)} failed)" if len(done) < len(rows) else ""),
        _mean([row.val["macro_f1"] for row in done if row.val], 2),
        _mean([row.test["macro_f1"] for row in done if row.test], 2),
        _interval(done[0]),
        _mean([row.test["kappa"] for row in done if row.test], 2),
        "; ".join(_against_none(row) for row in done),
        calls,
        _mean([float(row.images) for row in done], 0),
        _mean([float(row.tokens) for row in done], 0),
        _mean([row.seconds for row in done], 0),
    )


def _mean(values: Sequence[float | None], digits: int) -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "–"
    found = mean_sd(defined)
    spread = "" if found.sd is None or not found.sd else f" ± {found.sd:.{digits}f}"
    return f"{found.mean:.{digits}f}{spread}"


def _interval(row: Row) -> str:
    interval = (row.test or {}).get("intervals", {}).get("macro_f1")
    return "–" if interval is None else f"{interval['low']:.2f} to {interval['high']:.2f}"


def _against_none(row: Row) -> str:
    if row.paired is None or "macro_f1" not in row.paired["differences"]:
        return "–"
    return f"{row.paired['differences']['macro_f1']['change']:+.2f} ({row.paired['p_value']:.2g})"


def terminal_table(comparison: Comparison) -> Table:
    """Returns the table for a terminal."""
    table = Table(title=f"At most {comparison.about['max_calls']} LM calls each", title_justify="left")
    for position, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if position == 0 else "right", overflow="fold")
    for line in summary(comparison):
        table.add_row(*line)
    return table


def markdown(comparison: Comparison) -> str:
    """Returns the table in Markdown, with what each method is below it."""
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + "---|" * len(_HEADINGS)]
    for line in summary(comparison):
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in line)
        lines.append("| " + " | ".join(cells) + " |")
    seeds = sorted({row.seed for row in comparison.rows})
    about = [
        "",
        f"Mean ± sd over seeds {', '.join(map(str, seeds))}; the interval is of seed {seeds[0]}. Every method had at "
        f"most {comparison.about['max_calls']} LM calls. “vs none” is the difference in test macro-F1 to no optimization, "
        "seed by seed, with the p-value of the paired test of the losses.",
        "",
        *(f"- {name}: {METHODS[name].about}" for name in dict.fromkeys(row.method for row in comparison.rows)),
    ]
    return "\n".join([*lines, *about]) + "\n"


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Draws the best validation score so far against the LM calls spent, one line per method (its first seed).

    Raises:
        BlpoError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BlpoError("plots need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    first: dict[str, Row] = {}
    for row in comparison.rows:
        if row.curve:
            first.setdefault(row.method, row)
    styles = ("-", "--", "-.", ":")
    for position, (name, row) in enumerate(first.items()):
        spent, score = zip(*row.curve, strict=True)
        style = styles[position // 10 % len(styles)]
        axes.step([*spent, row.spent], [*score, score[-1]], where="post", label=name, linestyle=style, linewidth=1.8)
    axes.set_xlabel("LM calls spent")
    axes.set_ylabel("best validation score so far (1 − mean loss)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if first:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(Path(path), dpi=130)
