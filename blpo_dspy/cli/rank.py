"""`blpo rank`: models ranked by verdicts on pairs of their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blpo_dspy.agreement.bradley_terry import Ranked
from blpo_dspy.cli.screen import Screen, plain_table
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.predictions.ranking import rank


def rank_models(predictions: Path, labels: LabelSpace, columns: Sequence[str], seed: int, screen: Screen) -> None:
    """Prints the models of a table of verdicts, the strongest first."""
    ranking = rank(predictions, labels=labels, columns=columns, seed=seed)
    if screen.as_json:
        screen.json(ranking.to_dict())
        return
    head = ("model", "verdicts", "wins", "strength", "95% interval")
    screen.table(plain_table(head, map(_row, ranking.models), left=("model",)))
    screen.text()
    left = f"; {ranking.left_out:,} rows without a verdict left out" if ranking.left_out else ""
    screen.text(f"{ranking.verdicts:,} verdicts, {ranking.ties:,} of them ties, which count half a win each{left}")
    screen.text("strength: log-odds, 0 on average; a difference of 1 means winning 73% of the comparisons")


def _row(row: Ranked) -> tuple[str, ...]:
    ends = f"{row.interval.low:+.2f} to {row.interval.high:+.2f}"
    return row.model, f"{row.verdicts:,}", f"{row.wins:g}", f"{row.strength:+.2f}", ends
