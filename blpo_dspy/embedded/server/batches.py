"""The batch endpoint: files of requests that are answered later, with what may go wrong on the way."""

from __future__ import annotations

import email
import email.policy
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.errors import BlpoError

MOST_REQUESTS = 50_000
LARGEST_FILE = 200 * 2**20
_PAGE = 20
_OVER = ("completed", "failed", "expired", "cancelled")
_DECODER = json.JSONDecoder()
_EXPIRED = {"code": "batch_expired", "message": "This request could not be executed before the window expired."}
_CANCELLED = {"code": "batch_cancelled", "message": "This request was not executed, as the batch was cancelled."}

Answer = Callable[[bytes], tuple[int, Mapping[str, Any]]]
"""Answers the body of one request with a status and a JSON body."""


@dataclass(frozen=True)
class BatchOptions:
    """How batches are worked on.

    Attributes:
        seconds: How long one takes.
        expiring: How many batches, from the first one on, expire with half of their requests answered.
        limit: The most requests of all batches under way; one more batch fails with "token_limit_exceeded".
    """

    seconds: float = 0.0
    expiring: int = 0
    limit: int | None = None


@dataclass
class _Batch:
    """A batch, with the lines of its two files as they become known."""

    id: str
    input_file: str
    endpoint: str
    metadata: Mapping[str, str]
    lines: Sequence[bytes]
    created: int
    status: str = "validating"
    errors: list[dict[str, Any]] = field(default_factory=list)
    answered: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        done, failed = len(self.answered), len(self.refused)
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.files.get("output"),
            "error_file_id": self.files.get("error"),
            "created_at": self.created,
            "request_counts": {"total": len(self.lines), "completed": done, "failed": failed},
            "metadata": dict(self.metadata),
        }


