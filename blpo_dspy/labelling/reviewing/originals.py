"""The rows that a run was made of: found again in its tables, and written once more with the labels of a review."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.data.examples import read_rows
from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.images.prepare import ImageSource
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.ratings import combine_raters, ratings_from_rows
from blpo_dspy.data.rows import Draft, TableColumns
from blpo_dspy.errors import BlpoError, DataError, brief
from blpo_dspy.files import spreadsheet_cell
from blpo_dspy.labelling.items import path_cell
from blpo_dspy.labelling.table import write_csv
from blpo_dspy.report.run.to_review import ReviewData, ReviewTables

SPLITS = ("train", "val", "test")
RELABELLED = "relabelled"
_LABEL, _GROUP, _REASON = "label", "group", "reason"


@dataclass(frozen=True)
class Row:
    """A row of a run.

    Attributes:
        draft: What it says.
        label: The label that the run used, None where people were tied.
    """

    draft: Draft
    label: Label | None


@dataclass(frozen=True)
class Originals:
    """The rows of a run by split and id; those that were in no split have the split "".

    Attributes:
        fields: The images and texts.
        rows: The rows of the splits in the order of the run.
    """

    fields: InputFields
    rows: Mapping[tuple[str, str], Row]


def find_originals(folder: Path, data: ReviewData, labels: LabelSpace) -> Originals:
    """Returns the rows of a run; no image is opened.

    Raises:
        BlpoError: If it was not made of tables.
        DataError: If a table is gone, or lacks rows that the run used.
    """
    tables = data.tables
    if tables is None:
        raise BlpoError(
            f"{folder}: the run was made of a published set or of examples in memory, whose pictures it doesn't keep; "
            "only a run of a TABLE can be reviewed"
        )
    known = {path: _rows_of(folder / path, tables, labels) for path in dict.fromkeys(tables.paths.values())}
    rows: dict[tuple[str, str], Row] = {}
    missing = []
    for split, ids in data.ids.items():
        there = known[tables.paths[split]] if ids else {}
        for name in ids:
            if name in there:
                rows[split, name] = there[name]
            else:
                missing.append(f"{split}: {brief(name)}")
    if missing:
        raise DataError(f"{folder}: rows of the run are no longer in its tables; put them back", missing)
    used = {name for _, name in rows}
    rows.update({("", name): row for there in known.values() for name, row in there.items() if name not in used})
    return Originals(InputFields.of(tables.images, tables.context), rows)


def _rows_of(path: Path, tables: ReviewTables, labels: LabelSpace) -> dict[str, Row]:
    """The rows of a table by id; those that several people labelled are one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows without a label: the run has said so
        columns = TableColumns.labelled(tables.columns)
        _, drafts = read_rows(path, columns, labels, tables.allow_outside, tables.require_labels)
    if not tables.repeated and not tables.rater_columns:
        return {str(draft.id): Row(draft, draft.label) for draft in drafts}
    found: dict[str, Draft] = {}
    for draft in drafts:
        item = json.dumps([draft.sources, draft.context], default=str) if tables.repeated else str(draft.id)
        if item in found:
            found[item].ratings += draft.ratings
        else:
            found[item] = draft
    rated = [(str(draft.id), *rating) for draft in found.values() for rating in draft.ratings]
    combined = combine_raters(ratings_from_rows(labels, rated), tables.rule).labels
    return {str(draft.id): Row(draft, combined.get(str(draft.id))) for draft in found.values()}


@dataclass(frozen=True)
class NewLabel:
    """What a review decided about a row.

    Attributes:
        label: The label that it is to have, None if it is dropped.
        reason: What the person wrote, "" if nothing.
        changed: Whether the label is another one than before.
    """

    label: Label | None
    reason: str
    changed: bool


def write_again(
    folder: Path, originals: Originals, decided: Mapping[tuple[str, str], NewLabel], reasons: bool
) -> list[Path]:
    """Writes the splits of a run with the labels of a review, so that what tested still tests, and returns the files.

    A row that was in no split, as people were tied, trains once it has a label.

    Raises:
        TableError: If one cannot be written.
    """
    written = []
    for split in SPLITS:
        own = [key for key in originals.rows if key[0] == split or (split == "train" and key in decided and not key[0])]
        if own:
            file = folder / f"{split}.again.csv"
            header = [*originals.fields.names, _LABEL, _GROUP, *([_REASON] if reasons else []), RELABELLED]
            write_csv(file, header, _cells(file, originals, own, decided, reasons))
            written.append(file)
    return written


def _cells(
    file: Path,
    originals: Originals,
    keys: Sequence[tuple[str, str]],
    decided: Mapping[tuple[str, str], NewLabel],
    reasons: bool,
) -> Iterator[list[object]]:
    for key in keys:
        row, new = originals.rows[key], decided.get(key)
        label = row.label if new is None else new.label
        if label is None:
            continue
        draft = row.draft
        pictures = [_pictures(draft.sources[image.name], file) for image in originals.fields.images]
        reason = (new.reason if new is not None and new.reason else draft.reason) or ""
        more = [spreadsheet_cell(reason)] if reasons else []
        changed = "yes" if new is not None and new.changed else ""
        texts = [draft.context[name] for name in originals.fields.context]
        yield [*pictures, *texts, label, draft.group or "", *more, changed]


def _pictures(sources: ImageSource | list[ImageSource], file: Path) -> str:
    several = sources if isinstance(sources, list) else [sources]
    return "|".join(_picture(source, file) for source in several)


def _picture(source: ImageSource, file: Path) -> str:
    if isinstance(source, str) and (source[:5].lower() == "data:" or "://" in source):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"{file}: a CSV cannot hold images themselves, as the table of the run does; review is for paths"
        )
    return path_cell(Path(source), file)
