"""The journal of a run: what was paid for and what came of it, one JSON line each, so that a killed run goes on.

The algorithm is deterministic given the LM's answers. A resumed run therefore starts from the beginning and takes
every answer that the journal holds from there; it pays only for what is missing and ends with the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blpo_dspy.errors import BlpoError
from blpo_dspy.ledger import Usage
from blpo_dspy.metering import Answer

FILE_NAME = "journal.jsonl"
FORMAT_VERSION = 1


class JournalError(BlpoError):
    """A journal that cannot be continued; the text says why."""


class Journal:
    """An append-only file of JSON lines, each on disk before anyone uses what it says, and the run's memory of answers.

    Args:
        folder: The log folder, made if it isn't there. It belongs to one run at a time.
        fingerprint: What the run is: data, options, models. A journal of another run is refused.

    Raises:
        JournalError: If the folder cannot be written, belongs to another run, is in use, or its journal is damaged
            elsewhere than in its last line.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: Mapping[str, Any]) -> None:
        self.path = Path(folder) / FILE_NAME
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._unclaimed: set[str] = set()
        self._recorded: dict[tuple[str, int], Any] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b")  # noqa: SIM115 - open for the length of the run
        except OSError as error:
            raise JournalError(
                f"{folder}: no journal can be kept there ({error.strerror}); choose another folder"
            ) from error
        try:
            self._open(fingerprint)
        except BaseException:
            self._file.close()
            raise

    def _open(self, fingerprint: Mapping[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(
                f"{self.path}: another run is writing it; wait for it or choose another folder"
            ) from error
        header, *lines = self._complete_lines() or [None]
        if header is None:
            self._append({"kind": "run", "format_version": FORMAT_VERSION, "fingerprint": fingerprint})
            return
        self._check(header, json.loads(json.dumps(fingerprint, default=str)))
        for line in lines:
            if line["kind"] == "answer":
                usage = Usage(**line["usage"])
                self._answers[line["key"]] = Answer(tuple(line["outputs"]), line["finish_reason"], usage)
                self._unclaimed.add(line["key"])
            elif line["kind"] == "record":
                self._recorded[line["type"], line["number"]] = line["data"]

    def _complete_lines(self) -> list[dict[str, Any]]:
        """The file's lines; a last line that a crash tore is cut off, and said so."""
        self._file.seek(0)
        raw = self._file.read()
        whole, newline, torn = raw.rpartition(b"\n")
        if torn:
            warnings.warn(f"{self.path}: dropped an incomplete last line ({len(torn)} bytes)", stacklevel=5)
            self._file.truncate(len(whole) + len(newline))
        lines = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                _ = entry["kind"]
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{self.path}: line {number} is damaged ({error}); nothing was changed. Restore the file, or start "
                    "anew in another folder"
                ) from error
            lines.append(entry)
        return lines

    def _check(self, header: dict[str, Any], fingerprint: dict[str, Any]) -> None:
        if header["kind"] != "run" or header.get("format_version") != FORMAT_VERSION:
            raise JournalError(f"{self.path}: not a journal that this version can continue; choose another folder")
        differing = differences(header["fingerprint"], fingerprint)
        if differing:
            raise JournalError(
                f"{self.path}: this is the journal of another run, which differs in:\n"
                + "\n".join(f"  - {difference}" for difference in differing)
                + "\nrepeat the call as it was to continue that run, or choose another folder"
            )

    @property
    def resumed(self) -> int:
        """How many answers of an earlier session the run can take from the journal."""
        return len(self._answers)

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns a known answer and what this use of it adds to the ledger (see `AnswerStore`)."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is None:
                return None
            if key in self._unclaimed:
                self._unclaimed.discard(key)
                return answer, answer.usage
            return answer, Usage(cached=1)

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Writes an answer to disk, then remembers it."""
        outputs = json.loads(json.dumps(answer.outputs, default=str))
        self._append(
            {
                "kind": "answer",
                "key": key,
                "role": role,
                "outputs": outputs,
                "finish_reason": answer.finish_reason,
                "usage": vars(answer.usage),
            }
        )
        with self._lock:
            self._answers[key] = answer

    def record(self, kind: str, number: int, data: Any) -> None:
        """Writes what came of the run (a round, a validation, the end), once."""
        data = json.loads(json.dumps(data, default=str))
        if self._recorded.get((kind, number)) != data:
            self._append({"kind": "record", "type": kind, "number": number, "data": data})
            self._recorded[kind, number] = data

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends writing and lets another run continue."""
        self._file.close()


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Returns one line per place in which two fingerprints differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {_short(before)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
