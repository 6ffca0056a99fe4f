"""Images of a judged collection drawn for people to label."""

from __future__ import annotations

import os
from pathlib import Path

from blpo_dspy.data.tables import Table, TableSource
from blpo_dspy.errors import BlpoError, DataError, counted
from blpo_dspy.population.design import Draw, draw
from blpo_dspy.predictions.files import check_target, write_rows
from blpo_dspy.predictions.reading import (
    ADDED,
    CHANCE,
    LABEL,
    STRATUM,
    key_of,
    repeated,
    space_of,
    text_in,
    verdicts_in,
    whole_table,
)


def draw_to_label(predictions: TableSource, *, n: int, out: str | os.PathLike[str], seed: int = 0) -> Draw:
    """Draws images of a judged collection for people to label, and writes them to a table.

    The draw is stratified by the judge's label and, where the table has it, by its confidence. The table has the
    columns of the predictions but for those that the judge added, so that nobody is led by its verdict, then `label`,
    which is empty, `inclusion_probability` and `stratum`. Keep all of its rows: one without a label says that an image
    was drawn.

    Args:
        predictions: The table that `predict` wrote.
        n: How many images are drawn.
        out: The table to label, a .csv, .jsonl or .parquet file that is not there yet. Paths of images stay as they are
            in the predictions, so it belongs in the folder, or next to the table, that was judged.
        seed: The same seed gives the same draw.

    Returns:
        The draw, with its strata.

    Raises:
        DataError: If the predictions cannot be read, naming all rows that cannot be used; an image that is there twice
            could not be distinguished from itself in the labels.
        BlpoError: If n is too large or too small, or the file is there already or cannot be written.
    """
    target = Path(out)
    check_target(target)
    if target.exists():
        raise BlpoError(
            f"{target}: there is such a file already, which may hold labels; name another one", option="out"
        )
    table = whole_table(predictions)
    found, names = _strata(table)
    drawn = draw(names, found, n, seed=seed)
    columns = [name for name in table.columns if name not in (*ADDED, CHANCE, STRATUM)]
    if not columns:
        raise BlpoError(f"{table.name}: no column says which image a verdict is about; keep the column of the images")
    if twice := repeated([row.where for row in table.rows], [key_of(row.values, columns) for row in table.rows]):
        raise DataError(f"{table.name}: {counted(len(twice), 'row')} cannot be used; repair or remove them:", twice)
    rows = []
    for position, at in drawn.chosen:
        values = table.rows[position].values
        kept = {name: values.get(name) for name in columns}
        rows.append({**kept, LABEL: None, CHANCE: drawn.strata[at].chance, STRATUM: str(at + 1)})
    types = {LABEL: str, CHANCE: float, STRATUM: str}
    write_rows(target, [*columns, *types], lambda: iter(rows), types)
    return drawn


def _strata(table: Table) -> tuple[list[float | None], list[str]]:
    """The confidence of each verdict, and the name of its label or bin of scores."""
    given = {text for row in table.rows if (text := text_in(row.values, LABEL))}
    if LABEL in table.columns and len(given) < 2:  # no label space is needed for a single one
        return [None] * len(table.rows), [text_in(row.values, LABEL) for row in table.rows]
    space = space_of((table, LABEL))
    verdicts = verdicts_in(table, space)
    labelled = [label for label in verdicts.labels if label is not None]
    bins = iter(space.strata(labelled)[1])
    names = ["" if label is None else str(next(bins)) for label in verdicts.labels]
    return list(verdicts.confidence), names
