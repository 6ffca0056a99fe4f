"""Rows of named values, each with its position: from CSV, JSONL, Parquet, an image folder, or a table in memory."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from blpo_dspy.data.images.encoding import kind_of
from blpo_dspy.data.images.prepare import MAX_FILE
from blpo_dspy.errors import BlpoError, DataError, brief
from blpo_dspy.files import plain_cell

if TYPE_CHECKING:
    import datasets
    import pandas

TableSource: TypeAlias = "str | os.PathLike[str] | pandas.DataFrame | Sequence[Mapping[str, Any]] | datasets.Dataset"
"""A file, or a table in memory."""

_DELIMITED = (".csv", ".tsv")
_JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
TABLE_SUFFIXES = (*_DELIMITED, *_JSON_LINES, *PARQUET)
_LONGEST_CELL = MAX_FILE * 4 // 3 + 1000  # base64 and the prefix of a data URI
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".avif", ".jp2", ".ppm", ".pgm", ".ico"),
)
_COLUMNS_SHOWN = 30

RENAMED = "the publishers may have renamed it: pin an older revision=…, or use a copy with local_dir=…"
"""What to do about a missing column of a published set."""


class TableRow(NamedTuple):  # a table has as many as a million
    """One row and its position ("train.csv:12"), for messages."""

    where: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows as they were read; their values are not checked yet.

    Args:
        name: The source, as messages name it.
        columns: The columns that it has.
        rows: In order.
        base: The folder that relative image paths start from and must stay in; None if its paths are the caller's own.
        problems: One line per row that could not be read at all.
        notes: What was skipped, one line each.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    base: Path | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def in_memory(source: object) -> bool:
    """Whether a source is a table in memory: a DataFrame, a Dataset, or a list of dictionaries."""
    if type(source).__module__.partition(".")[0] in ("pandas", "datasets"):
        return True
    listed = isinstance(source, Sequence) and not isinstance(source, (str, bytes))
    return listed and any(isinstance(row, Mapping) for row in cast("Sequence[object]", source))


def read_table(source: TableSource, columns: Sequence[str], *, keep_unnamed: bool = False) -> Table:
    """Returns the rows of a table in memory or a file (by its suffix); of the columns, at least those that are named.

    Args:
        source: The table.
        columns: The columns that are needed.
        keep_unnamed: Whether columns of a .csv or .tsv file whose header is empty are read, under a name by position.

    Raises:
        DataError: If the source cannot be read as a table.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _read_memory(source, columns)
    path = Path(source)
    _check_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix in _DELIMITED:
            return _read_delimited(path, columns, keep_unnamed=keep_unnamed)
        if suffix in _JSON_LINES:
            return _read_json_lines(path)
        if suffix in PARQUET:
            return _read_parquet(path, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    known = ", ".join(TABLE_SUFFIXES)
    raise DataError(f"{path}: not a table that can be read; it should end in one of {known}, or be an image folder")


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such table") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{brief(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: a folder, not a table")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: a pipe, socket or device, not a file; write the table to a file first")


def listed_columns(columns: Sequence[str]) -> str:
    """Returns the names of columns for a message."""
    more = f" and {len(columns) - _COLUMNS_SHOWN} more" if len(columns) > _COLUMNS_SHOWN else ""
    return ", ".join(brief(repr(name)) for name in columns[:_COLUMNS_SHOWN]) + more or "none"


def _check_names(path: Path | str, names: Sequence[str]) -> None:
    """Refuses repeated column names."""
    twice = sorted(name for name, times in Counter(names).items() if name and times > 1)
    if twice:
        raise DataError(f"{path}: the header names {listed_columns(twice)} more than once; rename the columns")


def _read_delimited(path: Path, columns: Sequence[str], *, keep_unnamed: bool) -> Table:
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    rows: list[TableRow] = []
    problems: list[str] = []
    notes: tuple[str, ...] = ()
    reader = None
    with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
        try:
            delimiter = _delimiter(file.readline(), columns, usual)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [plain_cell(name.strip()) for name in next(reader, [])]
            _check_names(path, header)
            if keep_unnamed:
                header, notes = _all_named(header)
            wanted = [name for name in columns if name in header]
            start = reader.line_num + 1
            for cells in reader:
                where, start = f"{path.name}:{start}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    problems.append(f"{where}: {len(cells)} cells, but the header has {len(header)}; check the quotes")
                else:
                    rows.append(TableRow(where, _cells(header, cells, wanted)))
        except csv.Error as error:
            line = 1 if reader is None else reader.line_num
            raise DataError(f"{path}:{line}: not readable as CSV ({error})", problems) from None
    return Table(str(path), tuple(filter(None, header)), tuple(rows), path.parent, tuple(problems), notes)


