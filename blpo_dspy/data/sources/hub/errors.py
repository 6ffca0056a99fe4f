"""What a user is told when the Hugging Face Hub refuses, is out of reach, has moved something or cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

Cache = Literal["HF_HUB_CACHE", "HF_ASSETS_CACHE", "HF_DATASETS_CACHE"]


class Repository(Protocol):
    """What a message says of the repository that was asked for."""

    @property
    def repo(self) -> str:
        """Its id, "owner/name"."""

    @property
    def revision(self) -> str | None:
        """The commit, branch or tag that was asked for."""

    @property
    def local_dir(self) -> Path | None:
        """The folder of a local copy, None for the Hub."""

    @property
    def page(self) -> str:
        """Its page on the Hub."""

    @property
    def place(self) -> str:
        """Where its files are looked for."""

    @property
    def commit(self) -> str | None:
        """The commit that the revision stands for."""


def explain(error: BaseException, hub: Repository, name: str = "", cache: Cache = "HF_HUB_CACHE") -> str:
    """Returns what went wrong with the Hub and what to do about it.

    Args:
        error: What its libraries raised.
        hub: The repository that was asked for.
        name: The file that was asked for.
        cache: The environment variable that names the folder in which it would have been kept.
    """
    from huggingface_hub import errors  # noqa: PLC0415 - slow to import, and only needed where the Hub is asked

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
    return _unanswered(causes, hub) or _unkept(causes, hub, cache) or _unexpected(causes, hub, name, status)


def kept_nowhere(cache: Cache, error: BaseException) -> str:
    """Returns what to do about a folder of a cache that cannot be used."""
    reason = getattr(error, "strerror", None) or error
    return (
        f"{_folder(cache)}: what comes from the Hugging Face Hub cannot be kept there ({reason}); make room in it, or "
        f"set {cache} to a folder that can be written"
    )


def _unanswered(causes: list[BaseException], hub: Repository) -> str | None:
    """What to say where no answer came; an answer with a status, whichever, is one."""
    from huggingface_hub import errors  # noqa: PLC0415

    # HTTPError is the base of all that the Hub's HTTP client raises, and of the Hub's own errors with a status.
    told = (cause for cause in causes if isinstance(cause, (errors.HTTPError, ConnectionError, TimeoutError)))
    cause = next(told, None)
    if cause is None or isinstance(cause, errors.HfHubHTTPError):
        return None
    return (
        f"{hub.repo} needs the Hugging Face Hub, which cannot be reached from here ({_first_line(cause)}); connect, "
        f"unset HF_HUB_OFFLINE if it is set, or copy the files to a folder elsewhere and pass local_dir="
    )


def _unkept(causes: list[BaseException], hub: Repository, cache: Cache) -> str | None:
    """What to say where this machine's disk is the cause, which has an error number: the Hub's errors have none."""
    cause = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno is not None), None)
    if cause is None:
        return None
    path = None if cause.filename is None else Path(str(cause.filename))
    kinds: tuple[Cache, ...] = ("HF_HUB_CACHE", "HF_ASSETS_CACHE", "HF_DATASETS_CACHE")
    holding = next((kind for kind in kinds if path is not None and path.is_relative_to(_folder(kind))), None)
    if holding is None and path is not None and hub.local_dir is not None:
        return f"{path}: cannot be read ({cause.strerror})"
    return kept_nowhere(holding or cache, cause)


def _unexpected(causes: list[BaseException], hub: Repository, name: str, status: int | None) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    gone = any(isinstance(cause, (errors.EntryNotFoundError, FileNotFoundError)) for cause in causes)
    if gone and status in (None, 404):
        at = "" if hub.local_dir is not None else f" at revision {hub.commit}"
        return (
            f"{hub.place} has no {f'file {name}' if name else 'data files'}{at}; they may have been moved or renamed: "
            f"pin an older revision=, or pass local_dir= with a copy under the old names"
        )
    reason = _first_line(causes[0])
    return f"{hub.repo}{name and f', {name}'}: the Hub did not answer as expected ({reason}); try again later"


def _folder(cache: Cache) -> Path:
    if cache == "HF_DATASETS_CACHE":
        import datasets  # noqa: PLC0415 - slow to import

        return Path(datasets.config.HF_DATASETS_CACHE)
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(getattr(constants, cache))


def _gate(hub: Repository, status: int | None) -> str:
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
