"""A cache of fetched images, for the next draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.data.sources.hub.errors import unusable_cache
from blpo_dspy.errors import DataError
from blpo_dspy.files import replacing


@dataclass(frozen=True)
class ImageCache:
    """Fetched images by key; names of the dataset are hashed, never used as paths."""

    folder: Path

    def get(self, *key: object) -> bytes | None:
        """Returns the image stored under this key, None if there is none."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(unusable_cache(self.folder, error)) from error

    def put(self, data: bytes, *key: object) -> None:
        """Stores an image; a partial file is never left behind."""
        try:
            with replacing(self._path(key)) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise DataError(unusable_cache(self.folder, error)) from error

    def _path(self, key: tuple[object, ...]) -> Path:
        return self.folder / hashlib.sha256(repr(key).encode()).hexdigest()
