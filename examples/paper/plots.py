"""The plots: methods next to one another, and the sweeps of Fig. 4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.methods import AXES, Sizes
from paper.published import MAIN
from paper.tables import Result, figure, point


def plot_methods(results: Sequence[Result], path: Path, title: str) -> None:
    """Draws the macro-F1 of every method on every dataset, with the standard deviation over seeds and the paper's."""
    drawing = Figure(figsize=(max(6.4, 3.1 * len(results)), 4.2), layout="constrained")
    panels = drawing.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for panel, result in zip(panels, results, strict=True):
        names = list(dict.fromkeys(row.method for row in result.main.rows))
        for position, name in enumerate(names):
            found = figure(result, name, "macro_f1")
            if found is not None:
                colour = "C0" if name == "blpo" else "0.65"
                panel.bar(position, found.mean, yerr=found.sd, color=colour, width=0.7, capsize=3)
        published = MAIN.get(result.data.name, {})
        known = [(position, published[name][0]) for position, name in enumerate(names) if name in published]
        if known:
            panel.plot(*zip(*known, strict=True), "D", color="C3", markersize=5, label="paper", linestyle="none")
            panel.legend(loc="upper left", frameon=False)
        panel.set_title(result.data.name, fontsize=10)
        panel.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        panel.set_ylim(0, 1)
        _plain(panel)
    panels[0].set_ylabel(_measured(results))
    drawing.suptitle(title, fontsize=9)
    drawing.savefig(path, dpi=130)


def plot_sweeps(results: Sequence[Result], sizes: Sizes, path: Path, title: str) -> None:
    """Draws the macro-F1 over batch size, inner steps and rounds, one line for each dataset, the band one sd wide."""
    drawing = Figure(figsize=(11, 3.9), layout="constrained")
    panels = drawing.subplots(1, len(AXES), sharey=True)
    for panel, (option, (symbol, meaning)) in zip(panels, AXES.items(), strict=True):
        for result in results:
            values = sizes.sweeps[option]
            found = [(value, figure(result, point(sizes, option, value), "macro_f1")) for value in values]
            line = [(value, at.mean, at.sd or 0.0) for value, at in found if at is not None]
            if line:
                x, y, sd = zip(*line, strict=True)
                (drawn,) = panel.plot(x, y, marker="o", markersize=4, label=result.data.name)
                low, high = ([a + sign * b for a, b in zip(y, sd, strict=True)] for sign in (-1, 1))
                panel.fill_between(x, low, high, color=drawn.get_color(), alpha=0.12, linewidth=0)
        panel.set_xticks(list(sizes.sweeps[option]))
        panel.set_xlabel(f"{symbol}, {meaning}")
        _plain(panel)
    panels[0].set(ylabel=_measured(results), ylim=(0, 1))
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    drawing.suptitle(title, fontsize=9)
    drawing.savefig(path, dpi=130)


def _measured(results: Sequence[Result]) -> str:
    seeds = len({row.seed for result in results for row in result.main.rows})
    return f"macro-F1 on the test half, {'1 seed' if seeds == 1 else f'mean ± sd of {seeds} seeds'}"


def _plain(panel: Axes) -> None:
    panel.grid(alpha=0.25, axis="y")
    panel.spines[["top", "right"]].set_visible(False)
