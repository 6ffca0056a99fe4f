"""What one row of a table says about an image, and everything that is wrong with it."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import dspy
import numpy as np
from PIL import Image

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.fields import ImageInput, InputFields, context_text
from blpo_dspy.data.images.prepare import NO_FILE, ImageError, ImageSource, unwrapped
from blpo_dspy.data.images.remote import RemoteFolder
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.reasons import REASON, reason_text
from blpo_dspy.data.tables import TableRow
from blpo_dspy.errors import BlpoError, DataError, brief, check_kind

T = TypeVar("T")
_LONGEST_PLACE = 500


@dataclass(frozen=True)
class TableColumns:
    """Which column holds what; None if the table has no such column.

    Attributes:
        images: The image input that each column with images fills, in order.
        label: The label.
        context: Texts that belong to the image.
        group: What must stay together.
        id: A unique id.
        raters: Labels of several people, one column each.
        rater: Who gave the label.
        reason: What the person wrote beside the label.
    """

    images: Mapping[str, ImageInput]
    label: str | None
    context: tuple[str, ...]
    group: str | None
    id: str | None
    raters: tuple[str, ...] = ()
    rater: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, fields: InputFields, image_column: str | None = None) -> TableColumns:
        """Returns the columns that fill a judge's inputs: those of their names, or that of the only image."""
        images = {image.name: image for image in fields.images}
        if image_column is not None:
            if len(images) > 1:
                raise BlpoError(
                    f"image column {image_column!r} is that of one image, but there are {', '.join(images)}; give the "
                    "columns the names of the inputs",
                    option="image_column",
                )
            images = {image_column: fields.images[0]}
        return cls(images, None, fields.context, None, None)

    @classmethod
    def labelled(cls, columns: Columns) -> TableColumns:
        """Returns the columns of a table of labelled images.

        Raises:
            BlpoError: If an input has a name that it cannot have, or reasons are where an input or a label is.
        """
        check_kind("columns", columns, Columns, "Columns", "columns=Columns(label='rating')")
        found = cls.of(InputFields.of(columns.images, columns.context), columns.image)
        raters = tuple(columns.raters)
        label = None if raters else columns.label
        if columns.reason is not None:
            _check_reason(columns.reason, found.fields, {*found.images, *found.context, label, *raters})
        return replace(
            found,
            label=label,
            group=columns.group,
            id=columns.id,
            raters=raters,
            rater=columns.rater,
            reason=columns.reason,
        )

    @property
    def fields(self) -> InputFields:
        """The inputs that the columns fill."""
        return InputFields(tuple(self.images.values()), self.context)

    @property
    def names(self) -> list[str]:
        """All columns that must be there."""
        named = (*self.images, self.label, *self.context, self.group, self.id, *self.raters, self.rater, self.reason)
        return [name for name in named if name is not None]


