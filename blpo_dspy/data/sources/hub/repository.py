"""Access to the Hugging Face Hub: files of a dataset repository, or of a copy of it in a local folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from fsspec.implementations.local import LocalFileSystem

from blpo_dspy.data.sources.hub.errors import OPTIONS, Repository, explain, unusable_cache
from blpo_dspy.data.sources.hub.ranges import RangeFile
from blpo_dspy.errors import DataError
from blpo_dspy.files import replacing

_COMMIT = re.compile(r"[0-9a-f]{40}")


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


@dataclass(frozen=True)
class Hub(Repository):
    """A repository whose files can be read."""

    @cached_property
    def commit(self) -> str | None:
        """The commit of the revision; None for a local copy."""
        if self.local_dir is not None or (self.revision and _COMMIT.fullmatch(self.revision)):
            return self.revision
        from huggingface_hub import HfApi  # noqa: PLC0415 - slow to import, and only needed where the Hub is used

        with self.clear_errors():
            return HfApi(token=self.token).dataset_info(self.repo, revision=self.revision).sha

    def check_access(self) -> None:
        """Checks that the files may be read, as this gives a clearer error than reading them."""
        if self.local_dir is None:
            from huggingface_hub import HfApi  # noqa: PLC0415

            with self.clear_errors():
                HfApi(token=self.token).auth_check(self.repo, repo_type="dataset")
        elif not self.local_dir.is_dir():
            raise DataError(f"{self.local_dir}: no such folder; {self._copy}", option="local_dir")

    def download(self, name: str) -> Path:
        """Returns the path of a whole file, fetched once and kept in the cache of huggingface_hub."""
        if self.local_dir is not None:
            return self._local(name)
        from huggingface_hub import hf_hub_download  # noqa: PLC0415

        with self.clear_errors(name):
            return Path(hf_hub_download(self.repo, name, repo_type="dataset", revision=self.commit, token=self.token))

    def open(self, name: str) -> RangeFile:
        """Returns a seekable file; only the ranges that are read are fetched."""
        if self.local_dir is not None:
            path = self._local(name)
            return RangeFile(partial(LocalFileSystem().cat_file, str(path)), path.stat().st_size)
        with self.clear_errors(name):
            return RangeFile(partial(self._read_remote, name), self._remote.info(f"{self._root}/{name}")["size"])

    def _read_remote(self, name: str, start: int, stop: int) -> bytes:
        # The read-ahead of fsspec's other caches would fetch megabytes around each small range.
        read = partial(self._remote.cat_file, f"{self._root}/{name}", start, stop, cache_type="none")
        with self.clear_errors(name):
            try:
                return cast(bytes, read())
            except RuntimeError:  # a thread that cannot connect closes the client that all threads share
                return cast(bytes, read())

    def name_of(self, address: str) -> str | None:
        """Returns the name of a file that `datasets` addresses; None if it is outside this repository."""
        root = f"hf://{self._root}/" if self.local_dir is None else f"{self.local_dir.resolve()}/"
        return address.removeprefix(root) if address.startswith(root) else None

    @cached_property
    def images(self) -> ImageCache | None:
        """The cache of fetched images; None for a local copy."""
        if self.local_dir is not None:
            return None
        from huggingface_hub import cached_assets_path, constants  # noqa: PLC0415

        kept_in = constants.HF_ASSETS_CACHE
        try:
            return ImageCache(cached_assets_path("blpo-dspy", self.repo, str(self.commit), assets_dir=kept_in))
        except (OSError, ValueError) as error:  # ValueError: a file is in the way
            raise DataError(unusable_cache(kept_in, error)) from error

    @cached_property
    def _remote(self) -> Any:
        from huggingface_hub import HfFileSystem  # noqa: PLC0415

        return HfFileSystem(token=self.token)

    @property
    def _root(self) -> str:
        return f"datasets/{self.repo}@{self.commit}"

    def _local(self, name: str) -> Path:
        assert self.local_dir is not None
        path = self.local_dir / name
        if not path.is_file():
            there = sorted(file.name for file in self.local_dir.iterdir()) if self.local_dir.is_dir() else []
            raise DataError(
                f"{self.local_dir}: no {name} in it; {self._copy}; it has: {', '.join(there[:20]) or 'nothing'}",
                option="local_dir",
            )
        return path

    @property
    def _copy(self) -> str:
        return f"local_dir=… takes a folder with the files of {self.page} under the same names"

    @contextmanager
    def clear_errors(self, name: str = "") -> Iterator[None]:
        """Turns the errors of the Hub's libraries into one clear message about a file."""
        from huggingface_hub.errors import HFValidationError, HTTPError  # noqa: PLC0415

        try:
            yield
        except (HTTPError, HFValidationError, OSError, RuntimeError) as error:
            raise DataError(explain(error, self, name), option=OPTIONS) from error
