"""What a draw returns: examples, their task, a report, and the images as a file, so that it can be repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dspy

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.records import Skipped
from blpo_dspy.data.sources.tasks import Task
from blpo_dspy.data.splits import NAMES, Splits, split_examples
from blpo_dspy.errors import BlpoError
from blpo_dspy.files import write_json

_FORMAT = "blpo-dspy drawn images"


@dataclass(frozen=True)
class ManifestEntry:
    """One image of a draw: its id, its label and the SHA-256 of its original bytes in hex."""

    id: str
    label: Label
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The images of a draw.

    Args:
        source: The name of the source.
        revision: The revision they were read at; None for local files.
        images: In the order of the examples.
        splits: Ids by the name of their split, if known.
    """

    source: str
    revision: str | None
    images: tuple[ManifestEntry, ...]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the manifest as JSON; the file is replaced as a whole.

        Raises:
            BlpoError: If the file cannot be written.
        """
        images = [[entry.id, entry.label, entry.sha256] for entry in self.images]
        data: dict[str, object] = {
            "format": _FORMAT,
            "source": self.source,
            "revision": self.revision,
            "images": images,
        }
        if self.splits:
            data["splits"] = {name: list(ids) for name, ids in self.splits.items()}
        write_json(path, data, indent=1)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Returns the manifest in a file that `save` wrote.

        Raises:
            BlpoError: If the file cannot be read or is not of that form.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != _FORMAT:
                raise KeyError("format")
            entries = tuple(ManifestEntry(str(id_), label, str(sha)) for id_, label, sha in data["images"])
            splits = {name: tuple(map(str, data["splits"][name])) for name in NAMES} if "splits" in data else {}
            unknown = {id_ for ids in splits.values() for id_ in ids} - {entry.id for entry in entries}
            if unknown:
                raise KeyError(f"splits name {sorted(unknown)[0]!r}, which is not an image of the draw")
            return cls(str(data["source"]), data["revision"], entries, splits)
        except OSError as error:
            raise BlpoError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BlpoError(f"{path}: not a list of drawn images as save_ids writes it ({reason})") from None


@dataclass(frozen=True)
class Report:
    """What was read and drawn.

    Args:
        page: The web page with the description.
        columns: The columns of its table.
        pool: Usable records per stratum.
        drawn: Drawn ones per stratum.
        skipped: Rows and images that were skipped.
        notes: What a user should know about these labels.
    """

    page: str
    columns: tuple[str, ...]
    pool: dict[str, int]
    drawn: dict[str, int]
    skipped: Skipped
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Returns the report in a few lines; without the names of images."""
        strata = ", ".join(f"{name} {self.drawn.get(name, 0)} of {count}" for name, count in self.pool.items())
        lines = [
            f"{self.page}: columns {', '.join(self.columns)}",
            f"drawn {sum(self.drawn.values())} of {sum(self.pool.values())} usable images: {strata}",
            f"skipped: {self.skipped.describe()}",
            *self.notes,
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Drawn:
    """Labelled images, fetched and prepared.

    Args:
        examples: With `image` and the context texts as inputs, `label`, `id`, `stratum`, perhaps `group`, and further
            fields of the source.
        task: The task of a judge for them.
        manifest: Names the images, so that the draw can be repeated.
        report: What was read and drawn.
    """

    examples: list[dspy.Example]
    task: Task
    manifest: Manifest
    report: Report

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the examples, in order."""
        return tuple(entry.id for entry in self.manifest.images)

    def save_ids(self, path: str | os.PathLike[str]) -> None:
        """Writes the ids of these images, for the `ids` of another draw.

        Raises:
            BlpoError: If the file cannot be written.
        """
        self.manifest.save(path)

    def split(self, train: int, val: int, test: int, *, seed: int = 0) -> Splits[dspy.Example]:
        """Returns disjoint splits of these sizes, each balanced over the strata as the draw is; groups are kept whole.

        Raises:
            DataError: If the draw has too few images, or groups don't fit into these sizes.
        """
        strata = LabelSpace(*self.report.drawn)
        marked = [
            dspy.Example(image=e.image, group=e.get("group"), label=e.stratum, position=i)
            for i, e in enumerate(self.examples)
        ]
        parts = split_examples(marked, labels=strata, sizes=(train, val, test), seed=seed)
        train_, val_, test_ = (
            [self.examples[e.position] for e in part] for part in (parts.train, parts.val, parts.test)
        )
        return Splits(train_, val_, test_, self.task.labels, parts.how)
