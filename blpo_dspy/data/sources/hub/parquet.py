"""Rows of a dataset repository: the label columns of all rows, then the images of a few."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from fsspec.utils import merge_offset_ranges

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.sources.hub.ranges import RangeFile
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.data.tables import class_names, named, require_columns
from blpo_dspy.errors import DataError

if TYPE_CHECKING:
    import datasets
    from pyarrow import parquet

Cells = dict[str, Any]
HubRows: TypeAlias = "_ParquetRows | _LoadedRows"
"""The rows of one split: the names of all columns, what some hold in every row, the cells of one in some rows."""

_GAP = 1 << 14  # bytes; fetching a gap of this size is cheaper than one more request


def open_rows(hub: Hub, split: str, config: str | None = None) -> HubRows:
    """Returns the rows of a split as `datasets` finds it, or an error that lists the splits or configurations.

    Parquet files are read in ranges: label columns first, then the row groups with the wanted images. Files in other
    formats are loaded as a whole.
    """
    import datasets  # noqa: PLC0415 - slow to import, and only needed where a Hub dataset is read
    from huggingface_hub.errors import HTTPError  # noqa: PLC0415

    hub.check_access()
    where, revision = (hub.repo, hub.commit) if hub.local_dir is None else (str(hub.local_dir.resolve()), None)
    with hub.clear_errors():
        try:
            builder = datasets.load_dataset_builder(where, config, revision=revision, token=hub.token)
        except (ValueError, RuntimeError) as error:  # an unknown configuration, no data files; a loading script
            raise DataError(f"{hub.place} cannot be read ({' '.join(str(error).split())[:300]})") from error
        files = {str(name): [str(file) for file in found] for name, found in (builder.config.data_files or {}).items()}
        if split not in files:
            raise DataError(f"{hub.place} has no split {split!r}; the splits are {', '.join(files) or 'none'}")
        names = [hub.name_of(file) for file in files[split]]
        if names and all(name is not None and name.endswith(".parquet") for name in names):
            return _ParquetRows(hub, [name for name in names if name is not None])
        try:
            dataset = datasets.load_dataset(where, config, split=split, revision=revision, token=hub.token)
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, (OSError, HTTPError)):
                raise error.__cause__ from error
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise DataError(f"{hub.place}: its files are not a readable table ({reason})") from error
    return _LoadedRows(dataset, paths=builder.name == "imagefolder")


class _ParquetRows:
    def __init__(self, hub: Hub, names: Sequence[str]) -> None:
        self._files = [_parquet_file(hub, name) for name in names]
        self.columns = tuple(self._files[0][1].schema_arrow.names)
        for name, (_, file) in zip(names, self._files, strict=True):
            require_columns(name, file.schema_arrow.names, self.columns)
        sizes = [
            (file, group, file.metadata.row_group(group).num_rows)
            for _, file in self._files
            for group in range(file.metadata.num_row_groups)
        ]
        starts = itertools.accumulate((size for _, _, size in sizes), initial=0)
        self._groups = [(start, size, file, group) for start, (file, group, size) in zip(starts, sizes, strict=False)]

    def read(self, columns: Sequence[str]) -> list[Cells]:
        rows: list[Cells] = []
        for source, file in self._files:
            source.prefetch(_spans(file.metadata, columns))
            rows += file.read(columns=list(columns)).to_pylist()
            source.prefetch([])
        classes = class_names(self._files[0][1].schema_arrow)
        return [named(row, classes) for row in rows]

    def cells(self, column: str, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for start, size, file, group in self._groups:
            wanted = [row for row in rows if start <= row < start + size]
            if wanted:
                cells = file.read_row_group(group, columns=[column]).column(column)
                yield from ((row, cells[row - start].as_py()) for row in wanted)


def _parquet_file(hub: Hub, name: str) -> tuple[RangeFile, parquet.ParquetFile]:
    import pyarrow  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    source = hub.open(name)
    try:
        return source, parquet.ParquetFile(source)
    except pyarrow.ArrowException as error:
        raise DataError(f"{name}: not readable as Parquet ({' '.join(str(error).split())})") from None


def _spans(metadata: Any, columns: Sequence[str]) -> list[tuple[int, int]]:
    """The byte ranges of these columns in a Parquet file; ranges with small gaps are merged."""
    spans: list[tuple[int, int]] = []
    for group, position in itertools.product(range(metadata.num_row_groups), range(metadata.num_columns)):
        chunk = metadata.row_group(group).column(position)
        if any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns):
            start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            spans.append((start, start + chunk.total_compressed_size))
    starts, stops = ([span[end] for span in spans] for end in (0, 1))
    _, starts, stops = merge_offset_ranges([""] * len(spans), starts, stops, max_gap=_GAP)
    return list(zip(starts, stops, strict=True))


class _LoadedRows:
    def __init__(self, dataset: datasets.Dataset, paths: bool) -> None:
        self._dataset = dataset
        self._paths = paths  # an image folder's paths are of files that datasets itself found
        self.columns = tuple(dataset.column_names)

    def read(self, columns: Sequence[str]) -> list[Cells]:
        rows = self._dataset.select_columns(list(columns))
        classes = class_names(rows.features.arrow_schema)
        return [named(row, classes) for row in rows.to_list()]

    def cells(self, column: str, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
        import datasets  # noqa: PLC0415

        cells = self._dataset.select_columns([column])
        if isinstance(cells.features[column], datasets.Image):
            cells = cells.cast_column(column, datasets.Image(decode=False))
        for row in rows:
            cell = cells[row][column]
            if self._paths and isinstance(cell, dict) and cell["bytes"] is None:
                yield row, _read(cell["path"])
            else:
                yield row, cell


def _read(path: str) -> bytes | ImageError:
    """The file at a path of `datasets`, which may be a member of an archive."""
    from datasets.utils.file_utils import xopen  # noqa: PLC0415

    try:
        with xopen(path, "rb") as file:
            return cast(bytes, file.read())
    except FileNotFoundError:
        return ImageError("not found")
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        return ImageError(f"cannot be read ({getattr(error, 'strerror', None) or error})")