def _all_named(header: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """A header with a name for each column, and a note on those that had none."""
    names: list[str] = []
    for number, name in enumerate(header, 1):
        made_up = f"column_{number}"
        while made_up in header:
            made_up += "_"
        names.append(name or made_up)
    made = [name for name, given in zip(names, header, strict=True) if not given]
    has, are = ("1 column has", "is") if len(made) == 1 else (f"{len(made)} columns have", "are")
    note = f"{has} no name in the header, and {are} kept as {listed_columns(made)}"
    return names, (note,) if made else ()


def _cells(header: Sequence[str], cells: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """The cells by the names of their columns, unnamed ones left out; cells of `wanted` are stripped."""
    named = dict(zip(header, map(plain_cell, cells), strict=True))
    named.pop("", None)
    for name in wanted:
        named[name] = named[name].strip()
    return named


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lets cells be as long as the data URI of the largest image; the limit is global to the process."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(header: str, columns: Sequence[str], usual: str) -> str:
    """The delimiter under which the header shows the most of the columns; the usual one if none shows more."""

    def found(delimiter: str) -> int:
        return len({name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])} & set(columns))

    return max((usual, ",", ";", "\t"), key=found)


def _read_json_lines(path: Path) -> Table:
    rows, problems = [], []
    names: dict[str, None] = {}
    beginning = ""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}:{number}"
            if not line.strip():
                continue
            beginning = beginning or line.lstrip()[0]
            try:
                values = json.loads(line, object_pairs_hook=_object)
                if not isinstance(values, dict):
                    raise BlpoError(f"not a JSON object but {type(values).__name__}")
            except BlpoError as error:
                problems.append(f"{where}: {error}")
            except (ValueError, RecursionError) as error:
                problems.append(f"{where}: not JSON ({error})")
            else:
                names.update(dict.fromkeys(values))
                rows.append(TableRow(where, values))
    if problems and not rows:
        why = "the file is one JSON array" if beginning == "[" else "none of its lines is a JSON object"
        raise DataError(
            f"{path}: {why}, and JSON Lines have an object with the columns on each line; write it so:", problems
        )
    return Table(str(path), tuple(names), tuple(rows), path.parent, tuple(problems))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; column names, which each row repeats, are interned."""
    values = {sys.intern(name): value for name, value in pairs}
    if len(values) < len(pairs):
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        raise BlpoError(f"{listed_columns(twice)} more than once in one object")
    return values


def _read_parquet(path: Path, columns: Sequence[str]) -> Table:
    import pyarrow  # noqa: PLC0415 - slow to import, and needed for this format only
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_names(path, schema.names)
            values = file.read(columns=[name for name in schema.names if name in columns]).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not readable as Parquet ({' '.join(str(error).split())})") from None
    classes = class_names(schema)
    rows = tuple(TableRow(f"{path.name}, row {i}", named(row, classes)) for i, row in enumerate(values, 1))
    return Table(str(path), tuple(schema.names), rows, path.parent)


def class_names(schema: Any) -> dict[str, list[str]]:
    """Returns the names of class labels by column, as `datasets` keeps them in the metadata of a schema of Arrow."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        named = {name: f for name, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
        return {name: list(f["names"]) for name, f in named.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):  # no metadata, or that of another writer
        return {}


def _read_memory(source: object, columns: Sequence[str]) -> Table:
    package = type(source).__module__.partition(".")[0]
    if package == "datasets":
        return _read_dataset(source, columns)
    if package == "pandas" and hasattr(source, "columns"):
        return _read_frame(source)
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return _read_list(source)
    raise DataError(
        f"{type(source).__name__} is not a table: give the path of one, a pandas.DataFrame, a list of dictionaries, "
        "or a datasets.Dataset"
    )


def _read_frame(frame: Any) -> Table:
    names = list(frame.columns)
    _check_names("the DataFrame", [str(name) for name in names])
    if odd := [name for name in names if not isinstance(name, str)]:
        raise DataError(f"the DataFrame has columns that are not named by text ({listed_columns(odd)}); rename them")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return Table("the DataFrame", tuple(names), _numbered(rows), Path.cwd())


def _read_list(source: Sequence[object]) -> Table:
    problems = [
        f"row {i}: a {type(row).__name__}, not a dictionary of columns"
        for i, row in enumerate(source, 1)
        if not isinstance(row, Mapping)
    ]
    rows = [row for row in source if isinstance(row, Mapping)]
    names = dict.fromkeys(str(name) for row in rows for name in row)
    return Table("the list", tuple(names), _numbered(rows), Path.cwd(), tuple(problems))


def _numbered(rows: Iterable[Mapping[str, Any]]) -> tuple[TableRow, ...]:
    return tuple(TableRow(f"row {i}", dict(row)) for i, row in enumerate(rows, 1))


def _read_dataset(source: object, columns: Sequence[str]) -> Table:
    import datasets  # noqa: PLC0415 - slow to import, and already imported if there is a Dataset

    if not isinstance(source, datasets.Dataset):
        raise DataError(
            f"a {type(source).__name__} is not a single table in memory; pick a split, as in source['train'], "
            "or take rows with datasets.Dataset.from_list(list(source.take(200)))"
        )
    table = source.with_format(None).select_columns([name for name in source.column_names if name in columns])
    classes: dict[str, list[str]] = {}
    base: Path | None = Path.cwd()
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))  # keeps the original bytes
            base = None
        elif isinstance(feature, datasets.ClassLabel):
            classes[name] = feature.names
    return Table("the dataset", tuple(source.column_names), _numbered(named(row, classes) for row in table), base)


