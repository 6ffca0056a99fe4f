"""Predictions as a table that other programs open: Parquet, CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blpo_dspy.data.images.remote import FAILURES, copied, is_remote
from blpo_dspy.errors import BlpoError, brief, cause, check_kind
from blpo_dspy.files import check_path, replacing, spreadsheet_cell

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".csv", ".jsonl")
_ROWS_AT_ONCE = 1024

Rows = Callable[[], Iterator[Mapping[str, Any]]]


def check_target(path: Path) -> None:
    """Checks that a table can be written under a name.

    Raises:
        BlpoError: If the suffix is none of those that can be written, no file can have that name, or a folder is in the
            way.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BlpoError(f"{path}: its name should end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    check_path(path)
    if path.is_dir():
        raise BlpoError(f"{path}: a folder of this name is in the way; give the path of a file")


@dataclass(frozen=True)
class Output:
    """Where a table is made, and where it goes from there.

    No object store takes a file that grows bit by bit: a table with an address is made in the current folder, under the
    name that the address ends with, and copied to the address when it is complete.

    Attributes:
        path: The file.
        url: The address that it is copied to, "" for none.
    """

    path: Path
    url: str = ""

    @classmethod
    def at(cls, out: str | os.PathLike[str]) -> Output:
        """Returns the output of a path or an address, such as s3://bucket/predictions.parquet.

        Raises:
            BlpoError: If it is neither, and as `check_target`.
        """
        check_kind("out", out, (str, os.PathLike), "path of a file", 'out="predictions.parquet"')
        name = os.fspath(out)
        output = cls(Path(name.rpartition("/")[2]), name) if is_remote(name) else cls(Path(name))
        check_target(output.path)
        return output

    def send(self) -> None:
        """Copies the table to its address, if it has one.

        Raises:
            BlpoError: If it cannot be written there; the table stays.
        """
        if self.url:
            try:
                copied(self.path, self.url)
            except FAILURES as error:
                raise BlpoError(
                    f"{self.url}: cannot be written ({brief(cause(error))}); the table is complete in {self.path}, and "
                    "the same call copies it"
                ) from error


def write_rows(
    path: Path,
    columns: Sequence[str],
    rows: Rows,
    types: Mapping[str, type] | None = None,
    *,
    note: Mapping[str, str] | None = None,
) -> None:
    """Writes rows in the format of a file's suffix, so that the file is either complete or as it was before.

    Args:
        path: The file.
        columns: Their columns, in order; what a row lacks stays empty.
        rows: Gives the rows, from the first one on, each time it is called.
        types: The types of columns that are known; for Parquet, others have the one that holds all of their values, or
            text.
        note: Texts that a Parquet file holds beside its rows.

    Raises:
        BlpoError: If the file cannot be written.
    """
    write = {".csv": _write_csv, ".jsonl": _write_json_lines}.get(path.suffix.lower())
    try:
        with replacing(path) as temporary:
            if write is None:
                _write_parquet(temporary, columns, rows, types or {}, note)
            else:
                write(temporary, columns, rows)
    except OSError as error:
        raise BlpoError(f"{path}: cannot be written ({error.strerror or error}); repeat the call") from error


def _write_csv(path: Path, columns: Sequence[str], rows: Rows) -> None:
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([spreadsheet_cell(name) for name in columns])
        for row in rows():
            writer.writerow([spreadsheet_cell(_flat(row.get(name))) for name in columns])


def _write_json_lines(path: Path, columns: Sequence[str], rows: Rows) -> None:
    with path.open("w", encoding="utf-8", errors="replace") as file:
        for row in rows():
            values = {name: _plain(row.get(name)) for name in columns}
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(
    path: Path, columns: Sequence[str], rows: Rows, types: Mapping[str, type], note: Mapping[str, str] | None
) -> None:
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    found: dict[str, list[Any]] = {name: [] for name in columns if name not in types}
    for row in rows() if found else ():
        for name, values in found.items():
            values.append(row.get(name))
    known = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema(
        [(name, _type_of(found[name]) if name in found else known[types[name]]) for name in columns], note
    )
    fit = {field.name: _text if pyarrow.types.is_string(field.type) else _same for field in schema}
    with parquet.ParquetWriter(path, schema) as writer:
        for part in _parts(rows()):
            arrays = [pyarrow.array([fit[f.name](row.get(f.name)) for row in part], f.type) for f in schema]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _parts(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    part: list[Mapping[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == _ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _type_of(values: Sequence[Any]) -> pyarrow.DataType:
    """The Arrow type that holds all values as they are, or else that of text."""
    import pyarrow  # noqa: PLC0415

    if any(isinstance(value, str) for value in values):
        return pyarrow.string()
    try:
        found = pyarrow.array(values).type
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.string()
    return pyarrow.string() if pyarrow.types.is_null(found) else found


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.isascii()):  # most values
        return value
    flat = _flat(value)
    return None if flat is None else str(flat).encode("utf-8", "replace").decode()


def _flat(value: Any) -> Any:
    """A value for one cell: lists and the like as JSON."""
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, (list, dict)) else plain


def _plain(value: Any) -> Any:
    """A value as JSON knows it; what JSON doesn't know becomes text, and NaN nothing."""
    if value is None or isinstance(value, (str, int)):  # most values
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, float) else str(value)
