"""The store of a folder: one SQLite file in which several threads, processes and commands write down what they do.

A transaction that has returned survives the death of its process. After a power cut the last few may be missing, never
parts of one (`synchronous=NORMAL` with a write-ahead log).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError, brief

FILE_NAME = "workspace.sqlite"
FORMAT_VERSION = 2
_BUSY_SECONDS = 60.0
_LARGEST = 2**53  # whatever a server claims to have counted
_VERSION = "SELECT (SELECT user_version FROM pragma_user_version), (SELECT COUNT(*) FROM sqlite_master)"
_NETWORK = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "lustre", "glusterfs", "fuse.s3fs", "beegfs", "gpfs")

# A job is one search, measurement or prediction; a session is a process that works on jobs. A request (`key`) is
# under way, then answered or failed; `memory` separates jobs that ask the same request again on purpose. `spent` sums
# up what answers and failures cost; `held` are calls that others were allowed to make: in a chunk, in a batch. `caps`
# hold over all jobs. Usages, fingerprints, answers and data are JSON.
SCHEMA = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, started TEXT NOT NULL, began REAL NOT NULL
) STRICT;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL, command TEXT NOT NULL,
    began REAL NOT NULL, ended REAL, outcome TEXT, session INTEGER NOT NULL REFERENCES sessions,
    UNIQUE (kind, name)
) STRICT;
CREATE TABLE under_way (
    memory TEXT NOT NULL, key TEXT NOT NULL, job INTEGER NOT NULL REFERENCES jobs, role TEXT NOT NULL,
    model TEXT NOT NULL, session INTEGER NOT NULL REFERENCES sessions, began REAL NOT NULL,
    PRIMARY KEY (memory, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE held (
    job INTEGER NOT NULL REFERENCES jobs, name TEXT NOT NULL, calls INTEGER NOT NULL,
    session INTEGER NOT NULL REFERENCES sessions, PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE caps (name TEXT PRIMARY KEY, most REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE answers (
    memory TEXT NOT NULL, key TEXT NOT NULL, job INTEGER NOT NULL REFERENCES jobs, role TEXT NOT NULL,
    model TEXT NOT NULL, usage TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (memory, key)
) STRICT;
CREATE INDEX answers_of_job ON answers (job);
CREATE TABLE failures (
    job INTEGER NOT NULL REFERENCES jobs, key TEXT NOT NULL, role TEXT NOT NULL, usage TEXT NOT NULL
) STRICT;
CREATE INDEX failures_of_job ON failures (job);
CREATE TABLE spent (
    job INTEGER NOT NULL REFERENCES jobs, role TEXT NOT NULL, model TEXT NOT NULL, calls INTEGER NOT NULL,
    cached INTEGER NOT NULL, failed INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, usd REAL NOT NULL, unpriced INTEGER NOT NULL, uncounted INTEGER NOT NULL,
    PRIMARY KEY (job, role, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    job INTEGER NOT NULL REFERENCES jobs, kind TEXT NOT NULL, number INTEGER NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (job, kind, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE verdicts (
    job INTEGER NOT NULL REFERENCES jobs, key TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job, key)
) STRICT;
CREATE TABLE files (path TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE batches (
    job INTEGER NOT NULL REFERENCES jobs, name TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (job, name)
) STRICT;
CREATE TABLE labels (id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs, line TEXT NOT NULL) STRICT;
CREATE INDEX labels_of_job ON labels (job);
"""


class StoreError(BlpoError):
    """A store that cannot be used; the text says why."""


