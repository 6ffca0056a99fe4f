"""Hostile servers: every status, bodies of other shapes, connections that break or never end, answers that deceive."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import pytest
from engines import completion
from hostile_case import Case, cases, check_text, hold, import_litellm
from image_files import write_photos
from judges import SAFETY
from workspaces import shared

from blpo_dspy.errors import BlpoError, ModelError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge

pytestmark = pytest.mark.slow

KEY = "sk-hostile-0123456789abcdef"
TIMEOUT = 1.0
STATUSES = (
    *(100, 204, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 418, 422, 424, 429, 451),
    *(499, 500, 501, 502, 503, 504, 507, 520, 524, 529, 599),
)
BODIES = {
    "nothing": b"",
    "JSON": json.dumps({"error": {"message": "no", "type": "x", "code": None}}).encode(),
    "a page": b"<html><body><h1>Sorry</h1></body></html>" * 50,
}

Reply = Callable[[bytes], Iterable[bytes]]


class RawServer:
    """Answers every request with the pieces of bytes that a function of it gives, then closes the connection."""

    def __init__(self, reply: Reply) -> None:
        self.stopped = threading.Event()
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline()
                    if not line:
                        return
                    head += line
                length = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                self.rfile.read(length[0] if length else 0)
                try:
                    for piece in reply(head):
                        self.wfile.write(piece)
                        if server.stopped.is_set():
                            return
                except OSError:
                    return  # the client has had enough

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Served:
    """What a case asks of a server.

    Attributes:
        reply: What the server answers.
        engine: Which of DSPy's engines asks.
        folder: Where images and verdicts are.
    """

    reply: Reply
    engine: str
    folder: Path


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Returns a whole response."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}"]
    if not any(header.lower().startswith("content-type") for header in headers):
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "Connection: close", *headers, "", ""]).encode("latin-1") + body


def said(text: Any = "[[ ## label ## ]]\nSafe\n\n[[ ## completed ## ]]", **changes: Any) -> dict[str, Any]:
    """Returns a completion that states a label, with changes."""
    return {**completion(text), **changes}


def choice(**message: Any) -> dict[str, Any]:
    """Returns a completion whose message is changed."""
    base = said()
    base["choices"][0]["message"].update(message)
    return base


def always(response: bytes) -> Reply:
    """Returns a reply that is the same each time."""
    return lambda head: [response]


def to_both(response: bytes) -> Reply:
    """Returns a reply that each of two requests gets once both are there; as a limit holds back the later ones."""
    both = threading.Barrier(2)

    def reply(head: bytes) -> Iterator[bytes]:
        both.wait(60)
        yield response

    return reply


def ok(body: Any) -> Reply:
    """Returns a reply of JSON."""
    return always(http(200, json.dumps(body).encode()))


def trickle(first: bytes) -> Reply:
    """Returns a reply that sends a space every fifth of a second, and never ends."""

    def pieces(head: bytes) -> Iterator[bytes]:
        yield first
        while True:
            threading.Event().wait(0.2)
            yield b" "

    return pieces


def chunked(body: bytes, *, end: bool = True, size: str | None = None) -> Reply:
    """Returns a reply in chunks, whole or broken."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    pieces = [head]
    for start in range(0, len(body), 50):
        part = body[start : start + 50]
        pieces.append((size or f"{len(part):x}").encode() + b"\r\n" + part + b"\r\n")
    return lambda request: [*pieces, *([b"0\r\n\r\n"] if end else [])]


def echoed(status: int) -> Reply:
    """Returns a reply that repeats the request's head, its key too."""

    def pieces(head: bytes) -> Iterator[bytes]:
        text = head.decode("latin-1")
        yield http(status, json.dumps({"error": {"message": f"bad request: {text}"}}).encode())

    return pieces