def named(row: dict[str, Any], classes: dict[str, list[str]]) -> dict[str, Any]:
    """Returns a row with the names of its class labels instead of their numbers (datasets writes -1 for none)."""
    for column, names in classes.items():
        number = row.get(column)
        if isinstance(number, int):
            row[column] = names[number] if 0 <= number < len(names) else None
    return row


def read_folder(folder: Path, image_column: str, label_column: str | None, *, follow_links: bool = False) -> Table:
    """Returns one row per image file below a folder, sorted by path; its label is the name of its class sub-folder.

    Hidden files are skipped silently, files without the suffix of an image format with a note; an image without such a
    suffix in a class sub-folder is a problem. Without a label column, images may lie anywhere below
    the folder.

    Raises:
        DataError: If there is no image in it, or none in a class sub-folder where a label is needed.
    """
    found = _files(folder, follow_links)
    rows, problems = [], [f"{link}: a link to another folder; allow_outside=True follows it" for link in found.links]
    for path in found.images:
        name = path.as_posix()
        if label_column is None:
            rows.append(TableRow(name, {image_column: name}))
        elif len(path.parts) > 1:
            rows.append(TableRow(name, {image_column: name, label_column: path.parts[0]}))
        else:
            problems.append(f"{path}: not in a class sub-folder")
    misnamed = {} if label_column is None else _misnamed(folder, found.others, follow_links)
    problems += misnamed.values()
    if not rows:
        tables = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in TABLE_SUFFIXES)
        hint = f"; to use the table in it, name {' or '.join(tables)}" if tables else ""
        needed = "no images" if label_column is None else "no class sub-folders with images"
        raise DataError(f"{folder}: {needed}{hint}", problems)
    columns = (image_column,) if label_column is None else (image_column, label_column)
    notes = _skipped_note([path for path in found.others if path not in misnamed])
    return Table(str(folder), columns, tuple(rows), folder, tuple(problems), notes)


def listed_images(name: str, paths: Sequence[str], image_column: str) -> Table:
    """Returns one row per image, by its suffix, of a list of files below a folder that `name` names."""
    images = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise DataError(f"{name}: no images")
    notes = _skipped_note([Path(path) for path in paths if not path.lower().endswith(IMAGE_SUFFIXES)])
    return Table(name, (image_column,), tuple(TableRow(path, {image_column: path}) for path in images), None, (), notes)


@dataclass(frozen=True)
class _Files:
    """What is below a folder, by paths from it, sorted: images by their names, other files, links not followed."""

    images: list[Path]
    others: list[Path]
    links: list[Path]


def _files(folder: Path, follow_links: bool) -> _Files:
    found: list[Path] = []
    links: list[Path] = []
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=follow_links):
        if os.path.realpath(parent) in seen:  # links can lead in circles
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links += [Path(parent, name) for name in folders if not follow_links and Path(parent, name).is_symlink()]
        below = Path(parent).relative_to(folder)
        found += [below / name for name in files if not name.startswith(".")]
    paths = sorted(found)
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    others = [path for path in paths if path.suffix.lower() not in IMAGE_SUFFIXES]
    return _Files(images, others, [link.relative_to(folder) for link in links])


def _misnamed(folder: Path, others: Sequence[Path], follow_links: bool) -> dict[Path, str]:
    """The problems of images in class sub-folders that lack the suffix of an image format."""
    problems = {}
    for path in others:
        file = folder / path
        if len(path.parts) == 1 or not file.is_file() or (file.is_symlink() and not follow_links):
            continue
        kind = kind_of(file)
        if kind == "HEIC":
            problems[path] = f"{path}: a HEIC image, which is not read; save it as JPEG or PNG"
        elif kind is not None:
            problems[path] = f"{path}: a {kind} image by its content, not by its name; rename it, or move it elsewhere"
    return problems


def _skipped_note(paths: Sequence[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    kinds = Counter(path.suffix.lower() or "no suffix" for path in paths)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    what = "1 file that is not an image was" if len(paths) == 1 else f"{len(paths)} files that are not images were"
    return (f"{what} skipped: {listed}",)


def require_columns(
    where: str,
    seen: Sequence[str],
    needed: Iterable[str],
    advice: str = RENAMED,
    option: str | Sequence[str] = ("revision", "local_dir"),
) -> None:
    """Checks that a table has the columns that are read."""
    missing = [repr(name) for name in needed if name not in seen]
    if missing:
        advised = f"; {advice}" if advice else ""
        raise DataError(
            f"{where}: no column {' or '.join(missing)}; the columns are: {listed_columns(seen)}{advised}",
            option=option,
        )
