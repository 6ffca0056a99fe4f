"""Images to be judged, from a folder, a table or a list: their rows, without loading the images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blpo_dspy.data.images.prepare import ImageError, content, is_reference
from blpo_dspy.data.rows import Draft, RowReader, TableColumns, blamed_option
from blpo_dspy.data.tables import TableRow, read_folder, read_table, require_columns
from blpo_dspy.errors import BlpoError, DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_PARQUET = (".parquet", ".pq")
_IMAGE = "image"
# Rows of a Parquet file whose images are read at a time.
_READ_AT_ONCE = 16
_SHOWN = 10


@dataclass(frozen=True)
class Inputs:
    """The rows of one job.

    Attributes:
        name: The source, as messages name it.
        columns: The columns that it has, in order.
        rows: In order; images that lie inside a Parquet file are not in them.
        reader: Reads a row.
        notes: What was skipped, one line each.
        stored: The Parquet file that holds the images, which are read a few rows at a time.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[TableRow]
    reader: RowReader
    notes: tuple[str, ...] = ()
    stored: Path | None = None

    @property
    def image_column(self) -> str:
        """The column with the image."""
        return self.reader.columns.image

    def drafts(self, wanted: Collection[int]) -> Iterator[tuple[int, Draft]]:
        """Yields position and content of the wanted rows, in order; a row that cannot be used has `problems`.

        Raises:
            DataError: If the table that holds the images has changed.
        """
        numbered = ((number, row) for number, row in enumerate(self.rows) if number in wanted)
        if self.stored is None:
            yield from ((number, self.reader.read(row)) for number, row in numbered)
            return
        cells = _stored_images(self.stored, self.image_column, wanted)
        for number, row in numbered:
            try:
                values = {**row.values, self.image_column: next(cells)}
            except StopIteration:
                raise DataError(
                    f"{self.stored}: has fewer rows than before; repeat the call when it is complete"
                ) from None
            yield number, self.reader.read(row._replace(values=values))


def _stored_images(path: Path, column: str, wanted: Collection[int]) -> Iterator[Any]:
    """Yields the cells of a column of a Parquet file in the wanted rows, in order."""
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    position = 0
    try:
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(_READ_AT_ONCE, columns=[column]):
                cells = batch.column(0)
                yield from (cells[i].as_py() for i in range(len(cells)) if position + i in wanted)
                position += len(cells)
    except (OSError, IndexError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its images cannot be read ({reason}); repeat the call when it is complete") from error


def find_inputs(
    sources: Sequence[str | os.PathLike[str]],
    *,
    context: Sequence[str] = (),
    texts: Mapping[str, str] | None = None,
    image_column: str = _IMAGE,
    allow_outside: bool = False,
) -> Inputs:
    """Returns the rows of one folder, one table (by its suffix) or a list of images.

    Args:
        sources: A folder, in which images may lie anywhere; a table; or paths and URLs of images.
        context: The context inputs of the judge: columns of a table, unless `texts` has them.
        texts: Context texts that are the same for all images.
        image_column: The column of a table with the image: a path from the table's folder, a URL or the image itself.
        allow_outside: Whether images may lie outside the folder, or that of the table.

    Raises:
        DataError: If a table cannot be read, lacks a column or has no rows, or a folder has no images.
        BlpoError: If folders or tables are mixed with other sources, or context is missing or unknown.
    """
    odd = [source for source in sources if not isinstance(source, (str, os.PathLike))]
    if odd:
        kind = type(odd[0]).__name__
        raise BlpoError(f"a {kind} is not a path or URL of an image; judge.batch takes images in memory")
    texts = dict(texts or {})
    unknown = [name for name in texts if name not in context]
    if unknown:
        takes = f"takes {', '.join(context)}" if context else "takes no context"
        raise BlpoError(f"this judge {takes}, but there is a text for {', '.join(unknown)}")
    several = [str(source) for source in sources if _is_folder(source) or _is_table(source)]
    if several and len(sources) > 1:
        raise BlpoError(f"{several[0]}: one folder or table is judged at a time; give it alone, or images only")
    if not sources:
        raise BlpoError("there is nothing to judge; give a folder, a table or images")
    if several and _is_table(sources[0]):
        return _of_table(Path(sources[0]), context, texts, image_column, allow_outside)
    _check_texts(context, texts)
    if several:
        return _of_folder(Path(sources[0]), context, texts, allow_outside)
    return _of_images([os.fspath(source) for source in sources], context, texts)


def _is_folder(source: str | os.PathLike[str]) -> bool:
    return not _is_address(source) and os.path.isdir(source)


def _is_table(source: str | os.PathLike[str]) -> bool:
    return not _is_address(source) and os.fspath(source).lower().endswith(TABLE_SUFFIXES) and not _is_folder(source)


def _is_address(source: str | os.PathLike[str]) -> bool:
    return isinstance(source, str) and (is_reference(source) or source[:5].lower() == "data:")


def _check_texts(context: Sequence[str], texts: Mapping[str, str]) -> None:
    missing = [name for name in context if name not in texts]
    if missing:
        raise BlpoError(
            f"this judge takes {', '.join(context)}: give one --context NAME=TEXT for each (missing: "
            f"{', '.join(missing)}), or a table with such columns"
        )


def _reader(
    context: Sequence[str], base: Path | None, image_column: str = _IMAGE, allow_outside: bool = False
) -> RowReader:
    return RowReader(TableColumns(image_column, None, tuple(context), None, None), None, base, allow_outside)


def _with_texts(rows: Sequence[TableRow], texts: Mapping[str, str]) -> Sequence[TableRow]:
    return [TableRow(row.where, {**row.values, **texts}) for row in rows] if texts else rows


def _of_images(images: Sequence[str], context: Sequence[str], texts: Mapping[str, str]) -> Inputs:
    rows = [TableRow(f"image {number}", {_IMAGE: image, **texts}) for number, image in enumerate(images, 1)]
    return Inputs("the images", (_IMAGE, *texts), rows, _reader(context, None))


def _of_folder(folder: Path, context: Sequence[str], texts: Mapping[str, str], allow_outside: bool) -> Inputs:
    table = read_folder(folder, _IMAGE, None, follow_links=allow_outside)
    rows = _with_texts(table.rows, texts)
    reader = _reader(context, folder, allow_outside=allow_outside)
    return Inputs(str(folder), (_IMAGE, *texts), rows, reader, (*table.problems, *table.notes))


def _of_table(
    path: Path, context: Sequence[str], texts: Mapping[str, str], image_column: str, allow_outside: bool
) -> Inputs:
    expected = [image_column, *(name for name in context if name not in texts)]
    names, stored = _columns_of_parquet(path, image_column) if path.suffix.lower() in _PARQUET else (None, False)
    read = expected if names is None else [name for name in names if not (stored and name == image_column)]
    table = read_table(path, read)
    advice = "" if image_column in table.columns else "name the column with the images with image_column="
    require_columns(str(path), table.columns, expected, advice, option="image_column")
    if table.problems:
        raise DataError(f"{path}: {len(table.problems)} rows cannot be read; repair them:", table.problems)
    if not table.rows:
        raise DataError(f"{path}: no rows below the header; a judge needs images to work on")
    rows = _with_texts(table.rows, texts)
    columns = tuple(dict.fromkeys((*table.columns, *texts)))
    reader = _reader(context, table.base, image_column, allow_outside)
    return Inputs(str(path), columns, rows, reader, stored=path if stored else None)


def _columns_of_parquet(path: Path, image_column: str) -> tuple[list[str] | None, bool]:
    """The columns, and whether images lie in the file; (None, False) for a file that `read_table` will refuse."""
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    try:
        schema = parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException):
        return None, False
    types = {field.name: field.type for field in schema}
    kept = types.get(image_column)
    inside = kept is not None and not (pyarrow.types.is_string(kept) or pyarrow.types.is_large_string(kept))
    return schema.names, inside


