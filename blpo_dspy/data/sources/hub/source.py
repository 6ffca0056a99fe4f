"""A source on the Hugging Face Hub: what all of them share, and those whose images are cells of a table."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.data.sources.draw import Fetched, Source
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.parquet import HubRows, open_rows
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.data.sources.records import Listing, Record, collect, in_strata, strata_of
from blpo_dspy.data.tables import require_columns

RowKey: TypeAlias = "tuple[str | None, str, int]"  # configuration, split, number of the row


@dataclass(frozen=True, kw_only=True)
class HubSource(Source):
    """A source on the Hugging Face Hub; fetched files are kept in the caches of huggingface_hub.

    Args:
        revision: A commit, branch or tag; by default the one pinned by this library, or else the newest.
        token: An access token; without it that of HF_TOKEN or of `hf auth login` is used.
        local_dir: A folder with a copy of the repository's files under the same names; the Hub is then not contacted.
    """

    repo: ClassVar[str]
    _known_revision: ClassVar[str | None] = None

    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    local_dir: str | os.PathLike[str] | None = None

    @cached_property
    def hub(self) -> Hub:
        """The repository."""
        local = None if self.local_dir is None else Path(self.local_dir).expanduser()
        return Hub(self._repository, self.revision or self._known_revision, self.token, local)

    @property
    def _repository(self) -> str:
        """The id of the repository, "owner/name"."""
        return self.repo

    @property
    def page(self) -> str:
        """The page on the Hub, where terms are accepted."""
        return self.hub.page

    @property
    def pinned(self) -> str | None:
        """The commit that is read; None for a local copy."""
        return self.hub.commit if self.hub.local_dir is None else None

    def at(self, revision: str | None) -> Source:
        """Returns this source at a revision, unless its own or a local copy is given."""
        if revision is None or self.local_dir is not None or self.revision is not None:
            return self
        return replace(self, revision=revision)

    def fetch(self, records: Sequence[Record]) -> Fetched:
        """Yields the images, each fetched over the network at most once."""
        cache = self.hub.images
        missing = []
        for record in records:
            data = None if cache is None else cache.get(record.key)
            if data is None:
                missing.append(record)
            else:
                yield record, data
        for record, fetched in self._fetch_new(missing):
            if cache is not None and isinstance(fetched, bytes):
                cache.put(fetched, record.key)
            yield record, fetched

    @abstractmethod
    def _fetch_new(self, records: Sequence[Record]) -> Fetched:
        """Yields records with images that are not in the cache yet."""


def open_images(hub: Hub, archive: str) -> ZipImages | ImageFolder:
    """Returns the images in a zip archive of a repository; a local copy may hold it unpacked, as a folder so named."""
    folder = None if hub.local_dir is None else hub.local_dir / archive.removesuffix(".zip")
    if folder is not None and folder.is_dir() and not Path(f"{folder}.zip").exists():
        return ImageFolder(folder)
    return ZipImages(lambda: hub.open(archive), archive)


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
            return ImageError("no image" if cell is None else f"a {type(cell).__name__} instead of an image")
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
