"""What a run of predictions has paid for and found, one JSON line each, so that the same call goes on after a crash.

Unlike the journal of a search, which is small, this one stays on disk: of each line only its place is remembered.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blpo_dspy.calls.journal import answer_in, differences, of_kind, role_in, usage_in
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.calls.store import Answer
from blpo_dspy.errors import BlpoError, cause

FORMAT_VERSION = 3
SUFFIX = ".journal.jsonl"
# Seconds after which lines are forced to disk; a process that is killed loses none of them in any case.
_SYNC = 1.0


class PredictionJournal:
    """An append-only file of JSON lines beside the output; for a `Meter`, the store of its answers.

    Args:
        path: The file; begun if it isn't there.
        fingerprint: What verdicts depend on beside the rows: judge and models. A journal with another is refused.

    Raises:
        BlpoError: If the file cannot be written, belongs to another run, is in use, or is damaged elsewhere than in its
            last line.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[int, int]] = {}
        self._rows: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._earlier: dict[str, Usage] = {}
        self._size, self._synced = 0, time.monotonic()
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - open for the length of the run
        except OSError as error:
            raise BlpoError(f"{path}: cannot be written ({error.strerror}); name another output") from error
        try:
            self._open(json.loads(_line(fingerprint)))
        except BaseException:
            self._file.close()
            raise

    def _open(self, fingerprint: dict[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlpoError(f"{self.path}: another run is writing it; wait for it, or name another output") from error
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):  # torn by a crash; nobody has used what it says
                    break
                try:
                    self._take(json.loads(line), number, len(line), fingerprint)
                except (KeyError, TypeError, ValueError) as error:
                    if isinstance(error, BlpoError):
                        raise
                    raise BlpoError(
                        f"{self.path}: line {number} is damaged ({cause(error)}); nothing was changed. Restore the "
                        "file, or remove it to start anew"
                    ) from error
        self._file.truncate(self._size)
        if not self._size:
            self._append({"kind": "run", "format_version": FORMAT_VERSION, "fingerprint": fingerprint})

    def _take(self, line: dict[str, Any], number: int, length: int, fingerprint: dict[str, Any]) -> None:
        place = (self._size, length)
        self._size += length
        if number == 1:
            self._check(line, fingerprint)
        elif line["kind"] == "row":
            _check_row(line)
            self._note_row(line, place)
        else:
            if line["kind"] == "answer":
                answer_in(line)  # it is read again when it is asked for, and has to be one then
                self._answers[of_kind(line, "key", str)] = place
            elif line["kind"] != "failed":
                raise ValueError(f"unknown kind {line['kind']!r}")
            role = role_in(line)
            self._earlier[role] = self._earlier.get(role, Usage()) + usage_in(line)

    def _check(self, line: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        if line["kind"] != "run":
            raise BlpoError(f"{self.path}: not a journal of predictions; name another output")
        if line["format_version"] != FORMAT_VERSION:
            raise BlpoError(
                f"{self.path}: a journal of format version {line['format_version']!r}, of which this version of the "
                f"library knows {FORMAT_VERSION} only; name another output, or remove this one and its journal"
            )
        differing = differences(line["fingerprint"], fingerprint)
        if differing:
            raise BlpoError(
                f"{self.path}: this is the journal of another run, which differs in:\n"
                + "\n".join(f"  - {difference}" for difference in differing)
                + "\nrepeat the call as it was to go on with that run, or name another output"
            )

    @property
    def done(self) -> frozenset[str]:
        """The keys of rows that need no further call: those with an error are tried again."""
        return frozenset(self._done)

    @property
    def earlier(self) -> Ledger:
        """What earlier sessions came to."""
        return Ledger(dict(self._earlier))

    def row(self, key: str) -> dict[str, Any] | None:
        """Returns what was last written about rows of this content."""
        place = self._rows.get(key)
        return None if place is None else self._read(place)["data"]

    def put_row(self, key: str, data: Mapping[str, Any]) -> None:
        """Writes what came of rows of this content; an error in it means that they are tried again another time."""
        entry = {"kind": "row", "key": key, "data": dict(data)}
        self._note_row(entry, self._append(entry))

    def _note_row(self, entry: Mapping[str, Any], place: tuple[int, int]) -> None:
        self._rows[entry["key"]] = place
        if entry["data"]["error"] is None:
            self._done.add(entry["key"])

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns a known answer, which costs nothing (see `AnswerStore`)."""
        place = self._answers.get(key)
        if place is None:
            return None
        return answer_in(self._read(place)), Usage(cached=1)

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Writes an answer to disk, then remembers it."""
        self._answers[key] = self._append({"kind": "answer", "key": key, "role": role, **asdict(answer)})

    def put_failed(self, role: str, usage: Usage) -> None:
        """Writes down an attempt that failed."""
        self._append({"kind": "failed", "role": role, "usage": asdict(usage)})

    def failed(self) -> dict[str, Usage]:
        """Returns nothing: the meter counts this session."""
        return {}

    def unused(self) -> Ledger:
        """Returns nothing, for the same reason."""
        return Ledger({})

    def _read(self, place: tuple[int, int]) -> dict[str, Any]:
        start, length = place
        line: dict[str, Any] = json.loads(os.pread(self._file.fileno(), length, start))
        return line

    def _append(self, entry: Mapping[str, Any]) -> tuple[int, int]:
        line = _line(entry)
        with self._lock:
            place = (self._size, len(line))
            try:
                if self._file.closed or self._file.write(line) < len(line):
                    raise OSError(0, "the run has ended, or the disk is full")
                self._size += len(line)
                if time.monotonic() - self._synced >= _SYNC:
                    os.fsync(self._file.fileno())
                    self._synced = time.monotonic()
            except OSError as error:
                raise BlpoError(
                    f"{self.path}: cannot be written ({error.strerror}); make room and repeat the call to go on"
                ) from error
        return place

    def close(self) -> None:
        """Forces all lines to disk and lets another run continue."""
        with self._lock:
            os.fsync(self._file.fileno())
            self._file.close()


def _check_row(line: Mapping[str, Any]) -> None:
    """Refuses what `put_row` doesn't write."""
    of_kind(line, "key", str)
    row = of_kind(line, "data", dict)
    of_kind(row, "invalid", bool)
    of_kind(row, "label", (str, int, type(None)))
    for name in ("description", "reasoning", "answer", "error"):
        of_kind(row, name, (str, type(None)))


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True, default=str).encode() + b"\n"
