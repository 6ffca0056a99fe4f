"""The one seam to the Hugging Face Hub: files of a dataset repository, or of a copy of it in a local folder."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from blpo_dspy.errors import DataError
from blpo_dspy.sources.ranges import RangeFile

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Hub:
    """One dataset repository at one revision.

    Args:
        repo: Its id, "owner/name".
        revision: A commit, branch or tag; the newest commit of the main branch if None.
        token: An access token; without it that of HF_TOKEN or of `hf auth login` is used.
        local_dir: A folder with a copy of the repository's files; nothing is asked of the Hub then.
    """

    repo: str
    revision: str | None = None
    token: str | None = field(default=None, repr=False)
    local_dir: Path | None = None

    @property
    def page(self) -> str:
        """The page of the dataset, where terms are accepted."""
        return f"https://huggingface.co/datasets/{self.repo}"

    @property
    def place(self) -> str:
        """Where the files are looked for."""
        return self.page if self.local_dir is None else str(self.local_dir)

    @cached_property
    def commit(self) -> str | None:
        """The commit that the revision stands for; None for a local copy.

        Raises:
            DataError: If the Hub refuses access or cannot be reached.
        """
        if self.local_dir is not None or (self.revision and _COMMIT.fullmatch(self.revision)):
            return self.revision
        from huggingface_hub import HfApi  # noqa: PLC0415 - slow to import, and only needed where the Hub is asked

        with self.told():
            return HfApi(token=self.token).dataset_info(self.repo, revision=self.revision).sha

    def check_access(self) -> None:
        """Checks that the files may be read, where asking first gives the clearer answer.

        Raises:
            DataError: If the Hub refuses access or cannot be reached.
        """
        if self.local_dir is None:
            from huggingface_hub import HfApi  # noqa: PLC0415

            with self.told():
                HfApi(token=self.token).auth_check(self.repo, repo_type="dataset")

    def download(self, name: str) -> Path:
        """Returns the path of a whole file, fetched once and kept in the cache of huggingface_hub.

        Raises:
            DataError: If there is no such file, the Hub refuses access or it cannot be reached.
        """
        if self.local_dir is not None:
            return self._local(name)
        from huggingface_hub import hf_hub_download  # noqa: PLC0415

        with self.told(name):
            return Path(hf_hub_download(self.repo, name, repo_type="dataset", revision=self.commit, token=self.token))

    def open(self, name: str) -> RangeFile:
        """Returns a seekable file of which only the ranges that are read cross the wire.

        Raises:
            DataError: If there is no such file, the Hub refuses access or it cannot be reached; so do its reads.
        """
        if self.local_dir is not None:
            path = self._local(name)
            return RangeFile(partial(_read_local, path), path.stat().st_size)
        with self.told(name):
            return RangeFile(partial(self._read_remote, name), self._remote.info(f"{self._root}/{name}")["size"])

    def _read_remote(self, name: str, start: int, stop: int) -> bytes:
        # Reads ahead of fsspec's other caches would fetch megabytes around each small range.
        with self.told(name), self._remote.open(f"{self._root}/{name}", "rb", cache_type="none") as file:
            file.seek(start)
            return cast(bytes, file.read(stop - start))

    def names(self, pattern: str) -> list[str]:
        """Returns the names of the files at the top level that match a pattern, sorted.

        Raises:
            DataError: If the Hub refuses access or it cannot be reached.
        """
        if self.local_dir is not None:
            there = [path.name for path in self.local_dir.iterdir()] if self.local_dir.is_dir() else []
        else:
            with self.told():
                there = [str(path).rsplit("/", 1)[-1] for path in self._remote.ls(self._root, detail=False)]
        return sorted(fnmatch.filter(there, pattern))

    def name_of(self, address: str) -> str | None:
        """Returns the name of a file that `datasets` addresses; None if it lies outside of this repository."""
        root = f"hf://{self._root}/" if self.local_dir is None else f"{self.local_dir.resolve()}/"
        return address.removeprefix(root) if address.startswith(root) else None

    @cached_property
    def images(self) -> ImageCache | None:
        """Where fetched images are kept; None for a local copy."""
        if self.local_dir is not None:
            return None
        from huggingface_hub import cached_assets_path  # noqa: PLC0415

        return ImageCache(cached_assets_path("blpo-dspy", self.repo, str(self.commit)))

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
                f"{self.local_dir}: no {name} in it; local_dir is a folder with the files of {self.page} under the "
                f"same names; there are: {', '.join(there[:20]) or 'none'}"
            )
        return path

    @contextmanager
    def told(self, name: str = "") -> Iterator[None]:
        """Turns what the Hub's libraries raise about a file into one clear message.

        Raises:
            DataError: In place of their errors.
        """
        from huggingface_hub.errors import HFValidationError  # noqa: PLC0415
        from huggingface_hub.utils import httpx  # noqa: PLC0415 - its own client, whichever of the two it is

        try:
            yield
        except (httpx.HTTPError, HFValidationError, OSError) as error:
            raise DataError(explain(error, self, name)) from error


@dataclass(frozen=True)
class ImageCache:
    """Fetched images by what they were fetched by; names of the dataset are hashed, never used as paths."""

    folder: Path

    def get(self, *key: object) -> bytes | None:
        """Returns the image that was put under this key."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, data: bytes, *key: object) -> None:
        """Keeps an image; the file is whole or not there."""
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        temporary.write_bytes(data)
        temporary.replace(path)

    def _path(self, key: tuple[object, ...]) -> Path:
        return self.folder / hashlib.sha256(repr(key).encode()).hexdigest()


