"""A source of labelled images, and the balanced, seeded draw from its records; only drawn images are fetched."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import dspy

from blpo_dspy.data.images.prepare import ImageError, PixelPolicy, PreparedImage, try_prepare_all
from blpo_dspy.data.sources.drawn import Drawn, Manifest, ManifestEntry, Report
from blpo_dspy.data.sources.records import BadRow, Listing, Record, Skipped
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.errors import BlpoError, DataError

Progress = Callable[[int, int], None]
Fetched = Iterator[tuple[Record, bytes | ImageError]]

_AT_ONCE = 32  # images in memory before they are prepared


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A published set of labelled images: labels are read first, and only drawn images are fetched.

    Its short name is the one that `open_source` takes.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def page(self) -> str:
        """The web page with the description and terms."""

    @property
    @abstractmethod
    def task(self) -> Task:
        """The task of a judge for it."""

    @property
    def identity(self) -> str:
        """The name of this source in a manifest."""
        return self.name

    @property
    def pinned(self) -> str | None:
        """The revision that is read; None for files on this machine."""
        return None

    @abstractmethod
    def listing(self) -> Listing:
        """Returns the records of all images with a usable label; no image is fetched or decoded.

        Raises:
            DataError: If the labels cannot be read.
        """

    @abstractmethod
    def fetch(self, records: Sequence[Record]) -> Fetched:
        """Yields each record with the bytes of its image, or the error, in any order."""

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
            return _draw_again(self.at(manifest.revision), manifest, policy, on_progress)
        listing = self.listing()
        queues, pool = _queues(listing, seed), listing.pool
        quotas = _quotas(2 * self.task.size if size is None else size, pool)
        if not allow_fewer:
            _check(self, quotas, pool, listing, listing.skipped)
        collector = _Collector(self, listing, policy, quotas, on_progress)
        used: set[str] = set()
        while wanted := [
            record
            for stratum, queue in queues.items()
            for record in _take(queue, collector.missing(stratum), used, distinct_groups)
        ]:
            collector.add(wanted)
        if not allow_fewer:
            _check(self, quotas, collector.counts, listing, collector.skipped)
        if not collector.taken:
            raise DataError(f"{self.page}: no usable image; skipped: {collector.skipped.describe()}")
        order = {record.id: position for position, record in enumerate(listing.records)}
        return collector.result(sorted(collector.taken, key=lambda item: order[item.record.id]))


def _draw_again(source: Source, manifest: Manifest, policy: PixelPolicy, on_progress: Progress | None) -> Drawn:
    """Exactly the images that a manifest names; all that is missing, or has another label or other bytes, is named."""
    listing = source.listing()
    known = {record.id: record for record in listing.records}
    problems = [f"{entry.id}: missing, or no longer usable" for entry in manifest.images if entry.id not in known]
    problems += [
        f"{entry.id}: labelled {known[entry.id].label}, but {entry.label} when it was drawn"
        for entry in manifest.images
        if entry.id in known and known[entry.id].label != entry.label
    ]
    _raise_changed(manifest, problems)
    wanted = [known[entry.id] for entry in manifest.images]
    quotas = Counter(record.stratum for record in wanted)
    collector = _Collector(source, listing, policy, quotas, on_progress, keep_repeated=True)
    collector.add(wanted)
    taken = {item.record.id: item for item in collector.taken}
    problems = [f"{id_}: {reason}" for id_, reason in collector.skipped.rows if id_ in known]
    problems += [
        f"{entry.id}: another image than when it was drawn"
        for entry in manifest.images
        if entry.id in taken and taken[entry.id].sha256 != entry.sha256
    ]
    _raise_changed(manifest, problems)
    return collector.result([taken[entry.id] for entry in manifest.images])


@dataclass(frozen=True)
class _Item:
    record: Record
    image: PreparedImage
    sha256: str


@dataclass
class _Collector:
    """Fetches records and keeps those whose image is usable, up to the quota of each stratum."""

    source: Source
    listing: Listing
    policy: PixelPolicy
    quotas: Mapping[str, int]
    on_progress: Progress | None
    keep_repeated: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    taken: list[_Item] = field(default_factory=list)
    _seen: set[object] = field(default_factory=set)
    _rejected: list[tuple[str, BadRow]] = field(default_factory=list)

    @property
    def skipped(self) -> Skipped:
        return Skipped((*self.listing.skipped.rows, *self._rejected))

    def missing(self, stratum: str) -> int:
        return self.quotas[stratum] - self.counts[stratum]

    def add(self, records: Sequence[Record]) -> None:
        """Fetches these; the order in which they arrive has no effect."""
        arrived: dict[str, tuple[str, PreparedImage | ImageError]] = {}
        for batch in _batches(self.source.fetch(records), _AT_ONCE):
            there = [(record.id, data) for record, data in batch if isinstance(data, bytes)]
            images = try_prepare_all([data for _, data in there], self.policy)
            for (id_, data), image in zip(there, images, strict=True):
                arrived[id_] = hashlib.sha256(data).hexdigest(), image
            for record, error in batch:
                if isinstance(error, ImageError):
                    self._rejected.append((record.id, BadRow("image missing", error.reason)))
            if self.on_progress is not None:
                self.on_progress(len(self.taken) + len(arrived), sum(self.quotas.values()))
        for record in records:
            if record.id in arrived:
                self._keep(record, *arrived[record.id])

    def _keep(self, record: Record, sha256: str, image: PreparedImage | ImageError) -> None:
        if isinstance(image, ImageError):
            self._rejected.append((record.id, BadRow("image unusable", image.reason)))
            return
        content = (sha256, *sorted(record.context.items()))
        if content in self._seen and not self.keep_repeated:
            self._rejected.append((record.id, BadRow("image already drawn")))
            return
        self._seen.add(content)
        self.counts[record.stratum] += 1
        self.taken.append(_Item(record, image, sha256))

    def result(self, items: Sequence[_Item]) -> Drawn:
        listing = self.listing
        entries = tuple(ManifestEntry(item.record.id, item.record.label, item.sha256) for item in items)
        report = Report(
            self.source.page,
            listing.columns,
            listing.pool,
            {stratum: self.counts[stratum] for stratum in listing.strata if self.counts[stratum]},
            self.skipped,
            listing.notes,
        )
        manifest = Manifest(self.source.identity, self.source.pinned, entries)
        return Drawn([_example(item) for item in items], self.source.task, manifest, report)


def _example(item: _Item) -> dspy.Example:
    record = item.record
    group = {} if record.group is None else {"group": record.group}
    known = {**record.extra, "label": record.label, "id": record.id, "stratum": record.stratum, **group}
    example = dspy.Example(image=item.image, **record.context, **known)
    return example.with_inputs("image", *record.context)


def _queues(listing: Listing, seed: int) -> dict[str, list[Record]]:
    """Records by stratum, each in a seeded order; the smallest first, so that it chooses its groups first."""
    found: dict[str, list[Record]] = {stratum: [] for stratum in listing.strata}
    for record in listing.records:
        found[record.stratum].append(record)
    for stratum, queue in found.items():
        random.Random(f"{seed}:draw:{stratum}").shuffle(queue)
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), item[0])))


def _quotas(size: int, pool: dict[str, int]) -> dict[str, int]:
    """An equal share for each stratum; the remainder goes to the largest."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BlpoError(f"size must be a whole number of at least 1, got {size!r}")
    share, over = divmod(size, len(pool) or 1)
    largest = sorted(pool, key=lambda stratum: -pool[stratum])[:over]
    return {stratum: share + (stratum in largest) for stratum in pool}