class Batches:
    """The files and batches of a server; safe to use from several threads."""

    def __init__(self, options: BatchOptions, answer: Answer) -> None:
        self._options, self._answer = options, answer
        self._lock, self._numbers = threading.Lock(), itertools.count(1)
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _Batch] = {}

    def reply(self, method: str, path: str, query: Mapping[str, str], data: bytes) -> Any:
        """Returns the decoded body, or the bytes of a file, with which a request to the endpoint is answered.

        Raises:
            BlpoError: If the request is not a valid one.
            LookupError: If there is no such file, batch or path.
        """
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return self._upload(data)
            case "GET", ["files", name, "content"]:
                return self._files[name]
            case "POST", ["batches"]:
                return self._create(json.loads(data)).to_dict()
            case "GET", ["batches"]:
                return self._listed(query)
            case "GET", ["batches", name]:
                return self._batches[name].to_dict()
            case "POST", ["batches", name, "cancel"]:
                return self._cancel(self._batches[name])
        raise LookupError(path)

    def _upload(self, data: bytes) -> dict[str, Any]:
        boundary = data.partition(b"\r\n")[0][2:]
        head = b'Content-Type: multipart/form-data; boundary="' + boundary + b'"\r\n\r\n'
        form = email.message_from_bytes(head + data, policy=email.policy.HTTP)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        if "file" not in parts or "purpose" not in parts:
            raise BlpoError("a file is uploaded as multipart/form-data with the parts 'purpose' and 'file'")
        content = parts["file"].get_payload(decode=True)
        assert isinstance(content, bytes)
        if len(content) > LARGEST_FILE:
            raise BlpoError(f"the file has {len(content):,} bytes; a batch may have {LARGEST_FILE:,}")
        name = self._name("file")
        self._files[name] = content
        about = {"filename": parts["file"].get_filename(), "purpose": parts["purpose"].get_content().strip()}
        return {"id": name, "object": "file", "bytes": len(content), "created_at": int(time.time()), **about}

    def _create(self, given: Any) -> _Batch:
        if not isinstance(given, dict) or given.get("input_file_id") not in self._files:
            raise BlpoError(f"no file {given.get('input_file_id') if isinstance(given, dict) else given!r}")
        lines = self._files[given["input_file_id"]].splitlines()
        endpoint, metadata = str(given.get("endpoint")), given.get("metadata") or {}
        batch = _Batch(self._name("batch"), given["input_file_id"], endpoint, metadata, lines, int(time.time()))
        with self._lock:
            under_way = sum(len(other.lines) for other in self._batches.values() if other.status not in _OVER)
            number = len(self._batches)
            self._batches[batch.id] = batch
        if self._options.limit is not None and under_way + len(lines) > self._options.limit:
            batch.errors.append({"code": "token_limit_exceeded", "message": "Enqueued token limit reached."})
        elif problem := _problem(lines, batch.endpoint):
            batch.errors.append({"code": "invalid_json_line", "message": problem, "line": None, "param": None})
        if batch.errors:
            batch.status = "failed"
            return batch
        expiring = number < self._options.expiring
        threading.Thread(target=self._work, args=(batch, expiring), daemon=True).start()
        return batch

    def _work(self, batch: _Batch, expiring: bool) -> None:
        batch.status = "in_progress"
        pause = self._options.seconds / max(1, len(batch.lines))
        done = len(batch.lines) // 2 if expiring else len(batch.lines)
        for line in batch.lines[:done]:
            time.sleep(pause)
            if batch.status == "cancelling":
                break
            body = body_of(line)
            status, answer = self._answer(body)
            request = hashlib.sha256(body).hexdigest()[:16]
            response = {"status_code": status, "request_id": request, "body": answer}
            (batch.answered if status < 400 else batch.refused).append(_line(line, response, None))
        cancelled = batch.status == "cancelling"
        reached = len(batch.answered) + len(batch.refused)
        error = _CANCELLED if cancelled else _EXPIRED
        batch.refused += [_line(line, None, error) for line in batch.lines[reached:]]
        for kind, found in (("output", batch.answered), ("error", batch.refused)):
            if found:
                batch.files[kind] = self._name("file")
                self._files[batch.files[kind]] = b"".join(found)
        batch.status = "cancelled" if cancelled else "expired" if expiring else "completed"

    def _listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        newest = [batch.to_dict() for batch in reversed(list(self._batches.values()))]
        names = [batch["id"] for batch in newest]
        start = names.index(query["after"]) + 1 if query.get("after") in names else 0
        end = start + int(query.get("limit") or _PAGE)
        page = newest[start:end]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return {"object": "list", "data": page, "has_more": end < len(newest), **ends}

    @staticmethod
    def _cancel(batch: _Batch) -> dict[str, Any]:
        if batch.status in _OVER:
            raise BlpoError(f"the batch is {batch.status}")
        batch.status = "cancelling"
        return batch.to_dict()

    def _name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers):06}"


def body_of(line: bytes) -> bytes:
    """Returns the body of a request in a line of a file, byte for byte."""
    text = line.decode()
    start = text.index('"body":') + len('"body":')
    start += len(text[start:]) - len(text[start:].lstrip())
    _, end = _DECODER.raw_decode(text, start)
    return text[start:end].encode()


def _problem(lines: Sequence[bytes], endpoint: str) -> str | None:
    """What is wrong with a file of requests, if anything."""
    if not 0 < len(lines) <= MOST_REQUESTS:
        return f"a batch has 1 to {MOST_REQUESTS:,} requests, this one {len(lines):,}"
    names = set()
    for number, line in enumerate(lines, 1):
        try:
            request = json.loads(line)
            body_of(line)
        except ValueError as error:
            return f"line {number} is not JSON with a body: {error}"
        if request.get("method") != "POST" or request.get("url") != endpoint:
            return f"line {number} is not a POST to {endpoint}"
        if not request.get("custom_id") or request["custom_id"] in names:
            return f"line {number} has no custom_id of its own"
        names.add(request["custom_id"])
    return None


def _line(line: bytes, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> bytes:
    name = json.loads(line)["custom_id"]
    return json.dumps({"id": f"req_{name}", "custom_id": name, "response": response, "error": error}).encode() + b"\n"