def checked(inputs: Inputs) -> Inputs:
    """Returns the inputs, with a note on rows that cannot be used, without opening any image.

    Raises:
        DataError: If none of them can be used.
    """
    if inputs.stored is not None:
        return inputs
    found = [(row.where, _problems(inputs.reader.read(row))) for row in inputs.rows]
    lines = [f"{where}: {'; '.join(problems)}" for where, problems in found if problems]
    if len(lines) == len(inputs.rows):
        more = [f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        base = inputs.reader.base
        where = "" if base is None else f" (paths start from the folder {base})"
        raise DataError(
            f"{inputs.name}: none of the images can be used{where}:",
            [*lines[:_SHOWN], *more],
            option=blamed_option(lines),
        )
    if not lines:
        return inputs
    rows = "1 of {} rows" if len(lines) == 1 else f"{len(lines)} of {{}} rows"
    note = f"{rows.format(len(inputs.rows))} cannot be used and will have an error; the first is {lines[0]}"
    return replace(inputs, notes=(*inputs.notes, note))


def _problems(draft: Draft) -> list[str]:
    if draft.problems or not isinstance(draft.source, (str, Path)) or _is_address(draft.source):
        return draft.problems
    return [] if os.path.exists(draft.source) else [f"{draft.place}: no such file"]


def read_content(draft: Draft) -> tuple[bytes | str, str]:
    """Returns a row's image, as its bytes or its URL, and the key of its verdict: a hash of image and context.

    Raises:
        ImageError: If the row cannot be used, or its image cannot be read.
    """
    if draft.problems:
        raise ImageError("; ".join(draft.problems))
    assert isinstance(draft.source, (str, os.PathLike, bytes)), "files and tables hold no other images"
    image = content(draft.source)
    kind, data = ("url", image.encode()) if isinstance(image, str) else ("bytes", image)
    belongs = [kind, hashlib.sha256(data).hexdigest(), draft.context]
    return image, hashlib.sha256(json.dumps(belongs).encode()).hexdigest()
