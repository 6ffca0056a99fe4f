"""The journal of a run: what was paid for and what came of it, one JSON line each, so that a killed run goes on.

The algorithm is deterministic given the LM's answers. A resumed run therefore starts from the beginning and takes
every answer that the journal holds from there; it pays only for what is missing and ends with the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.ledger import ROLES, Ledger, Usage
from blpo_dspy.calls.store import Answer
from blpo_dspy.errors import BlpoError, cause, notice

FILE_NAME = "journal.jsonl"
FORMAT_VERSION = 1


class JournalError(BlpoError):
    """A journal that cannot be continued; the text says why."""


class Journal:
    """An append-only file of JSON lines, each on disk before anyone uses what it says, and the run's memory of answers.

    Args:
        folder: The log folder, made if it isn't there.
        fingerprint: What the run is: data, options, models. A journal of another run is refused.
        file_name: The journal's file in the folder; it belongs to one run at a time.
        known: Answers by request that were paid for elsewhere; taking one adds nothing to the ledger here.

    Raises:
        JournalError: If the folder cannot be written, belongs to another run, is in use, or its journal is damaged
            elsewhere than in its last line.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        *,
        file_name: str = FILE_NAME,
        known: Mapping[str, Answer] | None = None,
    ) -> None:
        self.path = Path(folder) / file_name
        self._known = known or {}
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._unclaimed: dict[str, str] = {}
        self._counts_unused = False
        # Asked for before every call, and changed only where an answer is taken up.
        self._unused: Ledger | None = None
        self._failed: dict[str, Usage] = {}
        self._recorded: dict[tuple[str, int], Any] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - open for the length of the run
        except OSError as error:
            raise JournalError(
                f"{folder}: no journal can be kept there ({error.strerror}); choose another folder"
            ) from error
        self._file = _SyncedFile(file, self.path)
        try:
            self._open(json.loads(_plain(fingerprint)))
        except BaseException:
            self._file.close()
            raise

    def _open(self, fingerprint: dict[str, Any]) -> None:
        self._file.lock()
        lines = self._lines()
        if not lines:
            self._append({"kind": "run", "format_version": FORMAT_VERSION, "fingerprint": fingerprint})
            return
        if lines[0].get("kind") != "run" or lines[0].get("format_version") != FORMAT_VERSION:
            raise JournalError(f"{self.path}: not a journal that this version can continue; choose another folder")
        differing = differences(lines[0].get("fingerprint"), fingerprint)
        if differing:
            raise JournalError(
                f"{self.path}: this is the journal of another run, which differs in:\n"
                + "\n".join(f"  - {difference}" for difference in differing)
                + "\nrepeat the call as it was to continue that run, or choose another folder"
            )
        for number, line in enumerate(lines[1:], 2):
            try:
                self._take(line)
            except (KeyError, TypeError, ValueError) as error:
                raise _damage(self.path, number, error) from error

    def _lines(self) -> list[dict[str, Any]]:
        """The file's lines; a last line that a crash tore is cut off, and said so."""
        lines = []
        whole, torn = self._file.read()
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise _damage(self.path, number, error) from error
            if not isinstance(entry, dict):
                raise _damage(self.path, number, TypeError("not a JSON object"))
            lines.append(entry)
        if torn:
            notice(f"{self.path}: dropped an incomplete last line ({len(torn)} bytes)")
            self._file.cut(len(whole))
        return lines

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "answer":
            key = of_kind(line, "key", str)
            self._answers[key] = answer_in(line)
            self._unclaimed[key] = role_in(line)
        elif line["kind"] == "failed":
            role = role_in(line)
            self._failed[role] = self._failed.get(role, Usage()) + usage_in(line)
        elif line["kind"] == "record":
            self._recorded[of_kind(line, "type", str), of_kind(line, "number", int)] = line["data"]
        else:
            raise ValueError(f"unknown kind {line['kind']!r}")

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns a known answer and what this use of it adds to the ledger (see `AnswerStore`)."""
        with self._lock:
            answer = self._answers.get(key) or self._known.get(key)
            if answer is None:
                return None
            if key in self._unclaimed:
                del self._unclaimed[key]
                self._unused = None
                return answer, answer.usage
            return answer, Usage(cached=1)

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Writes an answer to disk, then remembers it.

        Raises:
            JournalError: If it cannot be written.
        """
        line = {"kind": "answer", "key": key, "role": role, **asdict(answer)}
        self._append(line)
        with self._lock:
            self._answers[key] = answer

    def put_failed(self, role: str, usage: Usage) -> None:
        """Writes down an attempt that failed.

        Raises:
            JournalError: If it cannot be written.
        """
        self._append({"kind": "failed", "role": role, "usage": asdict(usage)})

    def failed(self) -> dict[str, Usage]:
        """Returns by role what the failed attempts of earlier sessions came to."""
        return dict(self._failed)

    def spend_under(self, budget: Budget | None) -> None:
        """Says what the run may spend, as far as that decides its way.

        Under the budget that it began with a run goes the same way again and takes every answer up. Under another one
        it may leave some aside, which count as well then: see `unused`.
        """
        caps = {} if budget is None else {k: v for k, v in asdict(budget).items() if k != "max_seconds"}
        first = self.recorded("budget", 0)
        if first is None:
            self.record("budget", 0, caps)
        self._counts_unused = first not in (None, caps)
        self._unused = None

    def unused(self) -> Ledger:
        """Returns what the answers came to that earlier sessions paid for and this one has not taken up so far."""
        with self._lock:
            if self._unused is None:
                keys = self._unclaimed if self._counts_unused else {}
                self._unused = sum((Ledger({role: self._answers[key].usage}) for key, role in keys.items()), Ledger({}))
            return self._unused

    def recorded(self, kind: str, number: int) -> Any:
        """Returns what was written with `record`, in this session or an earlier one; None if nothing was."""
        return self._recorded.get((kind, number))

    def record(self, kind: str, number: int, data: Any) -> None:
        """Writes what came of the run (a round, a validation, the end), once.

        Raises:
            JournalError: If it cannot be written.
        """
        data = json.loads(_plain(data))
        if self._recorded.get((kind, number)) != data:
            self._append({"kind": "record", "type": kind, "number": number, "data": data})
            self._recorded[kind, number] = data

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.append(_plain(entry) + b"\n")

    def close(self) -> None:
        """Ends writing and lets another run continue."""
        self._file.close()


