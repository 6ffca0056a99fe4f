"""A source on the Hugging Face Hub: what all of them share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from blpo_dspy.data.sources.draw import Fetched, Source
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.data.sources.records import Record


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
    """Returns the images in a zip archive of a repository; a local copy may hold it unpacked, in a folder of its name.

    Raises:
        DataError: When it is first read, if it is not there.
    """
    folder = None if hub.local_dir is None else hub.local_dir / archive.removesuffix(".zip")
    if folder is not None and folder.is_dir() and not Path(f"{folder}.zip").exists():
        return ImageFolder(folder)
    return ZipImages(lambda: hub.open(archive), archive)
