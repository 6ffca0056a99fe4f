"""Images in an object store or another file system that fsspec knows (s3://, gs://, …), read lazily.

Only the folder is an address that the user gave; what a table says is a path below it.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blpo_dspy.data.images.encoding import ImageError
from blpo_dspy.errors import DataError, brief

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://.", re.IGNORECASE)
_OF_THE_WEB = ("http", "https", "data")
_REFERENCES = ("gs",)  # of which an image is passed on to the model's provider
# One whose package is missing raises an ImportError.
FAILURES = (OSError, ValueError, ImportError)
"""The errors of a file system for what a user can put right."""


def is_remote(source: object) -> bool:
    """Whether a source is the address of a table or folder that fsspec reads.

    A `gs://` address without the suffix of a table or a slash at its end is an image, which the provider fetches.
    """
    match = _ADDRESS.match(source) if isinstance(source, str) else None
    if match is None or match[1].lower() in _OF_THE_WEB:
        return False
    return match[1].lower() not in _REFERENCES or str(source).endswith("/") or is_remote_table(str(source))


def is_remote_table(url: str) -> bool:
    """Whether an address is that of a table, by its suffix."""
    return url.lower().endswith((".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq"))


@dataclass(frozen=True)
class RemoteImage:
    """An image below a folder by address."""

    url: str

    def read(self, largest: int) -> bytes:
        """Returns its bytes."""
        try:
            with _opened(self.url) as file:
                data: bytes = file.read(largest + 1)
        except FileNotFoundError:
            raise ImageError("no such file") from None
        except FAILURES as error:
            raise ImageError(f"cannot be read ({brief(str(error) or type(error).__name__)})") from error
        if len(data) > largest:
            raise ImageError(f"the file has more than {largest} bytes")
        return data


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by its address, without a slash at the end."""

    url: str

    def image(self, name: str) -> RemoteImage:
        """Returns the image of a path below it."""
        path = posixpath.normpath(name)
        if path.startswith(("..", "/")):
            raise ImageError("leaves the folder of the table, which is not possible at an address", brief(name))
        return RemoteImage(f"{self.url}/{path}")

    def files(self) -> list[str]:
        """Returns the paths of all files below it, sorted, hidden ones aside."""
        try:
            import fsspec  # noqa: PLC0415 - only where a source is an address

            system, root = fsspec.core.url_to_fs(self.url)
            found = [posixpath.relpath(path, root) for path in system.find(root)]
        except FAILURES as error:
            raise unread(self.url, error) from error
        return sorted(path for path in found if not any(part.startswith(".") for part in path.split("/")))


def fetched(url: str, folder: Path) -> Path:
    """Copies a file by address into a folder, and returns its path."""
    path = folder / url.rpartition("/")[2]
    try:
        with _opened(url) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file)
    except FAILURES as error:
        raise unread(url, error) from error
    return path


def copied(path: Path, url: str) -> None:
    """Copies a file to an address.

    Raises:
        OSError, ValueError, ImportError: If it cannot be written there.
    """
    import fsspec  # noqa: PLC0415 - only where an output is an address

    with path.open("rb") as source, fsspec.open(url, "wb") as file:
        shutil.copyfileobj(source, file)


def unread(url: str, error: Exception) -> DataError:
    """Returns the error for what cannot be read at an address."""
    reason = "no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return DataError(f"{brief(url)}: cannot be read ({brief(reason)}); check the address, and the access to it")


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    import fsspec  # noqa: PLC0415 - only where a source is an address

    with fsspec.open(url, "rb") as file:
        yield file