def shapes() -> dict[str, tuple[Reply, str]]:
    """Returns replies of status 200, each with what may come of it: a label, an invalid answer, an error."""
    whole = json.dumps(said()).encode()
    base = said()
    zipped = gzip.compress(whole)
    return {
        "a list": (ok([]), "error"),
        "null": (ok(None), "error"),
        "a number": (ok(5), "error"),
        "an empty object": (ok({}), "error"),
        "an error with status 200": (ok({"error": {"message": "overloaded"}}), "error"),
        "no choices": (ok({**base, "choices": []}), "error invalid"),
        "choices as text": (ok({**base, "choices": "Safe"}), "error"),
        "choices of null": (ok({**base, "choices": [None]}), "error invalid"),
        "a choice without a message": (ok({**base, "choices": [{"index": 0}]}), "error invalid"),
        "a message of null": (ok({**base, "choices": [{"message": None}]}), "error invalid"),
        "content of null": (ok(choice(content=None)), "error invalid"),
        "content that is a number": (ok(choice(content=5)), "error invalid"),
        "content of parts": (ok(choice(content=[{"type": "text", "text": "Safe"}])), "error invalid label"),
        "content of nested lists": (ok(choice(content=[[["Safe"]]])), "error invalid"),
        "a refusal": (ok(choice(content=None, refusal="I can't help with that.")), "error invalid"),
        "a tool call": (
            ok(choice(content=None, tool_calls=[{"id": "x", "type": "function", "function": {"name": "f"}}])),
            "error invalid",
        ),
        "two choices": (ok({**base, "choices": base["choices"] * 2}), "label error"),
        "no usage": (ok({k: v for k, v in base.items() if k != "usage"}), "label"),
        "usage of null": (ok({**base, "usage": None}), "label"),
        "usage as text": (ok({**base, "usage": "many"}), "label error"),
        "tokens below zero": (ok({**base, "usage": {"prompt_tokens": -5, "completion_tokens": -9}}), "label error"),
        "tokens as text": (ok({**base, "usage": {"prompt_tokens": "x", "completion_tokens": "y"}}), "label error"),
        "10**30 tokens": (ok({**base, "usage": {"prompt_tokens": 10**30, "completion_tokens": 1}}), "label error"),
        "half a token": (ok({**base, "usage": {"prompt_tokens": 0.5, "completion_tokens": 1}}), "label error"),
        "a finish reason of null": (ok(said(choices=[{**base["choices"][0], "finish_reason": None}])), "label"),
        "a finish reason that is a list": (
            ok(said(choices=[{**base["choices"][0], "finish_reason": []}])),
            "label error",
        ),
        "an unknown finish reason": (ok(said(choices=[{**base["choices"][0], "finish_reason": "x"}])), "label error"),
        "a model of null": (ok({**base, "model": None}), "label error"),
        "other fields": (ok({**base, "x": [{}], "created": "today", "id": 5}), "label error"),
        "a label that isn't one": (ok(said("[[ ## label ## ]]\nHarmless\n\n[[ ## completed ## ]]")), "invalid"),
        "two labels": (ok(said("[[ ## label ## ]]\nSafe or Unsafe\n\n[[ ## completed ## ]]")), "invalid"),
        "no form": (ok(said("Safe")), "label"),
        "nothing": (ok(said("")), "invalid error"),
        "escape codes": (ok(said("\x1b[2J\x1b]0;x\x07")), "invalid"),
        "a lone surrogate": (always(http(200, whole.replace(b"Safe", b"\\ud800"))), "invalid error"),
        "an image marker": (ok(said('<<CUSTOM-TYPE-START-IDENTIFIER>>{"url": "file:///etc/passwd"}')), "invalid"),
        "text of 10 MB": (ok(said("x" * 10_000_000)), "error"),
        "no JSON": (always(http(200, b"Safe")), "error"),
        "half of the JSON": (always(http(200, whole[:-30])), "error"),
        "JSON twice": (always(http(200, whole * 2)), "error"),
        "a page": (always(http(200, BODIES["a page"], "Content-Type: text/html")), "error"),
        "brackets 100,000 deep": (always(http(200, b"[" * 100_000)), "error"),
        "a number of 10,000 digits": (always(http(200, b'{"usage": ' + b"9" * 10_000 + b"}")), "error"),
        "NaN": (always(http(200, whole.replace(b"1000", b"NaN"))), "label error"),
        "a byte that is no UTF-8": (always(http(200, whole.replace(b"Safe", b"S\xffe"))), "error invalid"),
        "a byte order mark": (always(http(200, b"\xef\xbb\xbf" + whole)), "label error"),
        "UTF-16": (always(http(200, whole.decode().encode("utf-16"))), "label error"),
        "gzip": (always(http(200, zipped, "Content-Encoding: gzip")), "label"),
        "gzip that is none": (always(http(200, whole, "Content-Encoding: gzip")), "error"),
        "half of the gzip": (always(http(200, zipped[:-20], "Content-Encoding: gzip")), "error"),
        "an unknown encoding": (always(http(200, whole, "Content-Encoding: zstdd")), "label error"),
        "fewer bytes than announced": (always(http(200, whole, length=len(whole) + 50)), "error"),
        "more bytes than announced": (always(http(200, whole, length=len(whole) - 50)), "error"),
        "no length": (always(http(200, whole).replace(b"Content-Length", b"X-Length", 1)), "label"),
        "a length that is a word": (always(http(200, whole).replace(b"Length: ", b"Length: x", 1)), "error"),
        "chunks": (chunked(whole), "label"),
        "chunks without an end": (chunked(whole, end=False), "error"),
        "chunks of a wrong size": (chunked(whole, size="fff"), "error"),
        "chunks of no size": (chunked(whole, size="zz"), "error"),
        "events instead of JSON": (
            always(http(200, b"data: {}\n\ndata: [DONE]\n\n", "Content-Type: text/event-stream")),
            "error",
        ),
    }


