"""Messages for errors of the Hugging Face Hub: access refused, unreachable, missing files, unusable caches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

OPTIONS = ("revision", "token", "local_dir")
"""The options of a source that `explain` may name."""


@dataclass(frozen=True)
class Repository(ABC):
    """One dataset repository at one revision, or a copy of it in a folder; see `HubSource` for the fields."""

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
        """The page or folder that the files are read from."""
        return self.page if self.local_dir is None else str(self.local_dir)

    @property
    @abstractmethod
    def commit(self) -> str | None:
        """The commit of the revision; None for a local copy."""


def explain(error: BaseException, hub: Repository, name: str = "") -> str:
    """Returns a message that explains an error of the Hub's libraries and what to do about it."""
    from huggingface_hub import errors  # noqa: PLC0415 - slow to import, and only needed where the Hub is used

    causes = list(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    status = next((cause.response.status_code for cause in causes if isinstance(cause, errors.HfHubHTTPError)), None)
    if caused_by(errors.GatedRepoError) or (status in (401, 403) and not caused_by(errors.RepositoryNotFoundError)):
        return _gate(hub, status)
    if caused_by(errors.HFValidationError):
        return f"{hub.repo!r} is not a valid id of a dataset on the Hub; it should be owner/name ({_first_line(error)})"
    if caused_by(errors.RevisionNotFoundError):
        return f"{hub.page} has no revision {hub.revision!r}; leave revision=… out for the newest one"
    if caused_by(errors.RepositoryNotFoundError):
        return (
            f"{hub.page} does not exist, or it is gated or private and the request had no valid token: check the "
            f"id, accept the terms on that page if it shows any, and set HF_TOKEN or pass token=…"
        )
    return _unreachable(causes, hub) or _disk_error(causes, hub) or _unexpected(causes, hub, name, status)


def unusable_cache(folder: object, error: BaseException) -> str:
    """Returns the message for a folder in which files from the Hub cannot be kept."""
    reason = getattr(error, "strerror", None) or error
    return (
        f"{folder}: files from the Hugging Face Hub cannot be stored there ({reason}); free space in it, or set "
        "HF_HOME, or the HF_…_CACHE in use, to a writable folder"
    )


def _unreachable(causes: list[BaseException], hub: Repository) -> str | None:
    """The message if the Hub sent no answer at all; one with an error status is an answer."""
    from huggingface_hub import errors  # noqa: PLC0415

    # HTTPError is the base of all that the Hub's HTTP client raises, and of the Hub's own errors with a status.
    without_answer = (cause for cause in causes if isinstance(cause, (errors.HTTPError, ConnectionError, TimeoutError)))
    cause = next(without_answer, None)
    if cause is None or isinstance(cause, errors.HfHubHTTPError):
        return None
    return (
        f"{hub.repo} needs the Hugging Face Hub, which cannot be reached ({_first_line(cause)}); connect, "
        f"unset HF_HUB_OFFLINE if it is set, or copy the files to a folder elsewhere and pass local_dir=…"
    )


def _disk_error(causes: list[BaseException], hub: Repository) -> str | None:
    """The message if the cause is this machine's disk: its errors have an error number, the Hub's have none."""
    cause = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno is not None), None)
    if cause is None:
        return None
    path = Path(str(cause.filename or "the cache"))
    if hub.local_dir is not None and path.is_relative_to(hub.local_dir):
        return f"{path}: cannot be read ({cause.strerror})"
    return unusable_cache(path, cause)


def _unexpected(causes: list[BaseException], hub: Repository, name: str, status: int | None) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    gone = any(isinstance(cause, (errors.EntryNotFoundError, FileNotFoundError)) for cause in causes)
    if gone and status in (None, 404):
        at = "" if hub.local_dir is not None else f" at revision {hub.commit}"
        return (
            f"{hub.place} has no {f'file {name}' if name else 'data files'}{at}; they may have been moved or renamed: "
            f"pin an older revision=…, or pass local_dir=… with a copy under the old names"
        )
    reason = _first_line(causes[0])
    return f"{hub.repo}{name and f', {name}'}: unexpected answer of the Hub ({reason}); try again later"


def _gate(hub: Repository, status: int | None) -> str:
    why = "the request had no valid token" if status == 401 else "this account may not read it (yet)"
    return (
        f"{hub.repo} is gated and {why}: log in at {hub.page}, accept the terms there (approval may take a day or two)"
        ", make a token with read access at https://huggingface.co/settings/tokens, and set HF_TOKEN or pass token=…"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
