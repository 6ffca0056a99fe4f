"""`blpo rank`: models ranked by verdicts on pairs of their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from blpo_dspy.agreement.bradley_terry import Ranking
from blpo_dspy.cli.screen import Screen
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import shown
from blpo_dspy.predictions.ranking import rank


def rank_models(predictions: Path, labels: LabelSpace, columns: Sequence[str], seed: int, screen: Screen) -> None:
    """Prints the models of a table of verdicts, the strongest first."""
    ranking = rank(predictions, labels=labels, columns=columns, seed=seed)
    if screen.as_json:
        screen.json(ranking.to_dict())
        return
    screen.table(_table(ranking))
    screen.text()
    left = f"; {ranking.left_out:,} rows without a verdict left out" if ranking.left_out else ""
    screen.text(f"{ranking.verdicts:,} verdicts, {ranking.ties:,} of them ties, which count half a win each{left}")
    screen.text("strength: log-odds, 0 on average; a difference of 1 means winning 73% of the comparisons")


def _table(ranking: Ranking) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for name in ("verdicts", "wins", "strength", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in ranking.models:
        ends = f"{row.interval.low:+.2f} to {row.interval.high:+.2f}"
        table.add_row(Text(shown(row.model)), f"{row.verdicts:,}", f"{row.wins:g}", f"{row.strength:+.2f}", ends)
    return table