class _SyncedFile:
    """A file whose lines are on disk once `append` returns; threads that append at once share one fsync."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        self._queue: list[bytes] = []
        self._queued, self._written = 0, 0
        self._broken: str = ""
        self._line_up, self._writing = threading.Lock(), threading.Lock()

    def lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"{self._path}: another run is writing it; wait for it or choose another folder"
            ) from error

    def read(self) -> tuple[bytes, bytes]:
        """The whole lines of the file, and what stands after them."""
        self._file.seek(0)
        whole, newline, torn = self._file.readall().rpartition(b"\n")
        return whole + newline, torn

    def cut(self, size: int) -> None:
        self._file.truncate(size)

    def append(self, line: bytes) -> None:
        with self._line_up:
            self._queue.append(line)
            self._queued += 1
            mine = self._queued
        with self._writing:
            if self._written >= mine:
                return
            if self._broken:
                raise JournalError(f"{self._path}: {self._broken}")
            with self._line_up:
                lines, self._queue, count = b"".join(self._queue), [], self._queued
            try:
                self._write(lines)
            except OSError as error:
                # What follows a torn line could not be read again.
                self._broken = f"cannot be written ({error.strerror}); make room and repeat the call to go on"
                raise JournalError(f"{self._path}: {self._broken}") from error
            self._written = count

    def _write(self, lines: bytes) -> None:
        while lines:
            lines = lines[self._file.write(lines) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._writing:
            self._broken = "the run that wrote it has ended"
            self._file.close()


def answers_in(folder: str | os.PathLike[str]) -> dict[str, Answer]:
    """Returns by request the answers in a folder's journal, which no run is writing any more.

    Raises:
        JournalError: If a line of it is damaged.
    """
    path, answers = Path(folder) / FILE_NAME, {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            if entry["kind"] == "answer":
                answers[of_kind(entry, "key", str)] = answer_in(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise _damage(path, number, error) from error
    return answers


def _damage(path: Path, number: int, reason: Exception) -> JournalError:
    return JournalError(
        f"{path}: line {number} is damaged ({cause(reason)}); nothing was changed. Restore the file, or start again in "
        "another folder"
    )


def answer_in(line: Mapping[str, Any]) -> Answer:
    """Returns the answer that a line of a journal holds.

    Raises:
        KeyError: If a part of it is missing.
        ValueError: If a part of it is not what a journal writes.
    """
    outputs = of_kind(line, "outputs", list)
    texts = [output.get("text") if isinstance(output, dict) else output for output in outputs]
    if not outputs or not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError(f"outputs: {_short(outputs)} are not the texts of an answer")
    return Answer(tuple(outputs), of_kind(line, "finish_reason", (str, type(None))), usage_in(line))


def usage_in(line: Mapping[str, Any]) -> Usage:
    """Returns the usage that a line of a journal holds; counts are never negative.

    Raises:
        As `answer_in`.
    """
    usage, kinds = of_kind(line, "usage", dict), {field.name: type(field.default) for field in fields(Usage)}
    for name in usage:
        value = of_kind(usage, name, int if kinds[name] is int else (int, float))
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"usage.{name}: {value!r} is not a count")
    return Usage(**usage)


def role_in(line: Mapping[str, Any]) -> str:
    """Returns the role that a line of a journal names.

    Raises:
        As `answer_in`.
    """
    role: str = of_kind(line, "role", str)
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is not one of {', '.join(ROLES)}")
    return role


def of_kind(line: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """Returns a part of a journal's line.

    Raises:
        KeyError: If it is missing.
        ValueError: If it is of another type.
    """
    value = line[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name}: {_short(value)} is of the wrong type")
    return value


def _plain(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Returns one line per place in which two fingerprints differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {_short(before)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
