"""Sources whose images are cells of a table on the Hub."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, cast

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.sources.draw import Fetched
from blpo_dspy.data.sources.hub.parquet import HubRows, open_rows
from blpo_dspy.data.sources.hub.source import HubSource
from blpo_dspy.data.sources.records import Listing, Record, collect, in_strata, strata_of
from blpo_dspy.data.tables import require_columns

RowKey: TypeAlias = "tuple[str | None, str, int]"  # configuration, split, number of the row


@dataclass(frozen=True, kw_only=True)
class RowSource(HubSource):
    """Rows of one or more splits, each with an image, a label and perhaps texts.

    Args:
        split: A split of the dataset, or several as "train+test".
        config: The configuration (subset) of the dataset; its default if None.
    """

    _optional: ClassVar[tuple[str, ...]] = ()  # columns that are read if the table has them

    split: str = "train"
    config: str | None = None

    @property
    @abstractmethod
    def _image(self) -> str:
        """The column with the images."""

    @property
    @abstractmethod
    def _needed(self) -> tuple[str, ...]:
        """The other columns that are required."""

    @abstractmethod
    def _record(self, id_: str, key: RowKey, row: Mapping[str, Any]) -> Record:
        """Returns the record of a row or raises `BadRow`."""

    def _strata(self, records: Iterable[Record]) -> tuple[str, ...]:
        """Returns what a draw is balanced over: the labels, of scores the bins that records are in."""
        return strata_of(records, self.task.labels)

    def _decode(self, cell: object) -> bytes | ImageError:
        """Returns the encoded image in a cell; a path or an address in a dataset is not followed."""
        if isinstance(cell, Mapping):
            cell = cell.get("bytes")
        if not isinstance(cell, bytes):
            return ImageError("no image" if cell is None else f"a {type(cell).__name__} in place of an image")
        return cell

    def listing(self) -> Listing:
        """Returns the records of all usable rows; of the table only the columns with labels and texts are read."""
        rows = []
        columns: tuple[str, ...] = ()
        for split, table in self._tables.items():
            require_columns(f"{self.page}, split {split}", table.columns, (self._image, *self._needed))
            columns = table.columns
            read = [*self._needed, *(name for name in self._optional if name in columns)]
            rows += [(f"{split}/{i}", ((self.config, split, i), row)) for i, row in enumerate(table.read(read))]
        records, skipped = collect(rows, lambda id_, found: self._record(id_, *found))
        records = in_strata(records, self.task.labels)
        return Listing(records, self._strata(records), columns, skipped)

    def _fetch_new(self, records: Sequence[Record]) -> Fetched:
        by_key = {cast(RowKey, record.key): record for record in records}
        for split, table in self._tables.items():
            wanted = sorted(number for _, of, number in by_key if of == split)
            for number, cell in table.cells(self._image, wanted):
                yield by_key[self.config, split, number], cell if isinstance(cell, ImageError) else self._decode(cell)

    @cached_property
    def _tables(self) -> dict[str, HubRows]:
        return {split: open_rows(self.hub, split, self.config) for split in self.split.split("+")}
