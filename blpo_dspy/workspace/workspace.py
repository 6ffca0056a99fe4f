"""What a workflow shares: models, prices, caps, threads, patience with outages, progress, and its store."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.models.lm import Models, check_models
from blpo_dspy.models.prices import Prices, checked_prices
from blpo_dspy.notebook import html_table, one_line
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.job import Job, left_in, plain, spent_in
from blpo_dspy.workspace.ledger import Ledger
from blpo_dspy.workspace.outages import MAX_OUTAGE, checked_outage
from blpo_dspy.workspace.status import JobStatus, status_in
from blpo_dspy.workspace.store import FILE_NAME, Store

J = TypeVar("J", bound=Job)


@dataclass(frozen=True)
class Step:
    """Where a job stands.

    Attributes:
        what: What is being done, such as "judging".
        done: How much of it is done.
        total: How much there is to do, None if that is unknown.
        status: More, in words.
        record: What the job found last, in its own terms: a `Progress`, `Round`, `Validation` or `ComparisonRow`.
    """

    what: str
    done: int = 0
    total: int | None = None
    status: str = ""
    record: object = None


OnStep: TypeAlias = Callable[[Step], None]


class Workspace:
    """What the jobs of a workflow share; use it as a context, in which every job takes what it needs from here.

    Its store, one SQLite file in the folder, knows what was done: answers that were paid for, verdicts, what each job
    spent. Several workspaces, processes and commands may use a folder at once; they share answers and caps. Without a
    folder each job keeps its own store, as it does outside of any workspace: in its `run_dir`, next to its `out`, or in
    memory.

    Args:
        folder: The folder of the store, and of what `align` writes; it is made if need be.
        models: The models by role, of a cascade a list of them; a judge's own, or those of DSPy's settings, if None.
        prices: US dollars per million prompt and completion tokens by model name, where DSPy's tables don't have them
            or have others.
        max_calls: The most LM calls over all that was ever done in the folder, failed ones and retries included. A cap
            is kept in the folder; None leaves that of an earlier session as it is.
        max_tokens: The most prompt and completion tokens, likewise.
        max_usd: The most US dollars, likewise; both can be exceeded by what the calls under way take above the average.
        num_threads: The most LM calls under way at once in a process; DSPy's setting if None.
        max_outage: Seconds to wait for a server that has stopped answering.
        progress: Whether progress is shown (if None, on a terminal and in a notebook), or a function that is called
            with each `Step`.
        store: Where the store's file is kept instead, such as on a local disk where the folder is on a network's.

    Raises:
        BlpoError: If a value is out of its range, or caps are given without a folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        models: Models | list[Models] | None = None,
        prices: Prices | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_usd: float | None = None,
        num_threads: int | None = None,
        max_outage: float = MAX_OUTAGE,
        progress: bool | OnStep | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        for each in models if isinstance(models, (list, tuple)) else [models]:
            if each is not None:
                check_models(each)
        self._caps = Budget(max_calls, max_tokens, max_usd).caps()
        if folder is None and (self._caps or store is not None):
            raise BlpoError(
                "caps hold over all that is done in a folder; name one, as in Workspace('runs/mine', …)",
                option=("max_calls", "max_tokens", "max_usd", "store"),
            )
        if num_threads is not None:
            check_least("num_threads", num_threads, 1)
        if progress is not None and not isinstance(progress, bool):
            check_kind("progress", progress, Callable, "function", "progress=print")  # type: ignore[arg-type]
        self.folder = None if folder is None else Path(folder)
        self.models, self.prices, self.num_threads = models, checked_prices(prices), num_threads
        self.max_outage, self.progress = checked_outage(max_outage), progress
        place = store if store is not None or self.folder is None else self.folder / FILE_NAME
        self._path = None if place is None else Path(place)
        self._store: Store | None = None
        self._token: Token[Workspace | None] | None = None

    def __enter__(self) -> Workspace:
        if _current.get() is not None:
            raise BlpoError("a workspace is open already, and workspaces are not nested; end the other one first")
        if self._path is not None:
            self._store = Store(self._path)
            if self._caps:
                self._store.set_caps(self._caps)
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _current.reset(self._token)
        if self._store is not None:
            self._store.close()
            self._store = None

    def job(
        self,
        kind: str,
        fingerprint: Mapping[str, Any],
        folder: Path | None = None,
        cls: type[Job] = Job,
        **options: Any,
    ) -> Any:
        """Returns a job in the store of this workspace, else in that of a folder of its own, or else in memory.

        Args:
            kind: What it is, such as "search".
            fingerprint: What its results depend on; it names a job without a folder.
            folder: The folder of its results.
            cls: Its class.
            **options: Those of `Job`; `name` is the file of its results, where there are other jobs' in the folder.

        Raises:
            StoreError: As `Store`, or if the store holds another job of this name.
        """
        if self._store is None:
            make = cls.in_store if "name" in options else cls.in_folder
            return (
                cls(Store(None), kind, fingerprint, **options)
                if folder is None
                else make(folder, kind, fingerprint, **options)
            )
        name = options.pop("name", "")
        if folder is not None:
            name = self._named(folder / name)
        elif not name:
            name = hashlib.sha256(plain(fingerprint).encode()).hexdigest()[:8]
        return cls(self._store, kind, fingerprint, name=name, **options, shared=True)

    def _named(self, place: Path) -> str:
        """The name of what is kept at a place: its path from the folder, "" for the folder itself."""
        assert self.folder is not None
        name = os.path.relpath(place.resolve(), self.folder.resolve()).replace(os.sep, "/")
        return "" if name == "." else name

    def knows(self, kind: str, folder: Path, name: str) -> bool:
        """Whether there is a job of a kind in the store that `job` takes."""
        with contextlib.ExitStack() as stack:
            store, named = self._store, name
            if store is not None:
                named = self._named(folder / name)
            elif (folder / FILE_NAME).exists():
                store = stack.enter_context(contextlib.closing(Store(folder / FILE_NAME)))
            sql = "SELECT 1 FROM jobs WHERE kind = ? AND name = ?"
            return store is not None and store.one(sql, (kind, named)) is not None

    @property
    def store_path(self) -> Path | None:
        """The file of the store, None where each job has its own."""
        return self._path

    def room(self, kind: str, folder: Path | None) -> dict[str, float]:
        """Returns what the caps leave for a job that consists of several, by cap; see `Job.room`."""
        if self._store is None or not self._store.caps():
            return {}
        job = self.job(kind, {}, folder)
        job.end("done")
        return dict(job.room())

    @property
    def jobs(self) -> list[JobStatus]:
        """The jobs of the folder, in the order in which they began."""
        with self._reading() as store:
            return [] if store is None else status_in(store)

    @property
    def spent(self) -> Ledger:
        """What all of them spent, by role."""
        with self._reading() as store:
            return Ledger({}) if store is None else spent_in(store)

    @property
    def left(self) -> dict[str, float]:
        """What the caps leave, by cap; calls that are under way count as made."""
        with self._reading() as store:
            return {} if store is None else left_in(store)

    @contextmanager
    def _reading(self) -> Iterator[Store | None]:
        """The store, which is opened for a moment where the workspace is not."""
        if self._store is not None or self._path is None or not self._path.exists():
            yield self._store
            return
        store = Store(self._path)
        try:
            yield store
        finally:
            store.close()

    def __repr__(self) -> str:
        total = self.spent.total
        left = "".join(f", {name} leaves {left:,g}" for name, left in self.left.items())
        return one_line(self, f"{self.folder}: {len(self.jobs)} jobs, {total.calls:,} calls, ${total.usd:,.2f}{left}")

    def _repr_html_(self) -> str:
        rows = [["job", "state", "calls", "failed", "tokens", "cost"]]
        for job in self.jobs:
            total = job.total
            cells = [f"{job.kind} {job.name}".strip(), job.state, f"{total.calls:,}", f"{total.failed:,}"]
            rows.append([*cells, f"{total.tokens:,}", f"${total.usd:,.2f}"])
        return html_table(rows)


_current: ContextVar[Workspace | None] = ContextVar("blpo_workspace", default=None)


def current_workspace() -> Workspace:
    """Returns the workspace of this context, or one without a folder that sets nothing."""
    return _current.get() or Workspace()
