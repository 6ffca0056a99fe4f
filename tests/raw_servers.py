"""Servers on loopback that fail in ways of their own, byte by byte."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Raw(BaseHTTPRequestHandler):
    """A handler with its request read, as a script of `raw_server` gets it."""

    protocol_version = "HTTP/1.1"
    body = b""

    def do_POST(self) -> None:
        """Reads a request and has it answered by the script."""
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.server.script(self)  # type: ignore[attr-defined]
        except OSError:  # the client has given up
            self.close_connection = True

    def send(self, status: int, content: bytes, **headers: str) -> None:
        """Sends a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def trickle(self, pause: float) -> None:
        """Sends a space now and then, until the client gives up or the server ends."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.server.ended.wait(pause):  # type: ignore[attr-defined]
            self.wfile.write(b" ")
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that have given up."""


@contextmanager
def raw_server(script: Callable[[Raw], None]) -> Iterator[str]:
    """Serves while the block runs; yields the `api_base`."""
    server: socketserver.BaseServer = _Server(("127.0.0.1", 0), Raw)
    server.script, server.ended = script, threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