class Store:
    """A SQLite file, or a database in memory; safe in threads.

    Args:
        path: The file; it and its folder are created if missing. In memory if None.

    Raises:
        StoreError: If it cannot be written, is damaged, was written by a newer version of this library, or lies on a
            network file system.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        if path is not None:
            _check_local(path)
        with self._translated():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._sql = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        try:
            self._prepare()
            self.session = self._begin_session()
            self.bury()
        except BaseException:
            self._sql.close()
            raise

    def _prepare(self) -> None:
        with self._translated():
            version, tables = self._sql.execute(_VERSION).fetchone()
        if version and version != FORMAT_VERSION:
            age, advice = ("a newer", "update blpo-dspy, or ") if version > FORMAT_VERSION else ("an earlier", "")
            raise StoreError(
                f"{self.path}: was written by {age} version of blpo-dspy (format {version}, known is "
                f"{FORMAT_VERSION}); {advice}choose another folder"
            )
        if tables and not version:
            raise StoreError(f"{self.path}: was not written by blpo-dspy; choose another folder")
        with self._translated():
            if not version and self.path is not None:
                self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=NORMAL")
            self._sql.execute("PRAGMA foreign_keys=ON")
        with self.transaction():
            if not self.one("PRAGMA user_version")[0]:
                for statement in SCHEMA.split(";"):
                    self.write(statement)
                self.write(f"PRAGMA user_version={FORMAT_VERSION}")

    def _begin_session(self) -> int:
        return self.write(
            "INSERT INTO sessions (pid, host, started, began) VALUES (?, ?, ?, ?)",
            (os.getpid(), socket.gethostname(), _started(os.getpid()), time.time()),
        )

    def bury(self) -> None:
        """Counts as failed what processes had under way that have died: it was sent, and may have been charged."""
        with self.transaction():
            for session in {row[0] for row in self.rows("SELECT session FROM under_way")}:
                if not self.lives(session):
                    lost = self.rows("SELECT job, key, role, model FROM under_way WHERE session = ?", (session,))
                    for job, key, role, model in list(lost):
                        self.fail(job, key, role, model, {"calls": 1, "failed": 1})
                    self.write("DELETE FROM under_way WHERE session = ?", (session,))
            for job, name, calls, session in list(self.rows("SELECT job, name, calls, session FROM held")):
                if not self.lives(session):
                    self.fail(job, name, "judge", "", {"calls": calls, "failed": calls})
                    self.write("DELETE FROM held WHERE job = ? AND name = ?", (job, name))

    def lives(self, session: int) -> bool:
        """Whether the process of a session is still there, on this machine."""
        pid, host, started = self.one("SELECT pid, host, started FROM sessions WHERE id = ?", (session,))
        return bool(session == self.session or (host == socket.gethostname() and started == _started(pid)))

    def fail(self, job: int, key: str, role: str, model: str, usage: dict[str, Any]) -> None:
        """Writes down the usage of a failed attempt at a request."""
        self.write("INSERT INTO failures VALUES (?, ?, ?, ?)", (job, key, role, json.dumps(usage)))
        self.spend(job, role, model, usage)

    def spend(self, job: int, role: str, model: str, usage: dict[str, Any]) -> None:
        """Adds a usage to what a job has spent."""
        values = [min(usage.get(name, 0), _LARGEST) for name in SPENT]
        self.write(_SPEND, (job, role, model, *values))

    def caps(self) -> dict[str, float]:
        """Returns the caps over all jobs, by name."""
        return {name: most if name == "max_usd" else int(most) for name, most in self.rows("SELECT * FROM caps")}

    def set_caps(self, caps: Mapping[str, float]) -> None:
        """Writes caps down; one overwrites an earlier one of its name."""
        self.write_many("INSERT OR REPLACE INTO caps VALUES (?, ?)", caps.items())

    def open_calls(self) -> int:
        """Returns how many calls are under way, or held."""
        sql = "SELECT (SELECT COUNT(*) FROM under_way) + (SELECT COALESCE(SUM(calls), 0) FROM held)"
        return int(self.one(sql)[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Makes what is written in the block durable as a whole, or not at all; blocks may be nested."""
        with self._lock, self._translated():
            if self._depth:
                yield
                return
            self._sql.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:
                    self._sql.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def write(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Writes a row, and returns its number."""
        with self._lock, self._translated():
            return int(self._sql.execute(sql, values).lastrowid or 0)

    def write_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows in one transaction."""
        with self.transaction():
            self._sql.executemany(sql, rows)

    def one(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Returns the first row, None if there is none."""
        with self._lock, self._translated():
            return self._sql.execute(sql, values).fetchone()

    def rows(self, sql: str, values: Sequence[Any] = (), *, at_once: int = 1000) -> Iterator[tuple[Any, ...]]:
        """Yields rows, a thousand of which are in memory at once."""
        with self._lock, self._translated():
            cursor = self._sql.execute(sql, values)
        while True:
            with self._lock, self._translated():
                found = cursor.fetchmany(at_once)
            yield from found
            if len(found) < at_once:
                return

    def close(self) -> None:
        """Ends the use of the file."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._sql.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            if "closed" not in str(error):
                raise
            raise StoreError(f"{self.path or 'the store'}: is closed; nothing more can be written") from error
        except (sqlite3.OperationalError, sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise StoreError(f"{self.path}: {_reason(error)}") from error


SPENT = ("calls", "cached", "failed", "prompt_tokens", "completion_tokens", "usd", "unpriced", "uncounted")
_SPEND = (
    f"INSERT INTO spent VALUES (?, ?, ?{', ?' * len(SPENT)}) ON CONFLICT (job, role, model) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in SPENT)
)


# What SQLite says, and what to do about it.
_REASONS = (
    (("not a database", "malformed", "encrypted"), "is damaged ({}); restore the file, or choose another folder"),
    (("no such", "already exists"), "was not written by blpo-dspy ({}); choose another folder"),
    (("full", "disk i/o"), "cannot be written ({}); free space on its disk and repeat the command, which resumes"),
    (("unable to open",), "cannot be opened ({}); make its folder writable, or choose another folder"),
    (("locked",), f"another process has kept it locked for {_BUSY_SECONDS:.0f} s; end that process, or wait for it"),
    (("",), "cannot be written ({}); make the file writable, or choose another folder"),
)


def _reason(error: Exception) -> str:
    """What is wrong with the file, and what to do."""
    if isinstance(error, OSError):
        return f"cannot be written ({error.strerror}); choose another folder"
    text = brief(str(error))
    return next(reason for words, reason in _REASONS if any(word in text.lower() for word in words)).format(text)


def _check_local(path: Path) -> None:
    """Refuses a folder on a network file system, where SQLite's locks do not hold."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        return
    folder, best, kind = str(path.parent.resolve()), "", ""
    for _, mount, found, *_ in (line.split(" ") for line in lines):
        inside = folder == mount or folder.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    if kind.startswith(_NETWORK):
        raise StoreError(
            f"{path}: the folder is on a network file system ({kind}), where the locks of SQLite do not hold; choose a "
            "folder on a local disk"
        )


def _started(pid: int) -> str:
    """What distinguishes a process from a later one with its number; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "" if os.path.isdir("/proc/self") or not _alive(pid) else "alive"


def _alive(pid: int) -> bool:
    if os.name == "nt":
        import ctypes  # noqa: PLC0415 - of Windows only

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # type: ignore[attr-defined,unused-ignore]
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)  # type: ignore[attr-defined,unused-ignore]
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