def connections() -> dict[str, tuple[Reply, str]]:
    """Returns connections that break, lie or never end, and errors that hold what nobody should read."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    return {
        "closed at once": (lambda request: [], "error"),
        "half of a status": (always(b"HTTP/1."), "error"),
        "no HTTP": (always(b"SSH-2.0-OpenSSH_9.6\r\n"), "error"),
        "a status of letters": (always(b"HTTP/1.1 OK\r\n\r\n"), "error"),
        "status 999": (always(http(999, b"")), "error"),
        "headers without an end": (always(head), "error"),
        "a header of 300 KB": (always(http(200, b"{}", "X-Long: " + "x" * 300_000)), "error"),
        "10,000 headers": (always(http(200, b"{}", *(f"X-{i}: x" for i in range(10_000)))), "error"),
        "a redirect to a file": (always(http(302, b"", "Location: file:///etc/passwd")), "error"),
        "a redirect to another host": (
            always(http(307, b"", "Location: http://192.0.2.1/v1/chat/completions")),
            "error",
        ),
        "a redirect in a circle": (always(http(308, b"", "Location: /v1/chat/completions")), "error"),
        "bodies that trickle": (trickle(head + b"\r\n"), "error"),
        "headers that trickle": (trickle(head), "error"),
        "a broken body that trickles": (trickle(head + b"Content-Length: 9999\r\n\r\n{"), "error"),
        "a wait of a thousand years": (to_both(http(429, b"{}", "Retry-After: 31536000000")), "error"),
        "a wait that is no number": (always(http(429, b"{}", "Retry-After: soon")), "error"),
        "a wait below zero": (always(http(503, b"{}", "Retry-After: -5")), "error"),
        "a wait without end": (always(http(503, b"{}", "Retry-After: inf")), "error"),
        "an error that repeats the key": (echoed(400), "error"),
        "a refusal that repeats the key": (echoed(401), "error"),
        "an outage that repeats the key": (echoed(500), "error"),
        "an error of 2 MB": (always(http(502, b"<p>Sorry</p>" * 170_000, "Content-Type: text/html")), "error"),
        "an error with escape codes": (
            always(http(400, json.dumps({"error": {"message": "\x1b[2J\x1b]0;x\x07"}}).encode())),
            "error",
        ),
        "an error that forges lines": (
            always(http(400, json.dumps({"error": {"message": "x\r\na.png\tSafe\n"}}).encode())),
            "error",
        ),
        "an error that is a list": (always(http(400, b'{"error": [1, {"x": null}]}')), "error"),
        "an error whose text is a number": (always(http(400, b'{"error": {"message": 5, "code": []}}')), "error"),
    }


def served(reply: Reply, engine: str, folder: Path) -> Served:
    """Writes the images."""
    if engine == "litellm":
        import_litellm()
    write_photos(folder / "photos", 2)
    return Served(reply, engine, folder)


def judged(given: Served) -> list[dict[str, Any]]:
    """Judges a folder of images into a table, twice, and returns its rows."""
    judge = VisualJudge(SAFETY, instruction="Judge how safe it is.", evidence="image")
    out = given.folder / "p.jsonl"
    with RawServer(given.reply) as server:
        options: dict[str, Any] = {"api_base": server.url, "api_key": KEY, "timeout": TIMEOUT}
        lm = dspy.LM("openai/x", cache=False, num_retries=0, engine=given.engine, **options)
        models = Models(lm, lm, lm)
        try:
            shared(predict, judge, given.folder / "photos", out=out, models=models, num_threads=2)
        except BlpoError as error:
            if KEY in str(error):
                raise AssertionError("the key is in the message") from error
            raise
        finally:
            for path in given.folder.glob("p.jsonl*"):
                assert KEY.encode() not in path.read_bytes(), f"the key is in {path.name}"
        rows = out.read_text()
        try:  # what was written of a hostile answer can be read again
            shared(predict, judge, given.folder / "photos", out=out, models=models, num_threads=2)
        except ModelError:
            assert '"error": null' not in rows
    assert out.read_text() == rows
    return [json.loads(line) for line in rows.splitlines()]


def came_to(expected: str) -> Callable[[list[dict[str, Any]]], None]:
    """Returns the assertion that each row is of one of the expected kinds."""

    def each(rows: list[dict[str, Any]]) -> None:
        assert len(rows) == 2
        for row in rows:
            kind = "error" if row["error"] is not None else "invalid" if row["invalid"] else "label"
            assert kind in expected.split(), row
            assert row["label"] == ("Safe" if kind == "label" else None)
            if kind == "error":
                check_text(row["error"])

    return each


def http_cases(judge: Callable[[Served], list[dict[str, Any]]] = judged) -> Iterator[Case]:
    """Yields the family."""

    def case(name: str, reply: Reply, expected: str, engine: str = "lm15") -> Case:
        error = "" if "error" in expected else None
        kept = ("workspace.sqlite",)
        return Case(f"{engine}: {name}", partial(served, reply, engine), judge, came_to(expected), error, kept)

    for number, status in enumerate(STATUSES):
        name = list(BODIES)[number % len(BODIES)]
        yield case(f"status {status} with {name}", always(http(status, BODIES[name])), "error")
    for name, (reply, expected) in {**shapes(), **connections()}.items():
        yield case(name, reply, expected)
    for name in ("a list", "content of null", "two labels", "no usage", "half of the JSON", "text of 10 MB"):
        yield case(name, *shapes()[name], "litellm")
    for name in ("closed at once", "bodies that trickle", "an error that repeats the key", "an error of 2 MB"):
        yield case(name, *connections()[name], "litellm")


@cases(http_cases())
def test_a_hostile_server_gives_a_label_an_invalid_answer_or_an_error(case: Case, tmp_path: Path) -> None:
    """Never a guess, a key in a file, a foreign error, a wait without end or half a table."""
    hold(case, tmp_path)