@dataclass(slots=True)
class Draft:
    """What one row says, before its images are looked at; `place` names them, or else the row."""

    where: str
    place: str
    sources: dict[str, ImageSource | list[ImageSource]] = field(default_factory=dict)
    label: Label | None = None
    context: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    id: str | None = None
    reason: str | None = None
    ratings: list[tuple[str | None, Label]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[tuple[str, ImageSource]]:
        """All of its images, each with the name of its input."""
        return [
            (name, source)
            for name, sources in self.sources.items()
            for source in (sources if isinstance(sources, list) else [sources])
        ]

    def filled(self, values: Iterable[T]) -> dict[str, T | list[T]]:
        """Returns the image inputs with one value, in order, instead of each image."""
        left = iter(values)
        return {
            name: [next(left) for _ in sources] if isinstance(sources, list) else next(left)
            for name, sources in self.sources.items()
        }


@dataclass(frozen=True)
class RowReader:
    """Reads rows into drafts.

    Args:
        columns: Which column holds what.
        labels: The closed set of labels; None to read no labels.
        base: The folder that relative image paths start from; None if any path may be used.
        allow_outside: Whether paths may leave that folder.
        require_labels: Whether an empty label is a problem of its row.
        remote: The folder by address that image paths start from and must stay in, instead of `base`.
    """

    columns: TableColumns
    labels: LabelSpace | None
    base: Path | None
    allow_outside: bool
    require_labels: bool = True
    remote: RemoteFolder | None = None

    @cached_property
    def _root(self) -> Path:
        """The folder without links."""
        assert self.base is not None
        return self.base.resolve()

    @cached_property
    def _folders(self) -> dict[str, bool]:
        """Whether the folders of images are inside; a large table has few."""
        return {}

    def is_unlabelled(self, row: TableRow) -> bool:
        """Whether a row is to be left out, as it has no label."""
        name = self.columns.label
        return not self.require_labels and name is not None and _is_empty(row.values.get(name))

    def read(self, row: TableRow) -> Draft:
        """Returns what a row says; the draft's `problems` list what is wrong with it."""
        cell = row.values.get
        draft = Draft(row.where, _place([cell(column) for column in self.columns.images], row))
        for column, image in self.columns.images.items():
            found = _attempt(partial(self._image, image, cell(column), row.where), draft.problems)
            if found is not None:
                draft.sources[image.name] = found
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
        reason = self.columns.reason
        if reason is not None and not _is_empty(cell(reason)):
            draft.reason = _attempt(partial(reason_text, f"reason column {reason!r}", cell(reason)), draft.problems)
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

    def _image(self, image: ImageInput, value: object, where: str) -> ImageSource | list[ImageSource]:
        """The image in a cell, or the images in the cell of an input that takes several."""
        named = image.name if len(self.columns.images) > 1 else ""
        try:
            return (
                [self._source(part, where) for part in _parts(value)] if image.several else self._source(value, where)
            )
        except ImageError as error:
            raise ImageError(str(error), named) from None

    def _source(self, value: object, where: str) -> ImageSource:
        """The image in a cell, if it may be used; `where` names the row."""
        if not isinstance(value, str):  # the type of most values
            value = unwrapped(value)
            if isinstance(value, (bytes, Path, Image.Image, np.ndarray, dspy.Image)):
                return value
        if _is_empty(value):
            raise ImageError("no image")
        if not isinstance(value, str):
            raise ImageError(
                f"a {type(value).__name__} is not an image; expected a path, a URL, a data URI, bytes, a PIL image or "
                "a NumPy array"
            )
        if "://" in value or value[:5].lower() == "data:":
            return value
        if self.remote is not None:
            return self.remote.image(value)
        if self.base is None:
            return value
        try:
            path = self.base / value
            inside = self._inside(path)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, or links in a circle
            raise ImageError(f"not a usable path ({getattr(error, 'strerror', None) or error})", brief(value)) from None
        if not inside and not self.allow_outside:
            named = "" if value == where else brief(value)
            raise ImageError("leaves the folder of the table; allow_outside=True permits it", named)
        return path

    def _inside(self, path: Path) -> bool:
        """Whether a path stays in the folder once all links are followed."""
        try:
            link = stat.S_ISLNK(os.lstat(path).st_mode)
        except OSError:  # such as no such file, which is reported where it is read
            link = False
        if link or path.name == "..":
            return path.resolve().is_relative_to(self._root)
        folder = os.path.dirname(path)
        if folder not in self._folders:
            self._folders[folder] = Path(folder).resolve().is_relative_to(self._root)
        return self._folders[folder] or path.resolve() == self._root


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


def unusable(name: str, bad: int, total: int, problems: Sequence[str], base: Path | None) -> DataError:
    """Returns the error that lists the rows which cannot be used, and says from where a missing path was read."""
    absent = any(problem.endswith(f": {NO_FILE}") for problem in problems)
    start = f" (paths start from the folder {base.resolve()})" if absent and base is not None else ""
    summary = f"{name}: {bad} of {total} rows cannot be used{start}; repair or remove them:"
    return DataError(summary, problems, option=blamed_option(problems))


def _check_reason(column: str, fields: InputFields, others: Collection[str | None]) -> None:
    """Only the optimizer reads reasons, so that they can't be an input, nor have the name of one."""
    if column in others:
        raise BlpoError(
            f"reason column {column!r} holds an input or a label; reasons are for the optimizer alone, in a column of "
            "their own",
            option="reason_column",
        )
    if REASON in fields.names:
        raise BlpoError(
            f"reason column {column!r}: an input is named {REASON!r}, as reasons of examples are; rename its column",
            option="reason_column",
        )


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


def _parts(value: object) -> list[object]:
    """The images in a cell: the items of a list, or of a text with "|" between two."""
    if isinstance(value, str):
        parts: list[object] = [part.strip() for part in value.split("|")]
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    else:
        parts = [] if _is_empty(value) else [value]
    if not parts:
        raise ImageError("no image")
    return parts


def _stored(value: object) -> object:
    """The bytes or path of an image that `datasets` stores, any other value as it is."""
    if isinstance(value, Mapping) and {"bytes", "path"} & set(value):
        return value.get("path") if value.get("bytes") is None else value["bytes"]
    return value


def _place(values: Sequence[object], row: TableRow) -> str:
    """A short name for a row's images: their paths or URLs, or else the place of the row."""
    names = [_name(value) for value in values]
    place = " + ".join(filter(None, names))
    return place if all(names) and len(place) <= _LONGEST_PLACE else row.where


def _name(value: object) -> str | None:
    if isinstance(value, str):
        return None if value[:5].lower() == "data:" else value
    if isinstance(value, Mapping):
        return Path(str(value["path"])).name if value.get("path") else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        names = [_name(part) for part in value]
        return "|".join(filter(None, names)) if all(names) else None
    return None
