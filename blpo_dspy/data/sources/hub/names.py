"""Finding an image by the name that a table gives it; such names are looked up, never used as paths."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from blpo_dspy.data.images.prepare import ImageError
from blpo_dspy.errors import DataError

T = TypeVar("T")


class NameIndex(Generic[T]):
    """Entries by name: by the whole name first, else by the base name if only one entry has it.

    The Unicode form (NFC or NFD) and backslashes are normalized. Of entries with the same whole name the last one
    counts, as when an archive is unpacked.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._whole: dict[str, T] = {_plain(name): entry for name, entry in entries}
        self._base: dict[str, list[str]] = {}
        for name in self._whole:
            self._base.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def find(self, name: str, folder: str = "") -> T:
        """Returns the entry of this name, looked for in `folder` first."""
        plain = _plain(name)
        for whole in (_plain(f"{folder}/{name}"), plain):
            if whole in self._whole:
                return self._whole[whole]
        same = self._base.get(plain.rsplit("/", 1)[-1], [])
        if not same:
            raise ImageError("not found", name)
        if len(same) > 1:
            raise ImageError(f"{len(same)} files have this name", name)
        return self._whole[same[0]]


class ImageFolder:
    """The image files below a folder."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder" if not folder.exists() else f"{folder}: not a folder")
        files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
        self._index = NameIndex((path.relative_to(folder).as_posix(), path) for path in sorted(files))

    def read(self, names: Sequence[str], folder: str = "") -> Iterator[bytes | ImageError]:
        """Yields for each name, in order, the bytes of the file or the error."""
        for name in names:
            try:
                yield self._index.find(name, folder).read_bytes()
            except ImageError as error:
                yield error
            except OSError as error:
                yield ImageError(f"cannot be read ({error.strerror})", name)


def _plain(name: str) -> str:
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))
