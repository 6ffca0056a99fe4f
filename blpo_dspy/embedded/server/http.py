"""The embedded engine behind an OpenAI-compatible chat endpoint on loopback.

Run `python -m blpo_dspy.embedded.server.http --port 8000` and use it as model `openai/embedded` with
`api_base="http://127.0.0.1:8000/v1"`. Its answers are those of the engine in process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from dspy import lm15

from blpo_dspy.embedded.engine import EmbeddedEngine
from blpo_dspy.embedded.server import wire
from blpo_dspy.embedded.server.batches import LARGEST_FILE, Batches, BatchOptions
from blpo_dspy.embedded.server.faults import Fault, Faults, FaultyLine, spoiled
from blpo_dspy.errors import BlpoError

HOST = "127.0.0.1"
_LARGEST_BODY = 64 * 2**20
_LARGEST_UPLOAD = LARGEST_FILE + 2**20
_BATCH_PATHS = ("/v1/files", "/v1/batches")
_CHAT = "/v1/chat/completions"
_MOST_CHOICES = 32
_MODELS = {"object": "list", "data": [{"id": "embedded", "object": "model", "owned_by": "blpo-dspy"}]}
_GARBAGE = "~~ zzq blorp; wug #%% frobnitz, quux ~~"


@dataclass(frozen=True)
class Options:
    """What the server does apart from answering.

    Args:
        seed: The engine's seed.
        latency_ms: Time added to every answer, in milliseconds.
        api_key: The one key that is let in; any is if None.
        garbage: Whether every answer is nonsense.
        log: A file that gets one JSON line per request: time, method, path, status (0 for none) and milliseconds; for a
            completion also a digest of the request, the fault if it met one, the number of its images, the length of
            the longest word of its texts, and the tokens that were answered with. The requests of a batch have a line
            each, with the method "BATCH".
        faults: What goes wrong on purpose.
        batches: How batches are worked on; None for a server without the endpoint.
    """

    seed: int = 0
    latency_ms: float = 0.0
    api_key: str | None = None
    garbage: bool = False
    log: Path | None = None
    faults: Faults = field(default_factory=Faults)
    batches: BatchOptions | None = field(default_factory=BatchOptions)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: a status with a JSON body, bytes or the events of a stream; status 0 means no answer at all."""

    status: int
    body: Mapping[str, Any] | bytes | None = None
    events: Iterator[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    usage: Mapping[str, int] = field(default_factory=dict)


class Service:
    """What the endpoint answers, apart from HTTP: one method from a request to a reply."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._engine = EmbeddedEngine(options.seed)
        self._line = FaultyLine(options.faults)
        self._rows = FaultyLine(Faults(p500=options.faults.prow, seed=options.faults.seed))
        self._batches = None if options.batches is None else Batches(options.batches, self._row)
        self._log_lock = threading.Lock()

    def reply(self, method: str, path: str, key: str | None, data: bytes) -> Reply:
        """Returns the reply to one request; `key` is the bearer token that came with it."""
        path, _, query = path.partition("?")
        path = path.rstrip("/")
        if path == "/health":
            return Reply(200, {"status": "ok"})
        if self.options.api_key is not None and key != self.options.api_key:
            return Reply(401, wire.error("Incorrect API key provided.", "invalid_api_key"))
        if path == "/v1/models":
            return Reply(200, _MODELS)
        if self._batches is not None and path.startswith(_BATCH_PATHS):
            return self._of_batches(self._batches, method, path, query, data)
        if (method, path) == ("POST", _CHAT):
            fault = self._line.draw(data)
            return self._tried(data) if fault is None else self._failure(fault, data)
        return Reply(404, wire.error(f"{method} {path} is not served here", "not_found"))

    def _tried(self, data: bytes) -> Reply:
        try:
            return self._completion(json.loads(data))
        except (BlpoError, lm15.InvalidRequestError, ValueError) as error:
            return Reply(400, wire.error(str(error), "invalid_request_error"))

    def _of_batches(self, batches: Batches, method: str, path: str, query: str, data: bytes) -> Reply:
        """The reply of the batch endpoint; what a dropped connection asked for is done all the same."""
        fault = self._line.draw(b"%s %s %s" % (method.encode(), path.encode(), data))
        if fault is not None and fault not in ("drop", "timeout"):
            return self._failure(fault, data)
        try:
            found = batches.reply(method, path, dict(parse_qsl(query)), data)
        except LookupError as error:
            return Reply(404, wire.error(f"{method} {path}: there is no {error}", "not_found"))
        except (BlpoError, ValueError) as error:
            return Reply(400, wire.error(str(error), "invalid_request_error"))
        return Reply(200, found) if fault is None else self._failure(fault, data)

    def _row(self, data: bytes) -> tuple[int, Mapping[str, Any]]:
        """Answers one request of a batch, and logs it."""
        started = time.perf_counter()
        reply = self._tried(data) if self._rows.draw(data) is None else self._failure("500", data)
        self.log("BATCH", _CHAT, data, reply, time.perf_counter() - started)
        assert isinstance(reply.body, Mapping)
        return reply.status, reply.body

    def _failure(self, fault: Fault, data: bytes) -> Reply:
        if fault == "429":
            wait = {"Retry-After": f"{self.options.faults.retry_after:g}"}
            return Reply(429, wire.error("Rate limit reached.", "rate_limit_exceeded"), headers=wait, fault=fault)
        if fault == "500":
            return Reply(500, wire.error("The server had an error.", "server_error"), fault=fault)
        if fault in ("garbage", "shape"):
            return Reply(200, spoiled(fault, data), fault=fault)
        return Reply(0, fault=fault)

    def _completion(self, body: Any) -> Reply:
        if not isinstance(body, dict):
            raise BlpoError("the body must be a JSON object")
        count = 1 if body.get("n") is None else body["n"]
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_CHOICES:
            raise BlpoError(f"'n' must be a whole number from 1 to {_MOST_CHOICES}, got {count!r}")
        requests = [wire.to_request(body, sample=i) for i in range(count)]
        responses = [self._answer(request) for request in requests]
        time.sleep(self.options.latency_ms / 1000)
        model = str(body.get("model") or "embedded")
        usage = {**wire.contents_of(requests[0]), **wire.usage_of(responses)}
        if body.get("stream"):
            wanted = body.get("stream_options")
            with_usage = isinstance(wanted, dict) and bool(wanted.get("include_usage"))
            return Reply(200, events=wire.events(responses, model, usage=with_usage), usage=usage)
        return Reply(200, wire.completion(responses, model), usage=usage)

    def _answer(self, request: lm15.Request) -> lm15.Response:
        if not self.options.garbage:
            return self._engine.complete(request)
        message = lm15.Message.assistant([lm15.TextPart(_GARBAGE)])
        usage = lm15.Usage(input_tokens=1, output_tokens=10, total_tokens=11)
        return lm15.Response(id="garbage", model=request.model, message=message, finish_reason="stop", usage=usage)

    def log(self, method: str, path: str, data: bytes, reply: Reply, seconds: float) -> None:
        """Appends one line to the log, if there is one."""
        if self.options.log is None:
            return
        line = {"time": time.time(), "method": method, "path": path, "status": reply.status}
        line["ms"] = round(seconds * 1000, 1)
        if data:
            line |= {"request": hashlib.sha256(data).hexdigest()[:16], "fault": reply.fault, **reply.usage}
        with self._log_lock, self.options.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server: _Server

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        most = _LARGEST_UPLOAD if self.path.startswith(_BATCH_PATHS) else _LARGEST_BODY
        if not length.isdigit() or int(length) > most:
            self.close_connection = True
            self._send(Reply(413 if length.isdigit() else 411, wire.error("send a body of known size", "bad_length")))
            return
        self._handle(self.rfile.read(int(length)))

    def _handle(self, data: bytes) -> None:
        started = time.perf_counter()
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else None
        reply = self.server.service.reply(self.command, self.path, key, data)
        # Logged first: a client that has its answer finds its line.
        self.server.service.log(self.command, self.path, data, reply, time.perf_counter() - started)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        try:
            if not reply.status:
                self._leave(hanging=reply.fault == "timeout")
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.events is None:
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in reply.events:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _leave(self, *, hanging: bool) -> None:
        """Ends the connection without an answer, at once or once the client has given up."""
        self.close_connection = True
        while hanging and self.connection.recv(1024):
            pass

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the log option writes what is worth knowing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    service: Service

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def make_server(port: int, options: Options) -> _Server:
    """Returns a server that listens on loopback; `server_address` has the port chosen for port 0.

    Raises:
        BlpoError: If the port cannot be used.
    """
    try:
        server = _Server((HOST, port), _Handler)
    except (OSError, OverflowError) as error:
        raise BlpoError(f"cannot listen on {HOST}:{port}: {error}; choose another port, or 0 for any") from error
    server.service = Service(options)
    return server


@contextmanager
def start_server(options: Options | None = None, *, port: int = 0) -> Iterator[str]:
    """Serves in a thread of this process while the block runs; yields the `api_base`.

    Args:
        options: What the server does; the defaults if None.
        port: The port on loopback; any free one if 0.
    """
    server = make_server(port, options or Options())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _options(arguments: Sequence[str] | None) -> tuple[int, Options]:
    parser = argparse.ArgumentParser(prog="python -m blpo_dspy.embedded.server.http", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; any free one if 0")
    parser.add_argument("--seed", type=int, default=0, help="the engine's seed, and that of the faults")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time added to every answer")
    parser.add_argument("--api-key", help="let in this key only; any other gets 401")
    parser.add_argument("--garbage", action="store_true", help="answer nonsense to everything")
    parser.add_argument("--log", type=Path, help="file that gets one JSON line per request")
    faults = parser.add_argument_group("faults", "shares of all requests, from 0 to 1; they are drawn by the seed")
    faults.add_argument("--p429", type=float, default=0.0, help="refused for now, with Retry-After")
    faults.add_argument("--p500", type=float, default=0.0, help="an internal error")
    faults.add_argument("--pdrop", type=float, default=0.0, help="the connection is closed without an answer")
    faults.add_argument("--ptimeout", type=float, default=0.0, help="no answer until the client gives up")
    faults.add_argument("--pgarbage", type=float, default=0.0, help="an HTTP answer that no client can read")
    faults.add_argument("--pshape", type=float, default=0.0, help="JSON that is not a completion")
    faults.add_argument("--prow", type=float, default=0.0, help="share of the requests of a batch that fail")
    faults.add_argument("--retry-after", type=float, default=1.0, help="seconds that a 429 asks for")
    batches = parser.add_argument_group("batches")
    batches.add_argument("--batch-seconds", type=float, default=0.0, help="how long a batch takes")
    batches.add_argument("--expiring", type=int, default=0, help="so many batches, the first ones, expire half done")
    batches.add_argument("--no-batches", action="store_true", help="be a server without the batch endpoint")
    given = parser.parse_args(arguments)
    if given.latency_ms < 0 or given.batch_seconds < 0:
        parser.error("--latency-ms and --batch-seconds cannot be negative")
    shares = (given.p429, given.p500, given.pdrop, given.ptimeout, given.pgarbage, given.pshape)
    try:
        drawn = Faults(*shares, prow=given.prow, retry_after=given.retry_after, seed=given.seed)
    except BlpoError as error:
        parser.error(str(error))
    batched = None if given.no_batches else BatchOptions(given.batch_seconds, given.expiring)
    return given.port, Options(given.seed, given.latency_ms, given.api_key, given.garbage, given.log, drawn, batched)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until interrupted, after writing the address to standard output."""
    port, options = _options(arguments)
    try:
        server = make_server(port, options)
    except BlpoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"listening on http://{HOST}:{server.server_address[1]}/v1\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
