"""The images of a draw as a file, so that it can be repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.splits import NAMES
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
