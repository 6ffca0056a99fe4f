"""A source of labelled images: labels are read first, and only drawn images are fetched."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from blpo_dspy.data.images.prepare import PixelPolicy
from blpo_dspy.data.sources.draw import Drawable, Fetched, Progress, draw_again, draw_balanced
from blpo_dspy.data.sources.drawn import Drawn
from blpo_dspy.data.sources.hub.names import ImageFolder
from blpo_dspy.data.sources.hub.repository import Hub
from blpo_dspy.data.sources.hub.zips import ZipImages
from blpo_dspy.data.sources.manifest import Manifest
from blpo_dspy.data.sources.records import Record
from blpo_dspy.errors import BlpoError


@dataclass(frozen=True, kw_only=True)
class Source(Drawable):
    """A published set of labelled images.

    Attributes:
        name: Short name, as `open_source` takes it.
    """

    name: ClassVar[str]

    @property
    def identity(self) -> str:
        """The name of this source in a manifest."""
        return self.name

    def at(self, revision: str | None) -> Source:
        """Returns this source at the revision that a manifest names."""
        return self

    def draw(
        self,
        size: int | None = None,
        *,
        seed: int = 0,
        ids: Manifest | str | os.PathLike[str] | None = None,
        distinct_groups: bool = True,
        allow_fewer: bool = False,
        policy: PixelPolicy | None = None,
        on_progress: Progress | None = None,
    ) -> Drawn:
        """Returns a balanced, seeded draw; an image that turns out unusable is replaced by the next of its stratum.

        Args:
            size: How many images, spread evenly over the strata; by default the size of the
                training and the test set of the paper's protocol.
            seed: Decides which images are drawn.
            ids: What `Drawn.save_ids` wrote: exactly those images are drawn, at the revision that it names; the
                other options are ignored.
            distinct_groups: Whether two images of one group (the same prompt, say) are drawn only where no others are
                left. With False such images are drawn first instead, since measures such as pairwise accuracy need
                pairs within a group.
            allow_fewer: Whether to draw fewer images where a stratum has too few, instead of failing.
            policy: How images are prepared.
            on_progress: Called with the number of images that are ready and the number that are wanted.

        Raises:
            DataError: If labels or images cannot be read, or a stratum has too few; it prints the histogram.
            BlpoError: If an option is out of range.
        """
        policy = policy or PixelPolicy()
        if ids is not None:
            manifest = ids if isinstance(ids, Manifest) else Manifest.load(ids)
            if manifest.source != self.identity:
                raise BlpoError(f"these ids were drawn from {manifest.source!r}, not from {self.identity!r}")
            return draw_again(self.at(manifest.revision), manifest, policy, on_progress)
        wanted = 2 * self.task.size if size is None else size
        return draw_balanced(self, wanted, seed, distinct_groups, allow_fewer, policy, on_progress)


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
