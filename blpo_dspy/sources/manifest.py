"""Which images a draw consists of, as a file by which it can be repeated."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.errors import BlpoError
from blpo_dspy.labels import Label

_FORMAT = "blpo-dspy drawn images"


@dataclass(frozen=True)
class ManifestEntry:
    """One image of a draw: its id, its label and the SHA-256 of its original bytes in hex."""

    id: str
    label: Label
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Which images a draw consists of.

    Args:
        source: The name of the source.
        revision: The revision they were read at; None for files on one's own machine.
        images: In the order of the examples.
    """

    source: str
    revision: str | None
    images: tuple[ManifestEntry, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the manifest as JSON; the file is complete or as it was before.

        Raises:
            BlpoError: If the file cannot be written.
        """
        target = Path(path)
        images = [[entry.id, entry.label, entry.sha256] for entry in self.images]
        data = {"format": _FORMAT, "source": self.source, "revision": self.revision, "images": images}
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(target)
        except OSError as error:
            raise BlpoError(f"{target}: cannot be written ({error.strerror})") from error
        finally:
            temporary.unlink(missing_ok=True)

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
            return cls(str(data["source"]), data["revision"], entries)
        except OSError as error:
            raise BlpoError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BlpoError(f"{path}: not a file that save_ids wrote ({type(error).__name__}: {error})") from None