def _take(queue: list[Record], count: int, used: set[str], distinct: bool) -> list[Record]:
    """Removes the next `count` records from a queue: those of new groups first if `distinct`, last otherwise."""
    first: list[Record] = []
    rest: list[Record] = []
    for record in queue:
        new = record.group is None or record.group not in used
        if len(first) < count and new == distinct:
            first.append(record)
            used.update([] if record.group is None else [record.group])
        else:
            rest.append(record)
    short = count - len(first)
    used.update(record.group for record in rest[:short] if record.group is not None)
    queue[:] = rest[short:]
    return first + rest[:short]


def _check(
    source: Source, quotas: dict[str, int], there: Mapping[str, int], listing: Listing, skipped: Skipped
) -> None:
    """Raises a DataError with the histogram if a stratum cannot fill its quota."""
    pool = listing.pool
    lines = [f"{stratum}: {there[stratum]} of {quota}" for stratum, quota in quotas.items() if there[stratum] < quota]
    if lines or not pool:
        histogram = ", ".join(f"{stratum} {count}" for stratum, count in pool.items()) or "empty"
        raise DataError(
            f"{source.page}: {len(lines)} of {len(pool)} strata have too few usable images; take a smaller size=… "
            f"or another split; allow_fewer=True takes what there is. The histogram of usable labels: {histogram}; "
            f"skipped: {skipped.describe()}. Short are:",
            lines,
            option=("size", "allow_fewer"),
        )


def _raise_changed(manifest: Manifest, problems: Sequence[str]) -> None:
    if problems:
        raise DataError(
            f"{len(problems)} of the {len(manifest.images)} images of this draw have changed or are missing (revision "
            f"{manifest.revision}); use the same revision, options and files, or make a new draw:",
            problems,
        )


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    return iter(lambda: list(itertools.islice(items, size)), [])
