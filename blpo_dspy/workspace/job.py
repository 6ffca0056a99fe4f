"""A job in a store: what was paid for and its results, so that an interrupted job resumes without paying again.

The algorithms are deterministic given the LM's answers. A resumed job therefore starts from the beginning and takes
every answer that the store holds from there; it pays only for what is missing and ends with the same bytes.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from blpo_dspy.workspace.answers import Answer
from blpo_dspy.workspace.batch_record import BatchRecord
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Ledger, Usage
from blpo_dspy.workspace.store import FILE_NAME, SPENT, Store, StoreError

J = TypeVar("J", bound="Job")

Counting: TypeAlias = Literal["own", "all", "none"]

# What a version without a store wrote.
_JOURNALS = ("journal.jsonl", "measured/journal.jsonl", "beforehand/*.jsonl", "evaluate.jsonl", "calibrate-*.jsonl")
_EMPTY = """SELECT NOT EXISTS (SELECT 1 FROM answers WHERE job = :job)
    AND NOT EXISTS (SELECT 1 FROM failures WHERE job = :job)
    AND NOT EXISTS (SELECT 1 FROM records WHERE job = :job AND kind <> 'room')
    AND NOT EXISTS (SELECT 1 FROM labels WHERE job = :job) AND NOT EXISTS (SELECT 1 FROM verdicts WHERE job = :job)
    AND NOT EXISTS (SELECT 1 FROM batches WHERE job = :job)"""


class Job:
    """One search, measurement or prediction, in one session; use `in_folder` or `in_memory`.

    Answers are shared by all jobs of a store, except where a job asks requests again on purpose (`memory`).

    Args:
        store: Where it is kept.
        kind: What it is, such as "search".
        fingerprint: What its results depend on: data, options, models. Another one under the same name is refused.
        name: Distinguishes jobs of one kind in a store; those that `another` returns are named after their first.
        memory: The jobs that share answers; "" are most.
        counting: Which known answers count like calls where they are first taken up: those that earlier sessions of
            this job paid for ("own"), "all", or "none".
        shared: Whether the store stays open when the job is closed.
        on_calls: Called with the number of calls that count, each time there are more.
        elsewhere: What the user can do instead of continuing the job, for the messages.

    Raises:
        StoreError: If the store holds another run under this name.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        fingerprint: Mapping[str, Any],
        *,
        name: str = "",
        memory: str = "",
        counting: Counting = "own",
        shared: bool = False,
        on_calls: Callable[[int], None] = lambda calls: None,
        elsewhere: str = "choose another folder",
    ) -> None:
        self.store, self._memory, self._counting, self._on_calls = store, memory, counting, on_calls
        self.name, self._shared = name, shared
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._calls = 0
        self._counts_unused = False
        self._unused: Ledger | None = None  # changed only where an answer is taken up
        with store.transaction():
            self.id = self._opened(kind, name, plain(fingerprint), elsewhere)
        self._attempts: dict[str, Ledger] = {}  # those of earlier sessions that failed, by request
        for key, role, usage in store.rows("SELECT key, role, usage FROM failures WHERE job = ?", (self.id,)):
            self._attempts[key] = self._attempts.get(key, Ledger({})) + Ledger({role: _usage(usage)})
        self._unclaimed: dict[str, Ledger] = {}
        if counting == "own":
            for key, role, usage in store.rows("SELECT key, role, usage FROM answers WHERE job = ?", (self.id,)):
                self._unclaimed[key] = Ledger({role: _usage(usage)}) + self._attempts.pop(key, Ledger({}))

    @classmethod
    def in_folder(cls, folder: Path, kind: str, fingerprint: Mapping[str, Any], **options: Any) -> Job:
        """Returns a job in the store of a folder; options are those of the class.

        Raises:
            StoreError: As `Store`, or if the folder holds another run, or one of a version without a store.
        """
        for pattern in _JOURNALS:
            for found in folder.glob(pattern):
                raise StoreError(
                    f"{found}: was written by an earlier version of blpo-dspy, whose runs this one does not continue; "
                    f"{options.get('elsewhere', 'choose another folder')}"
                )
        return cls.in_store(folder, kind, fingerprint, **options)

    @classmethod
    def in_store(cls: type[J], folder: Path, kind: str, fingerprint: Mapping[str, Any], **options: Any) -> J:
        """Returns a job in the store of a folder, whatever else is there; options are those of the class.

        Raises:
            StoreError: As `Store`, or if it holds another run.
        """
        store = Store(folder / FILE_NAME)
        try:
            return cls(store, kind, fingerprint, **options)
        except BaseException:
            store.close()
            raise

    @classmethod
    def in_memory(cls, **options: Any) -> Job:
        """Returns a job that nothing is kept of."""
        return cls(Store(None), "calls", {}, **options)

    def _opened(self, kind: str, name: str, fingerprint: str, elsewhere: str) -> int:
        known = self.store.one("SELECT id, fingerprint FROM jobs WHERE kind = ? AND name = ?", (kind, name))
        command, now = _command(), time.time()
        if known is None:
            values = (kind, name, fingerprint, command, now, self.store.session)
            sql = "INSERT INTO jobs (kind, name, fingerprint, command, began, session) VALUES (?, ?, ?, ?, ?, ?)"
            return self.store.write(sql, values)
        job, before = known
        if before != fingerprint and not self.store.one(_EMPTY, {"job": job})[0]:
            places = "; ".join(differences(json.loads(before), json.loads(fingerprint))[:5])
            raise StoreError(f"{self.store.path}: belongs to another run, which differs in {places}; {elsewhere}")
        self.store.write(
            "UPDATE jobs SET fingerprint = ?, command = ?, session = ?, ended = NULL, outcome = NULL WHERE id = ?",
            (fingerprint, command, self.store.session, job),
        )
        return int(job)

    def another(self, kind: str, **options: Any) -> Job:
        """Returns a further job in the same store, which stays open; options are those of the class."""
        name = f"{self.name} {options.pop('name', '')}".strip()
        return Job(self.store, kind, options.pop("fingerprint", {}), **{"name": name, "shared": True, **options})

    @property
    def path(self) -> Path | None:
        """The file, None in memory."""
        return self.store.path

    def knows(self, key: str) -> bool:
        """Whether there is an answer to a request."""
        sql = "SELECT 1 FROM answers WHERE memory = ? AND key = ?"
        return self.store.one(sql, (self._memory, key)) is not None

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an equal request and what taking it adds to the ledger, or None."""
        sql = "SELECT answer, usage, job FROM answers WHERE memory = ? AND key = ?"
        found = self.store.one(sql, (self._memory, key))
        if found is None:
            return None
        answer = Answer.of(json.loads(found[0]), _usage(found[1]))
        with self._lock:
            first = key not in self._claimed
            self._claimed.add(key)
            paid = self._unclaimed.pop(key, None)
            if paid is not None:
                self._unused = None
        counts = self._counting == "all" or (self._counting == "own" and found[2] == self.id)
        usage = (answer.usage if paid is None else paid.total) if first and counts else Usage(cached=1)
        self._count(usage)
        return answer, usage

    def _count(self, usage: Usage) -> None:
        if usage.calls:
            with self._lock:
                self._calls += usage.calls
                self._on_calls(self._calls)

    def reserve(self, key: str, role: str, model: str) -> bool:
        """Notes that a request is about to be sent; False while another process waits for its answer, or has it.

        Raises:
            RunStoppedError: If the workspace's caps do not pay for it.
        """
        sql = (
            "INSERT OR IGNORE INTO under_way SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 "
            "WHERE NOT EXISTS (SELECT 1 FROM answers WHERE memory = ?1 AND key = ?2)"
        )
        with self.store.transaction():
            self.store.write(sql, (self._memory, key, self.id, role, model, self.store.session, time.time()))
            new = bool(self.store.one("SELECT changes()")[0])
            if new:
                self._check_caps()
            return new

    def hold(self, name: str, calls: int) -> None:
        """Notes that another is about to make up to so many calls, in a chunk or a batch; see `release`.

        Raises:
            RunStoppedError: If the workspace's caps do not pay for them.
        """
        with self.store.transaction():
            values = (self.id, name, calls, self.store.session)
            self.store.write("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", values)
            self._check_caps()

    def release(self, name: str) -> None:
        """Notes that these calls are made, or will not be."""
        self.store.write("DELETE FROM held WHERE job = ? AND name = ?", (self.id, name))

    def _check_caps(self) -> None:
        """Refuses what was noted last in this transaction, if the caps over all jobs do not pay for it."""
        if caps := self.store.caps():
            cap = Cap(**caps, whose="the workspace's")  # type: ignore[arg-type]
            if reason := cap.refusal(spent_in(self.store), self.store.open_calls() - 1):
                raise RunStoppedError(reason)

    def room(self) -> dict[str, float]:
        """Returns what the workspace's caps left for this job, and others of its name, when it first began under them.

        A resumed job has the same room again, and so goes the same way.
        """
        caps = self.store.caps()
        known = self.recorded("room", 0)
        if caps and (known is None or known["caps"] != caps):
            sql = "SELECT id FROM jobs WHERE name = (SELECT name FROM jobs WHERE id = ?)"
            jobs = [spent_in(self.store, job) for (job,) in list(self.store.rows(sql, (self.id,)))]
            own = sum(jobs, Ledger({})).total
            used = {"max_calls": own.calls, "max_tokens": own.tokens, "max_usd": own.usd}
            known = {"caps": caps, "left": {name: left + used[name] for name, left in left_in(self.store).items()}}
            self.record("room", 0, known)
        return dict(known["left"]) if caps else {}

    def put(self, key: str, role: str, answer: Answer, model: str = "") -> None:
        """Writes an answer down; it is kept once this returns."""
        with self.store.transaction():
            self.store.write("DELETE FROM under_way WHERE memory = ? AND key = ?", (self._memory, key))
            self._keep(key, role, model, answer.usage.counts, json.dumps(answer.to_dict(), default=str))
        with self._lock:
            self._claimed.add(key)
        self._count(answer.usage)

    def _keep(self, key: str, role: str, model: str, usage: dict[str, Any], answer: str) -> None:
        """Writes an answer, as JSON, and what it cost; part of a transaction."""
        values = (self._memory, key, self.id, role, model, json.dumps(usage), answer)
        self.store.write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.store.spend(self.id, role, model, usage)

    def put_failed(self, key: str, role: str, usage: Usage, model: str = "") -> None:
        """Writes down that an attempt at a request failed, and its usage."""
        with self.store.transaction():
            self.store.write("DELETE FROM under_way WHERE memory = ? AND key = ?", (self._memory, key))
            self.store.fail(self.id, key, role, model, usage.counts)
        self._count(usage)

    def failed(self) -> dict[str, Usage]:
        """Returns the usage of the failed attempts of earlier sessions at requests without an answer, by role."""
        if self._counting != "own":
            return {}
        return dict(sum(self._attempts.values(), Ledger({})).roles)

    def spend_under(self, budget: Budget | None) -> None:
        """Notes what the job may spend, as far as that decides its way.

        Under the budget that it began with a job goes the same way again and takes every answer up. Under another one
        it may leave some out, which count as well then: see `unused`.
        """
        caps = {} if budget is None else {k: v for k, v in asdict(budget).items() if k != "max_seconds"}
        first = self.recorded("budget", 0)
        if first is None:
            self.record("budget", 0, caps)
        self._counts_unused, self._unused = first not in (None, caps), None

    def unused(self) -> Ledger:
        """Returns the usage of the answers that earlier sessions paid for and this one has not taken up so far."""
        with self._lock:
            if self._unused is None:
                self._unused = sum(self._unclaimed.values() if self._counts_unused else (), Ledger({}))
            return self._unused

    def spent(self) -> Ledger:
        """Returns what all sessions have spent so far, by role, without seconds and images."""
        return spent_in(self.store, self.id)

    def recorded(self, kind: str, number: int) -> Any:
        """Returns what was written with `record`, in this session or an earlier one; None if nothing was."""
        sql = "SELECT data FROM records WHERE job = ? AND kind = ? AND number = ?"
        found = self.store.one(sql, (self.id, kind, number))
        return None if found is None else json.loads(found[0])

    def record(self, kind: str, number: int, data: Any) -> None:
        """Writes down a result of the job (a round, a validation, the end)."""
        values = (self.id, kind, number, json.dumps(data, default=str))
        self.store.write("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", values)

    @property
    def batches(self) -> dict[str, BatchRecord]:
        """The batches whose answers are not all known yet, by their names here."""
        rows = self.store.rows("SELECT name, data FROM batches WHERE job = ?", (self.id,))
        return {name: BatchRecord.of(json.loads(data)) for name, data in rows}

    def put_batch(self, record: BatchRecord) -> None:
        """Writes down where a batch stands, or that nothing more is expected of it."""
        if record.closed:
            self.store.write("DELETE FROM batches WHERE job = ? AND name = ?", (self.id, record.name))
        else:
            values = (self.id, record.name, json.dumps(asdict(record)))
            self.store.write("INSERT OR REPLACE INTO batches VALUES (?, ?, ?)", values)
        self.store.one("PRAGMA wal_checkpoint(PASSIVE)")  # on disk, whatever happens to the machine

    def end(self, outcome: str) -> None:
        """Writes down how the session ended: "done", "stopped" or an error."""
        self.store.write("UPDATE jobs SET ended = ?, outcome = ? WHERE id = ?", (time.time(), outcome, self.id))

    def close(self) -> None:
        """Ends the use of the store, unless it is shared."""
        if not self._shared:
            self.store.close()


def spent_in(store: Store, job: int | None = None) -> Ledger:
    """Returns what a job has spent, or all jobs together, by role, without seconds and images."""
    names = ", ".join(f"SUM({name})" for name in SPENT)
    where = "" if job is None else "WHERE job = ?"
    rows = store.rows(f"SELECT role, {names} FROM spent {where} GROUP BY role", () if job is None else (job,))
    return Ledger({str(role): Usage(**dict(zip(SPENT, sums, strict=True))) for role, *sums in rows})


def left_in(store: Store) -> dict[str, float]:
    """Returns what the caps over all jobs leave, by cap; calls that are under way count as made."""
    total = spent_in(store).total
    used = {"max_calls": total.calls + store.open_calls(), "max_tokens": total.tokens, "max_usd": total.usd}
    return {name: max(0, most - used[name]) for name, most in store.caps().items()}


def _command() -> str:
    """The command line, without names and passwords in addresses."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else []
    return re.sub(r"//[^/@\s]+@", "//", shlex.join(words))


def plain(data: Any) -> str:
    """Returns data as JSON, names in order."""
    return json.dumps(data, sort_keys=True, default=str)


def _usage(text: str) -> Usage:
    return Usage(**json.loads(text))


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Returns one line per place in which two fingerprints differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {_short(before)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
