"""Images that were fetched, kept for the next draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from blpo_dspy.data.sources.hub.errors import kept_nowhere
from blpo_dspy.errors import DataError
from blpo_dspy.files import replacing


@dataclass(frozen=True)
class ImageCache:
    """Fetched images by what they were fetched by; names of the dataset are hashed, never used as paths."""

    folder: Path

    def get(self, *key: object) -> bytes | None:
        """Returns the image that was put under this key.

        Raises:
            DataError: If the folder cannot be read.
        """
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(kept_nowhere("HF_ASSETS_CACHE", error)) from error

    def put(self, data: bytes, *key: object) -> None:
        """Keeps an image; the file is whole or not there.

        Raises:
            DataError: If the folder cannot be written.
        """
        try:
            with replacing(self._path(key)) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise DataError(kept_nowhere("HF_ASSETS_CACHE", error)) from error

    def _path(self, key: tuple[object, ...]) -> Path:
        return self.folder / hashlib.sha256(repr(key).encode()).hexdigest()
