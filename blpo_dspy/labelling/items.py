"""What is to be labelled: the rows of a folder or table, known by their cells alone; no image is opened."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blpo_dspy.data.fields import InputFields
from blpo_dspy.data.images.prepare import NO_FILE, ImageError, ImageSource, is_reference
from blpo_dspy.data.inputs import Inputs, find_inputs
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.rows import Draft, RowReader, unusable
from blpo_dspy.data.tables import TABLE_SUFFIXES, TableRow
from blpo_dspy.errors import BlpoError, DataError, brief
from blpo_dspy.files import check_path, spreadsheet_cell, writable_folder
from blpo_dspy.labelling.journal import is_labelled
from blpo_dspy.predictions.reading import CHANCE, LABEL, RATER, REASON

EARLIER = "earlier"
"""Who gave the labels that a table without a column for raters holds already."""

_KEY = 16  # hex digits


@dataclass(frozen=True, slots=True)
class Item:
    """One row to label.

    Attributes:
        key: What identifies its images and context, 16 hex digits.
        cells: Its cells as the output states them: image paths start from the folder of the output.
        row: Where it came from.
    """

    key: str
    cells: Mapping[str, str]
    row: TableRow


@dataclass(frozen=True)
class Given:
    """A label that the table had already."""

    rater: str
    label: Label
    reason: str


@dataclass(frozen=True)
class Items:
    """All rows to label, each combination of images and context once.

    Attributes:
        items: In the order of the source.
        columns: The columns of the output that come from the source.
        reader: Reads a row.
        given: By key the labels that were there already.
        notes: What was left out, one line each.
    """

    items: tuple[Item, ...]
    columns: tuple[str, ...]
    reader: RowReader
    given: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def fields(self) -> InputFields:
        """The images and texts that are shown."""
        return self.reader.columns.fields

    def sources(self, position: int) -> list[tuple[str, ImageSource]]:
        """Returns the images of an item, each with the name of its input.

        Raises:
            ImageError: If one may not be used.
        """
        return _usable(self.reader.read(self.items[position].row)).images

    def texts(self, position: int) -> dict[str, str]:
        """Returns the context texts of an item."""
        values = self.items[position].row.values
        return {name: str(values[name]) for name in self.fields.context}


@dataclass(frozen=True)
class Work:
    """What is labelled, and by whom.

    Attributes:
        source: A folder or table.
        labels: The closed set of labels.
        out: The table that labels go to, a .csv file.
        fields: The images and texts that are shown.
        rater: Who labels.
        task: The question that the page states.
        image_column: The column of the only image, where it has another name than its input.
        label_column: The column with existing labels.
        allow_outside: Whether images may lie outside the folder, or that of the table.
    """

    source: Path
    labels: LabelSpace
    out: Path
    fields: InputFields = InputFields()  # noqa: RUF009 - it is frozen
    rater: str = "annotator"
    task: str = ""
    image_column: str | None = None
    label_column: str = LABEL
    allow_outside: bool = False

    def items(self) -> Items:
        """Returns what is to be labelled.

        Raises:
            BlpoError: If something cannot be used, or labels could not be written.
        """
        _check_out(self.out, self.source)
        if self.labels.paired:
            from blpo_dspy.programs.pairs import check_pair  # noqa: PLC0415 - it imports DSPy, which takes long

            check_pair(self.labels, self.fields)
        return find_items(self)


def _check_out(out: Path, source: Path) -> None:
    if out.suffix != ".csv":
        raise BlpoError(f"{out}: the labels are written as CSV, so the name should end in .csv")
    check_path(out)
    writable_folder(out.parent)
    if source.exists() and out.exists() and out.samefile(source):
        raise BlpoError(f"{out}: --out is the TABLE itself, whose other rows would be lost; name another file")
    if out.exists() and not is_labelled(out):
        raise BlpoError(
            f"{out}: this file was not written by `blpo label` and would be overwritten; name another --out, and give "
            "this file as the TABLE to label the rest of it"
        )


def find_items(work: Work) -> Items:
    """Returns what a folder, in which images may lie anywhere, or a table holds to be labelled.

    Raises:
        DataError: If the source cannot be read, or naming all rows that cannot be used.
    """
    source = work.source
    if not source.is_dir() and not (source.is_file() and source.suffix.lower() in TABLE_SUFFIXES):
        raise DataError(
            f"{source}: no folder or table; give a folder with images, or one of {', '.join(TABLE_SUFFIXES)}"
        )
    how: dict[str, Any] = {"image_column": work.image_column, "allow_outside": work.allow_outside}
    inputs = find_inputs([source], fields=work.fields, **how)
    if inputs.stored is not None:
        raise DataError(f"{source}: its images are inside the file; write them to a folder and label that")
    inside, left_out = _inside(inputs, source, work.allow_outside)
    columns = tuple(name for name in inputs.columns if name not in (work.label_column, REASON, RATER))
    found: dict[str, Item] = {}
    given: dict[str, list[Given]] = {}
    problems: list[str] = []
    for row in inside:
        try:
            item = _item(row, inputs.reader, columns, work.out, check=not source.is_dir())
            found.setdefault(item.key, item)
            label = _given(row, work.labels, work.label_column)
            if label is not None:
                _add(label, given.setdefault(item.key, []))
        except BlpoError as error:
            problems.append(f"{row.where}: {error}")
    if problems:
        raise unusable(str(source), len(problems), len(inside), problems, inputs.reader.base)
    notes = (*inputs.notes, *left_out, *_repeated(len(inside) - len(found)))
    kept = {key: tuple(several) for key, several in given.items()}
    return Items(tuple(found.values()), columns, inputs.reader, kept, notes)


def _repeated(count: int) -> list[str]:
    rows = "1 row repeats" if count == 1 else f"{count} rows repeat"
    return [f"{rows} the images and texts of another; each is shown once"] if count else []


def _inside(inputs: Inputs, source: Path, allow_outside: bool) -> tuple[Sequence[TableRow], list[str]]:
    """The rows without links to files outside a folder, which `_item` finds among those of a table, and a note."""
    if allow_outside or not source.is_dir():
        return inputs.rows, []
    base = source.resolve()
    rows = [row for row in inputs.rows if not _leaves(source / row.where, base)]
    outside = len(inputs.rows) - len(rows)
    if not rows:
        raise DataError(
            f"{source}: all images are links to files outside the folder; allow_outside=True takes them",
            option="allow_outside",
        )
    links = "1 link to a file" if outside == 1 else f"{outside} links to files"
    return rows, [f"{links} outside the folder left out; --allow-outside takes them"] if outside else []


def _leaves(path: Path, base: Path) -> bool:
    try:
        return path.is_symlink() and not path.resolve().is_relative_to(base)
    except (OSError, RuntimeError):  # links in a circle
        return True


def _usable(draft: Draft) -> Draft:
    if draft.problems:
        raise DataError("; ".join(draft.problems))
    return draft


def _item(row: TableRow, reader: RowReader, columns: Sequence[str], out: Path, *, check: bool) -> Item:
    """A row with its key; that a path of a table is inside its folder and exists is checked, those of a folder are."""
    images = reader.columns.images
    if check:
        pictures = {name: _paths(_usable(reader.read(row)), image.name, out) for name, image in images.items()}
    else:
        assert reader.base is not None
        pictures = {name: [path_cell(reader.base / row.where, out)] for name in images}
    cells = {name: "|".join(pictures[name]) if name in pictures else _text(row.values.get(name)) for name in columns}
    identity = [list(pictures.values()), {name: cells[name] for name in reader.columns.context}]
    _check_chance(cells.get(CHANCE, ""))
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:_KEY]
    return Item(key, cells, row)


def _paths(draft: Draft, name: str, out: Path) -> list[str]:
    sources = draft.sources[name]
    several = sources if isinstance(sources, list) else [sources]
    cells = [_image_cell(source, out) for source in several]
    if isinstance(sources, list) and any("|" in cell for cell in cells):
        raise DataError('an image of a list has "|" in its name, which separates images; rename it')
    return cells


def _image_cell(source: ImageSource, out: Path) -> str:
    if isinstance(source, str) and source[:5].lower() == "data:":
        return source
    if isinstance(source, str) and is_reference(source):
        raise DataError(
            "an image by URL is not shown, as the page loads nothing from the network; download it and name the file"
        )
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"a {type(source).__name__} is not a path; write the images to files and name those")
    path = Path(source)
    if not path.is_file():
        raise ImageError(NO_FILE, brief(path))
    return path_cell(path, out)


def path_cell(path: Path, out: Path) -> str:
    """Returns a path as a table in the folder of `out` states it.

    It is never taken for a URL or a formula, and has no white space at its ends, which readers strip.

    Raises:
        DataError: If its name is not UTF-8 text.
    """
    cell = os.path.relpath(path, out.parent).replace(os.sep, "/")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise DataError("the name of the file is not UTF-8 text; rename it") from None
    odd = cell != cell.strip() or spreadsheet_cell(cell) != cell or ":" in cell.partition("/")[0]
    return f"./{cell}" if odd else cell


def _text(value: object) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value)


def _given(row: TableRow, labels: LabelSpace, label_column: str) -> Given | None:
    text = _text(row.values.get(label_column)).strip()
    if not text:
        return None
    rater = _text(row.values.get(RATER)).strip() or EARLIER
    return Given(rater, labels.coerce(row.values[label_column]), _text(row.values.get(REASON)).strip())


def _check_chance(text: str) -> None:
    """Refuses what a table states as the probability of a row, unless it is one above 0."""
    try:
        usable = not text or 0 < float(text) <= 1
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"{CHANCE} {brief(repr(text))} is not a number above 0 and at most 1")


def _add(label: Given, several: list[Given]) -> None:
    if any(other.rater == label.rater for other in several):
        raise DataError(f"{label.rater} labelled these images in another row already; keep one of the rows")
    several.append(label)


def shares(labels: LabelSpace, given: Iterable[Label]) -> list[tuple[str, int]]:
    """Returns how often each label was given; of scores the bins that they fall into."""
    names, groups = labels.strata(list(given))
    return [(str(name), sum(group == name for group in groups)) for name in names]
