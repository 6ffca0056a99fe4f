"""Which contents of a prediction are in which shard.

The folder `<out>.shards` holds `manifest.json`, which says what verdicts depend on and which contents are in which
shard, and for each shard its part, a Parquet file with a verdict for each content, and its journal. A content is a hash
of the images and context of a row. One process at a time writes a shard: it holds the lock of the shard's journal.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blpo_dspy.calls.journal_file import JournalError, JournalInUseError
from blpo_dspy.calls.journal_lines import differences
from blpo_dspy.files import write_json

FORMAT_VERSION = 1
SHARD_ROWS = 500
"""Contents of a shard, unless it would leave processes idle."""
MANIFEST = "manifest.json"
SUFFIX = ".shards"


def folder_of(out: Path) -> Path:
    """Returns the folder with the shards of an output."""
    return out.with_name(out.name + SUFFIX)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder of shards, which is made if need be, while the block runs.

    Raises:
        JournalError: If another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{MANIFEST}.lock", timeout=0):
            yield
    except Timeout as error:
        raise JournalInUseError(
            f"{folder}: another run is judging these shards; wait for it, or name another output"
        ) from error
    except OSError as error:
        raise JournalError(f"{folder}: cannot be written ({error.strerror or error}); name another output") from error


@dataclass
class Manifest:
    """Which contents are in which shard.

    Attributes:
        path: Its file.
        fingerprint: What verdicts depend on apart from the rows.
        shards: The contents of each shard, in order.
        images: The shard of each image, where several contents may have the same one.
    """

    path: Path
    fingerprint: Mapping[str, Any]
    shards: list[list[str]] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, fingerprint: Mapping[str, Any]) -> Manifest:
        """Returns the manifest in a folder, or an empty one.

        That of another run gives way where its shards kept nothing, as when a model could not be used.

        Raises:
            JournalError: If it is damaged, of another version, or that of another judge or other models.
        """
        path, plain = folder / MANIFEST, json.loads(json.dumps(fingerprint, default=str))
        if not path.exists():
            return cls(path, plain)
        try:
            data = json.loads(path.read_bytes())
            if data["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {data['format_version']!r}, not {FORMAT_VERSION}")
            found = cls(path, data["fingerprint"], [list(map(str, s)) for s in data["shards"]], dict(data["images"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise JournalError(f"{path}: cannot be read ({error}); restore it, or name another output") from error
        if differing := differences(found.fingerprint, plain):
            if not any(_kept(path) for kind in ("parquet", "jsonl") for path in folder.glob(f"part-*.{kind}")):
                return cls(path, plain)
            listed = "\n".join(f"  - {difference}" for difference in differing)
            raise JournalError(
                f"{path}: these are the shards of another run, which differs in:\n{listed}\nrepeat the call as it was "
                "to continue that run, or name another output"
            )
        return found

    @property
    def contents(self) -> dict[str, int]:
        """The shard of each content."""
        return {key: number for number, keys in enumerate(self.shards) for key in keys}

    def add(self, images: Mapping[str, str], shard_rows: int) -> None:
        """Puts contents that are new into further shards, those with equal images into one, and writes the file.

        Args:
            images: The hash of the images of each content, in order.
            shard_rows: About how many contents a shard gets.

        Raises:
            BlpoError: If the file cannot be written.
        """
        known, new = self.contents, len(self.shards)
        for key, image in images.items():
            if key in known:
                continue
            if image not in self.images:
                if len(self.shards) == new or len(self.shards[-1]) >= shard_rows:
                    self.shards.append([])
                self.images[image] = len(self.shards) - 1
            self.shards[self.images[image]].append(key)
        if any(key not in known for key in images):
            own = set(images.values()) - set(images)  # where each image has one content, its hash says nothing new
            kept = {image: number for image, number in self.images.items() if own}
            data = {"fingerprint": self.fingerprint, "shards": self.shards, "images": kept}
            write_json(self.path, {"format_version": FORMAT_VERSION, **data}, indent=None)

    def part(self, number: int) -> Path:
        """Returns the file of a shard's verdicts."""
        return self.path.with_name(f"part-{number:05}.parquet")


def _kept(path: Path) -> bool:
    """Whether a part holds a row, or its journal a line after the first one, which says whose it is.

    A part that is damaged holds none: its journal has them all.
    """
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            return len(lines.readline()) < os.path.getsize(path)
    import pyarrow  # noqa: PLC0415 - slow to import, and seldom needed here
    from pyarrow import parquet  # noqa: PLC0415

    try:
        return int(parquet.read_metadata(path).num_rows) > 0
    except (OSError, pyarrow.ArrowException):
        return False
