"""An append-only file of JSON lines that one run at a time writes: what every journal is kept in."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from blpo_dspy.calls.journal_lines import differences, encoded, parsed
from blpo_dspy.errors import BlpoError, brief, cause, notice

Place: TypeAlias = tuple[int, int]
"""Where a line starts in the file, and its length, in bytes."""


class JournalError(BlpoError):
    """A journal that cannot be continued; the text says why."""


class JournalInUseError(JournalError):
    """A journal that another run is writing."""


class JournalFile:
    """Lines that survive the death of their process; the first one says which run they belong to.

    While a run writes the file it holds a lock file next to it: its name and `.lock`.

    Args:
        path: The file; it and its folder are created if missing.
        fingerprint: What the run is: data, options, models. A file of another run is refused, unless that run kept
            nothing in it.
        take: Called with each line after the first and its place; a KeyError, TypeError or ValueError means damage.
        version: The format version of the lines.
        elsewhere: What the user can do instead of continuing the file, for the messages.
        patience: Seconds to wait for another run that is writing the file.
        sync_seconds: Seconds between two `fsync`s; at 0 every line is on disk once `append` returns. A process that
            is killed loses no line in any case.

    Raises:
        JournalError: If the file cannot be written, belongs to another run, is in use, or is damaged elsewhere than in
            its last line; it is left as it is.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        take: Callable[[dict[str, Any], Place], None],
        *,
        version: int,
        elsewhere: str,
        patience: float = 0.0,
        sync_seconds: float = 0.0,
    ) -> None:
        self.path, self._elsewhere, self._sync_seconds = path, elsewhere, sync_seconds
        self._queueing, self._writing, self._reading = threading.Lock(), threading.Lock(), threading.Lock()
        self._queue: list[bytes] = []
        self._end = self._written = 0
        self._synced = time.monotonic()
        self._broken = ""
        self._lock = FileLock(f"{path}.lock", timeout=patience, thread_local=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for the length of the run
            self._reader = open(path, "rb")  # noqa: SIM115 - buffered, as lines are often read in their order
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            self._acquire()
            self._read_all(
                {"kind": "run", "format_version": version, "fingerprint": parsed(encoded(fingerprint))}, take
            )
        except BaseException:
            self.close()
            raise

    def _cannot_write(self, error: OSError) -> JournalError:
        return JournalError(f"{self.path}: cannot be written ({error.strerror}); {self._elsewhere}")

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise JournalInUseError(
                f"{self.path}: another run is writing it; wait for it, or {self._elsewhere}"
            ) from error
        except OSError as error:
            raise self._cannot_write(error) from error

    def _read_all(self, run: dict[str, Any], take: Callable[[dict[str, Any], Place], None]) -> None:
        torn = b""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):  # cut off by a crash, before anything used it
                    torn = line
                    break
                try:
                    entry = parsed(line)
                    if number > 1:
                        take(entry, (self._end, len(line)))
                except (KeyError, TypeError, ValueError) as error:
                    raise damage(self.path, number, error, self._elsewhere) from error
                if number == 1:
                    alone = self.path.stat().st_size == len(line)
                    self._check(entry, run, alone=alone)
                    if alone:  # nothing was kept, as when a model could not be used: this run takes its place
                        break
                self._end += len(line)
        if torn:
            notice(f"{self.path}: dropped an incomplete last line ({len(torn)} bytes)")
            self._file.truncate(self._end)
        self._written = self._end
        if not self._end:
            self._file.truncate(0)
            self.append(run)

    def _check(self, found: dict[str, Any], run: dict[str, Any], *, alone: bool) -> None:
        known, version = run["format_version"], found.get("format_version")
        if found.get("kind") != "run" or version != known:
            raise JournalError(
                f"{self.path}: not a journal that this version can continue (format version {brief(repr(version))}, "
                f"not {known}); {self._elsewhere}"
            )
        differing = differences(found.get("fingerprint"), run["fingerprint"])
        if differing and not alone:
            raise JournalError(
                f"{self.path}: this is the journal of another run, which differs in:\n"
                + "\n".join(f"  - {difference}" for difference in differing)
                + f"\nrepeat the call as it was to continue that run, or {self._elsewhere}"
            )

    def append(self, entry: Mapping[str, Any]) -> Place:
        """Writes a line and returns its place; threads that append at once share one write."""
        line = encoded(entry) + b"\n"
        with self._queueing:
            place = (self._end, len(line))
            self._queue.append(line)
            self._end += len(line)
        with self._writing:
            if self._written < sum(place):  # no other thread has written it in the meantime
                self._write()
        return place

    def _write(self) -> None:
        if self._broken:
            raise JournalError(f"{self.path}: {self._broken}")
        with self._queueing:
            lines, self._queue = b"".join(self._queue), []
        try:
            left = lines
            while left:
                left = left[self._file.write(left) :]
            if time.monotonic() - self._synced >= self._sync_seconds:
                self._sync()
        except OSError as error:
            # A line after an incomplete one could not be read again.
            self._broken = f"cannot be written ({error.strerror}); make room and repeat the call to continue"
            raise JournalError(f"{self.path}: {self._broken}") from error
        self._written += len(lines)

    def sync(self) -> None:
        """Waits until every line is on disk."""
        with self._writing:
            try:
                self._sync()
            except OSError as error:
                raise self._cannot_write(error) from error

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def read(self, place: Place) -> dict[str, Any]:
        """Returns the line at a place."""
        start, length = place
        with self._reading:
            if self._reader.closed:
                raise JournalError(f"{self.path}: {self._broken}")
            self._reader.seek(start)
            return parsed(self._reader.read(length))

    def close(self) -> None:
        """Puts all lines on disk and lets another run continue."""
        with self._writing, self._reading:
            try:
                if not self._broken and not self._file.closed:
                    self._sync()
            except OSError as error:
                raise self._cannot_write(error) from error
            finally:
                self._broken = self._broken or "the run that wrote it has ended"
                self._file.close()
                self._reader.close()
                self._release()

    def _release(self) -> None:
        if self._lock.is_locked:
            # FileLock leaves the file on POSIX; a run that has opened it sees that it was removed, and retries with a
            # new one. On Windows, where an open file cannot be removed, releasing removes it.
            with contextlib.suppress(OSError):
                os.unlink(self._lock.lock_file)
            self._lock.release()


def damage(path: Path, number: int, reason: Exception, elsewhere: str) -> JournalError:
    """Returns the error for a line that no journal holds."""
    return JournalError(
        f"{path}: line {number} is damaged ({cause(reason)}); nothing was changed. Restore the file, or {elsewhere}"
    )
