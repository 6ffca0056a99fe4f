"""Models ranked by a table of verdicts on pairs of their images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blpo_dspy.agreement.bradley_terry import Comparison, Ranking, bradley_terry
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import read_table, require_columns
from blpo_dspy.errors import BlpoError, DataError, brief
from blpo_dspy.predictions.reading import LABEL, text_in

_INCONSISTENT = "inconsistent"


def rank(
    predictions: str | os.PathLike[str],
    *,
    labels: LabelSpace | None = None,
    columns: Sequence[str] = ("model_a", "model_b"),
    seed: int = 0,
) -> Ranking:
    """Returns the models of a table of verdicts on pairs, the strongest first, with bootstrap intervals.

    The table is one that `predict` wrote for a judge of pairs. A tie counts as half a win of each model, and so does a
    pair whose label changes with the order of its images. Rows without an answer, or with one that states no label, are
    left out and counted.

    Args:
        predictions: A .csv, .tsv, .jsonl or .parquet file with the column `label`.
        labels: The labels; A, B and tie if None.
        columns: The columns with the name of the model that made the first image, and that of the second.
        seed: The same seed gives the same intervals.

    Raises:
        DataError: If the table cannot be read or lacks a column, or naming all rows that cannot be used.
        BlpoError: If there is no verdict, the labels do not compare two images, or models were never compared with each
            other, directly or by way of others.
    """
    space = LabelSpace.pairwise(tie="tie") if labels is None else labels
    if not space.paired or len(columns) != 2:
        raise BlpoError("a ranking needs labels that compare two images, LabelSpace.pairwise(…), and two columns")
    table = read_table(predictions, [LABEL, _INCONSISTENT, *columns])
    advice = (
        "`blpo judge --out` keeps the columns of the table that it judges, so add the models' names there, or name "
        "their columns with columns="
    )
    require_columns(table.name, table.columns, (LABEL, *columns), advice, option="columns")
    found: list[Comparison] = []
    problems, left_out = list(table.problems), 0
    for row in table.rows:
        try:
            comparison = _comparison(row.values, space, columns)
        except BlpoError as error:
            problems.append(f"{row.where}: {error}")
            continue
        if comparison is None:
            left_out += 1
        else:
            found.append(comparison)
    if problems:
        raise DataError(f"{table.name}: {len(problems)} rows cannot be used; repair or remove them:", problems)
    if not found:
        raise BlpoError(f"{table.name}: none of its {len(table.rows)} rows has a verdict, so no model can be ranked")
    return replace(bradley_terry(found, seed=seed), left_out=left_out)


def _comparison(values: Mapping[str, Any], labels: LabelSpace, columns: Sequence[str]) -> Comparison | None:
    """The verdict of a row, None if it has none."""
    first, second = (text_in(values, name) for name in columns)
    if not first or not second:
        raise BlpoError(f"column {columns[bool(first)]!r} is empty; it names the model that made the image")
    if first == second:
        raise BlpoError(f"both images are by {brief(first)}; a comparison needs two models")
    if not text_in(values, LABEL):
        return Comparison(first, second, 0.5) if text_in(values, _INCONSISTENT).lower() == "true" else None
    return Comparison(first, second, (1.0, 0.0, 0.5)[labels.index(labels.coerce(values[LABEL]))])
