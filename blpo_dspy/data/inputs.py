"""Images to be judged, from a folder, a table, a list or memory: their rows, without loading the images."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

from blpo_dspy.data.fields import InputFields, holds_media
from blpo_dspy.data.images.prepare import ImageError, ImageSource, content, is_reference
from blpo_dspy.data.images.remote import RemoteFolder, fetched, is_remote, is_remote_table
from blpo_dspy.data.rows import Draft, RowReader, TableColumns, blamed_option
from blpo_dspy.data.tables import (
    IMAGE_SUFFIXES,
    PARQUET,
    TABLE_SUFFIXES,
    Table,
    TableRow,
    TableSource,
    in_memory,
    listed_images,
    read_folder,
    read_table,
    require_columns,
)
from blpo_dspy.errors import BlpoError, DataError

# Rows of a Parquet file whose images are read at a time.
_READ_AT_ONCE = 16
_SHOWN = 10
_ONE_IMAGE = InputFields()
Print: TypeAlias = tuple[str, str]
"""What an image is, "url" or "bytes", and the hash of that."""


@dataclass(frozen=True)
class Inputs:
    """The rows of one job.

    Attributes:
        name: The source, as messages name it.
        columns: The columns that it has, in order.
        rows: In order; images that lie inside a Parquet file are not in them.
        reader: Reads a row.
        notes: What was skipped, one line each.
        stored: The Parquet file that holds images, which are read a few rows at a time.
        inside: The columns of that file with them.
        positions: Where in that file each row lies, ascending; None if they are all of its rows.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[TableRow]
    reader: RowReader
    notes: tuple[str, ...] = ()
    stored: Path | None = None
    inside: tuple[str, ...] = ()
    positions: tuple[int, ...] | None = None

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The columns with images."""
        return tuple(self.reader.columns.images)

    def drafts(self, wanted: Collection[int]) -> Iterator[tuple[int, Draft]]:
        """Yields position and content of the wanted rows, in order; a row that cannot be used has `problems`."""
        numbered = ((number, row) for number, row in enumerate(self.rows) if number in wanted)
        if self.stored is None:
            yield from ((number, self.reader.read(row)) for number, row in numbered)
            return
        at = wanted if self.positions is None else {self.positions[number] for number in wanted}
        cells = _stored_images(self.stored, self.inside, at)
        for number, row in numbered:
            try:
                values = {**row.values, **next(cells)}
            except StopIteration:
                raise DataError(
                    f"{self.stored}: has fewer rows than before; repeat the call when it is complete"
                ) from None
            yield number, self.reader.read(row._replace(values=values))

    def subset(self, numbers: Sequence[int]) -> Inputs:
        """Returns some of the rows, given by ascending numbers, as a process in another folder can read them."""
        base = self.reader.base
        outside = self.reader.allow_outside or base is None  # without a folder, any path may be used
        return replace(
            self,
            rows=[self.rows[number] for number in numbers],
            reader=replace(self.reader, base=(base or Path()).absolute(), allow_outside=outside),
            notes=(),
            stored=self.stored and self.stored.absolute(),
            positions=tuple(numbers if self.positions is None else (self.positions[number] for number in numbers)),
        )


def _stored_images(path: Path, columns: Sequence[str], wanted: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yields the cells of columns of a Parquet file in the wanted rows, in order."""
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    start = end = 0
    try:
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                start, end = end, end + file.metadata.row_group(group).num_rows
                if not any(number in wanted for number in range(start, end)):
                    continue
                for batch in file.iter_batches(_READ_AT_ONCE, row_groups=[group], columns=list(columns)):
                    for i in range(batch.num_rows):
                        if start + i in wanted:
                            yield {name: batch.column(name)[i].as_py() for name in columns}
                    start += batch.num_rows
    except (OSError, IndexError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its images cannot be read ({reason}); repeat the call when it is complete") from error


def find_inputs(
    sources: TableSource | Sequence[ImageSource],
    *,
    fields: InputFields = _ONE_IMAGE,
    texts: Mapping[str, str] | None = None,
    image_column: str | None = None,
    allow_outside: bool = False,
) -> Inputs:
    """Returns the rows of one folder, one table (by its suffix) or a list of images.

    Args:
        sources: A list of one folder, in which images may lie anywhere, or of one table, also by an address that fsspec
            reads (s3://…); a table in memory; or images: paths, URLs, bytes, PIL images, NumPy arrays or `dspy.Image`s.
        fields: The inputs of the judge: columns of a table, unless `texts` has them.
        texts: Context texts that are the same for all images.
        image_column: The column of a table with the only image, where it has another name than the input: a path from
            the table's folder, a URL or the image itself.
        allow_outside: Whether images may lie outside the folder, or that of the table.

    Raises:
        DataError: If a table cannot be read, lacks a column or has no rows, or a folder has no images.
        BlpoError: If folders or tables are mixed with other sources, context is missing or unknown, or a judge of
            several images is given no table.
    """
    context = fields.context
    texts = dict(texts or {})
    unknown = [name for name in texts if name not in context]
    if unknown:
        takes = f"takes {', '.join(context)}" if context else "takes no context"
        raise BlpoError(f"this judge {takes}, but there is a text for {', '.join(unknown)}")
    if in_memory(sources):
        return _of_memory(sources, TableColumns.of(fields, image_column), texts, allow_outside)
    given: list[Any] = list(cast("Sequence[ImageSource]", sources))
    if len(given) == 1 and is_remote(given[0]):
        return _of_address(given[0], fields, image_column, texts)
    # Among many paths the disk is asked only about those that do not end as images do.
    asked = given if len(given) == 1 else [source for source in given if not _is_named_image(source)]
    several = [str(source) for source in asked if _is_folder(source) or _is_table(source)]
    if several and len(given) > 1:
        raise BlpoError(f"{several[0]}: one folder or table is judged at a time; give it alone, or images only")
    if not given:
        raise BlpoError("there is nothing to judge; give a folder, a table or images")
    if several and _is_table(given[0]):
        columns = TableColumns.of(fields, image_column)
        return _of_table(Path(given[0]), columns, texts, allow_outside)
    if len(fields.images) > 1 or fields.images[0].several:
        raise BlpoError(
            f"this judge takes {', '.join(map(str, fields.images))}: name a table with such columns, which says what "
            "belongs together"
        )
    _check_texts(context, texts)
    columns, column = TableColumns.of(fields), fields.images[0].name
    if several:
        table = read_folder(Path(given[0]), column, None, follow_links=allow_outside)
        return _of_listed(table, columns, texts, allow_outside)
    return _of_listed(_table_of(given, column), columns, texts)


def _of_address(url: str, fields: InputFields, image_column: str | None, texts: Mapping[str, str]) -> Inputs:
    """The rows of a table or folder by address; images are read from the folder lazily."""
    if is_remote_table(url):
        with tempfile.TemporaryDirectory() as folder:
            found = _of_table(fetched(url, Path(folder)), TableColumns.of(fields, image_column), texts, False)
        if found.stored is not None:
            raise DataError(
                f"{url}: images inside a Parquet file are not read from an address; copy it to this machine"
            )
        folder_url = url.rpartition("/")[0]
    else:
        folder_url = url.rstrip("/")
        _check_texts(fields.context, texts)
        table = listed_images(url, RemoteFolder(folder_url).files(), fields.images[0].name)
        found = _of_listed(table, TableColumns.of(fields), texts)
    return replace(found, name=url, reader=replace(found.reader, base=None, remote=RemoteFolder(folder_url)))


def _is_named_image(source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and os.fspath(source).lower().endswith(IMAGE_SUFFIXES)


def _is_folder(source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and not _is_address(source) and os.path.isdir(source)


def _is_table(source: object) -> bool:
    if not isinstance(source, (str, os.PathLike)):
        return False
    return not _is_address(source) and os.fspath(source).lower().endswith(TABLE_SUFFIXES) and not _is_folder(source)


def _is_address(source: object) -> bool:
    return isinstance(source, str) and (is_reference(source) or source[:5].lower() == "data:")


def _check_texts(context: Sequence[str], texts: Mapping[str, str]) -> None:
    missing = [name for name in context if name not in texts]
    if missing:
        raise BlpoError(
            f"this judge takes {', '.join(context)}: give one --context NAME=TEXT for each (missing: "
            f"{', '.join(missing)}), or a table with such columns"
        )


def _with_texts(rows: Sequence[TableRow], texts: Mapping[str, str]) -> Sequence[TableRow]:
    return [TableRow(row.where, {**row.values, **texts}) for row in rows] if texts else rows


def _table_of(images: Sequence[ImageSource], column: str) -> Table:
    named = [os.fspath(image) if isinstance(image, os.PathLike) else image for image in images]
    rows = (TableRow(f"image {number}", {column: image}) for number, image in enumerate(named, 1))
    return Table("the images", (column,), tuple(rows), None)


def _of_listed(table: Table, columns: TableColumns, texts: Mapping[str, str], allow_outside: bool = False) -> Inputs:
    """The rows of images that were listed one by one."""
    reader = RowReader(columns, None, table.base, allow_outside)
    notes = (*table.problems, *table.notes)
    return Inputs(table.name, (*table.columns, *texts), _with_texts(table.rows, texts), reader, notes)


def _of_table(path: Path, columns: TableColumns, texts: Mapping[str, str], allow_outside: bool) -> Inputs:
    images = tuple(columns.images)
    expected = [*images, *(name for name in columns.context if name not in texts)]
    names, inside = _columns_of_parquet(path, images) if path.suffix.lower() in PARQUET else (None, ())
    read = expected if names is None else [name for name in names if name not in inside]
    table = read_table(path, read, keep_unnamed=True)
    rows = _checked_rows(table, columns, expected, texts)
    there = tuple(dict.fromkeys((*table.columns, *texts)))
    reader = RowReader(columns, None, table.base, allow_outside)
    return Inputs(str(path), there, rows, reader, table.notes, path if inside else None, inside)


def _of_memory(source: Any, columns: TableColumns, texts: Mapping[str, str], allow_outside: bool) -> Inputs:
    expected = [*columns.images, *(name for name in columns.context if name not in texts)]
    table = read_table(source, expected)
    if type(source).__module__.startswith("datasets"):
        table = read_table(source, table.columns)
    rows = _checked_rows(table, columns, expected, texts)
    others = [name for name in table.columns if name not in columns.images]
    media = [name for name in others if any(holds_media(row.values.get(name)) for row in rows)]
    notes = [f"column {name!r} holds images or other media, and is not among the results" for name in media]
    there = tuple(dict.fromkeys((*(name for name in table.columns if name not in media), *texts)))
    return Inputs(table.name, there, rows, RowReader(columns, None, table.base, allow_outside), tuple(notes))


def _checked_rows(
    table: Table, columns: TableColumns, expected: Sequence[str], texts: Mapping[str, str]
) -> Sequence[TableRow]:
    """The rows of a table that has what a judge needs."""
    images = tuple(columns.images)
    renamed = len(images) == 1 and images[0] not in table.columns
    advice = "name the column with the images with image_column=" if renamed else ""
    require_columns(table.name, table.columns, expected, advice, option="image_column")
    if table.problems:
        raise DataError(f"{table.name}: {len(table.problems)} rows cannot be read; repair them:", table.problems)
    if not table.rows:
        raise DataError(f"{table.name}: no rows below the header; a judge needs images to work on")
    return _with_texts(table.rows, texts)


def _columns_of_parquet(path: Path, images: Sequence[str]) -> tuple[list[str] | None, tuple[str, ...]]:
    """The columns, and those with images inside the file; (None, ()) for a file that `read_table` will refuse."""
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    try:
        schema = parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return None, ()
    types = {field.name: field.type for field in schema if field.name in images}
    return schema.names, tuple(name for name, kind in types.items() if not _is_text(kind))


def _is_text(kind: Any) -> bool:
    """Whether a column's type is text, or a list of texts."""
    from pyarrow import types  # noqa: PLC0415 - slow to import, and needed for this format only

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def check_usable(inputs: Inputs) -> None:
    """Checks that a row can be used, without opening any image; it reads no row after the first that can.

    Raises:
        DataError: If none of them can be used.
    """
    if inputs.stored is not None:
        return
    lines = []
    for row in inputs.rows:
        problems = _problems(inputs.reader.read(row))
        if not problems:
            return
        lines.append(f"{row.where}: {'; '.join(problems)}")
    more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    base = inputs.reader.base
    where = "" if base is None else f" (paths start from the folder {base})"
    raise DataError(
        f"{inputs.name}: none of the images can be used{where}:",
        [*lines[:_SHOWN], *more],
        option=blamed_option(lines),
    )


def _problems(draft: Draft) -> list[str]:
    if draft.problems:
        return draft.problems
    files = [source for _, source in draft.images if isinstance(source, (str, Path)) and not _is_address(source)]
    alone = len(draft.images) == 1
    return [f"{draft.place if alone else file}: no such file" for file in files if not os.path.exists(file)]


def read_images(draft: Draft) -> list[bytes | str]:
    """Returns a row's images as their bytes or URLs, in order.

    Raises:
        ImageError: If the row cannot be used, or an image cannot be read.
    """
    if draft.problems:
        raise ImageError("; ".join(draft.problems))
    found = []
    for name, source in draft.images:
        try:
            found.append(content(source))
        except ImageError as error:
            where = "" if len(draft.images) == 1 else f"{name}: {draft.place}: "
            raise ImageError(f"{where}{error.reason}") from error.__cause__
    return found


def content_key(draft: Draft, prints: Sequence[Print]) -> str:
    """Returns the key of a row's verdict: a hash of its images, given by theirs, and its context."""
    belongs = [*prints[0], draft.context] if len(prints) == 1 else [draft.filled(prints), draft.context]
    return hashlib.sha256(json.dumps(belongs).encode()).hexdigest()


def images_key(prints: Sequence[Print]) -> str:
    """Returns a hash of a row's images alone, given by theirs, whatever their order and the context."""
    return hashlib.sha256(json.dumps(sorted(prints)).encode()).hexdigest()


def print_of(image: bytes | str) -> Print:
    """Returns what an image is, and its hash."""
    kind, data = ("url", image.encode()) if isinstance(image, str) else ("bytes", image)
    return kind, hashlib.sha256(data).hexdigest()