def explain(error: BaseException, hub: Hub, name: str = "") -> str:  # noqa: PLR0911 - one message for each cause
    """Returns what went wrong with the Hub and what to do about it."""
    from huggingface_hub import errors  # noqa: PLC0415
    from huggingface_hub.utils import httpx  # noqa: PLC0415

    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    status = next((cause.response.status_code for cause in causes if isinstance(cause, errors.HfHubHTTPError)), None)
    if caused_by(errors.GatedRepoError) or (status in (401, 403) and not caused_by(errors.RepositoryNotFoundError)):
        return _gate(hub, status)
    if caused_by(errors.HFValidationError):
        return f"{hub.repo!r} is no id of a dataset on the Hub; it should be owner/name ({_first_line(error)})"
    if caused_by(errors.RevisionNotFoundError):
        return f"{hub.page} has no revision {hub.revision!r}; leave revision= out for the newest one"
    if caused_by(errors.RepositoryNotFoundError):
        return (
            f"{hub.page} is not there, or it is gated or private and no valid token came with the request: check the "
            f"id, accept the terms on that page if it shows any, and set HF_TOKEN or pass token="
        )
    unreached = (httpx.NetworkError, httpx.TimeoutException, ConnectionError, TimeoutError)
    if caused_by(errors.OfflineModeIsEnabled, *unreached):
        return (
            f"{hub.repo} needs the Hugging Face Hub, which cannot be reached from here ({_first_line(causes[-1])}); "
            f"connect, unset HF_HUB_OFFLINE if it is set, or copy the files to a folder elsewhere and pass local_dir="
        )
    if caused_by(errors.EntryNotFoundError, FileNotFoundError):
        at = "" if hub.local_dir is not None else f" at revision {hub.commit}"
        return (
            f"{hub.place} has no {f'file {name}' if name else 'data files'}{at}; they may have been moved or renamed: "
            f"pin an older revision=, or pass local_dir= with a copy under the old names"
        )
    return (
        f"{hub.repo}{name and f', {name}'}: the Hub did not answer as expected ({_first_line(error)}); try again later"
    )


def _read_local(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def _gate(hub: Hub, status: int | None) -> str:
    if status == 401:
        lead = f"{hub.repo} is gated and the request came without a valid token"
    else:
        lead = f"{hub.repo} is gated and this account may not read it (yet)"
    return (
        f"{lead}: log in at {hub.page}, accept the terms there (approval may take a day or two), make a token with "
        f"read access at https://huggingface.co/settings/tokens, and set HF_TOKEN or pass token="
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
