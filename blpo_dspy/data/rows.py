"""What one row of a table says about an image, and everything that is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import dspy
from PIL import Image

from blpo_dspy.data.fields import context_text
from blpo_dspy.data.images.prepare import ImageError, ImageSource, is_reference
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.tables import TableRow
from blpo_dspy.errors import BlpoError, brief

T = TypeVar("T")


@dataclass(frozen=True)
class TableColumns:
    """Which column holds what; None if the table has no such column.

    Attributes:
        image: The image.
        label: The label.
        context: Texts that belong to the image.
        group: What must stay together.
        id: A unique id.
        raters: Labels of several people, one column each.
        rater: Who gave the label.
    """

    image: str
    label: str | None
    context: tuple[str, ...]
    group: str | None
    id: str | None
    raters: tuple[str, ...] = ()
    rater: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns that must be there."""
        named = (self.image, self.label, *self.context, self.group, self.id, *self.raters, self.rater)
        return [name for name in named if name is not None]


@dataclass(slots=True)
class Draft:
    """What one row says, before its image is looked at; `place` names the image or else the row."""

    where: str
    place: str
    source: ImageSource | None = None
    label: Label | None = None
    context: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    id: str | None = None
    ratings: list[tuple[str | None, Label]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RowReader:
    """Reads rows into drafts.

    Args:
        columns: Which column holds what.
        labels: The closed set of labels; None to read no labels.
        base: The folder that relative image paths start from; None if any path may be used.
        allow_outside: Whether paths may leave that folder.
    """

    columns: TableColumns
    labels: LabelSpace | None
    base: Path | None
    allow_outside: bool

    def read(self, row: TableRow) -> Draft:
        """Returns what a row says; the draft's `problems` list what is wrong with it."""
        cell = row.values.get
        draft = Draft(row.where, _place(cell(self.columns.image), row))
        draft.source = _attempt(partial(self._source, cell(self.columns.image), row.where), draft.problems)
        if self.labels is not None and self.columns.label is not None:
            draft.label = _attempt(
                partial(_label, self.labels, self.columns.label, cell(self.columns.label)), draft.problems
            )
        if self.labels is not None:
            self._read_ratings(row, draft)
        for name in self.columns.context:
            if _is_empty(cell(name)):
                draft.problems.append(f"no text in context column {name!r}")
            elif _attempt(partial(context_text, name, cell(name)), draft.problems) is not None:
                draft.context[name] = str(cell(name))
        draft.group = _text(self.columns.group and cell(self.columns.group))
        draft.id = _text(self.columns.id and cell(self.columns.id))
        if self.columns.id is not None and draft.id is None:
            draft.problems.append(f"no id in column {self.columns.id!r}")
        return draft

    def _read_ratings(self, row: TableRow, draft: Draft) -> None:
        """Adds each person's label; an empty cell in a person's column is not a label."""
        assert self.labels is not None
        for name in self.columns.raters:
            cell = row.values.get(name)
            label = None if _is_empty(cell) else _attempt(partial(_label, self.labels, name, cell), draft.problems)
            if label is not None:
                draft.ratings.append((name, label))
        if not self.columns.raters and draft.label is not None:
            draft.ratings.append((_text(self.columns.rater and row.values.get(self.columns.rater)), draft.label))

    def _source(self, value: object, where: str) -> ImageSource:
        """The image in a cell, if it may be used; `where` names the row."""
        if isinstance(value, Mapping) and {"bytes", "path"} & set(value):  # as datasets stores images
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, (bytes, Image.Image, dspy.Image)):
            return value
        if _is_empty(value):
            raise ImageError("no image")
        if not isinstance(value, str):
            raise ImageError(f"a {type(value).__name__} is not an image; expected a path, a URL, a data URI or bytes")
        if self.base is None or is_reference(value) or value[:5].lower() == "data:" or "://" in value:
            return value
        try:
            inside = (self.base / value).resolve().is_relative_to(self.base.resolve())
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, or links in a circle
            raise ImageError(f"not a usable path ({getattr(error, 'strerror', None) or error})", brief(value)) from None
        if not inside and not self.allow_outside:
            named = "" if value == where else brief(value)
            raise ImageError("leaves the folder of the table; allow_outside=True permits it", named)
        return self.base / value


def assign_ids(drafts: list[Draft], *, given: bool) -> None:
    """Gives every draft a unique id: that of the table, where duplicates are problems, or a generated one."""
    seen: dict[str, int] = {}
    for draft in drafts:
        name = draft.id if given else draft.place
        if name is None:
            continue
        seen[name] = seen.get(name, 0) + 1
        if given and seen[name] > 1:
            draft.problems.append(f"duplicate id {brief(repr(name))}")
        draft.id = name if seen[name] == 1 else f"{name}#{seen[name]}"


def blamed_option(problems: Iterable[str]) -> tuple[str, ...]:
    """Returns the option that some of the problems name."""
    return ("allow_outside",) if any("allow_outside=True" in problem for problem in problems) else ()


def _attempt(read: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return read()
    except BlpoError as error:
        problems.append(str(error))
        return None


def _label(labels: LabelSpace, column: str, value: object) -> Label:
    if _is_empty(value):
        raise BlpoError(f"empty label in column {column!r}")
    return labels.coerce(value)


def _is_empty(value: object) -> bool:
    """Whether a cell holds nothing: null, blank text, or the NaN that stands for null in float columns."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == ""


def _text(value: object) -> str | None:
    return None if _is_empty(value) else str(value)


def _place(value: object, row: TableRow) -> str:
    """A short name for a row's image: its path or URL, or else the place of the row."""
    if isinstance(value, Mapping):
        value = Path(str(value["path"])).name if value.get("path") else None
    return value if isinstance(value, str) and len(value) <= 500 and value[:5].lower() != "data:" else row.where
