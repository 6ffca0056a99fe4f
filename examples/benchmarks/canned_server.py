"""An OpenAI-compatible server in a process of its own that answers every request with the same text.

usage: python examples/benchmarks/canned_server.py TEXT SECONDS, which prints its address, waits so long before each
answer, and serves until its input ends
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 128


class Canned(BaseHTTPRequestHandler):
    """Answers chat completions with the server's text, and `/keep` and `/stop`, between which it keeps requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def do_POST(self) -> None:
        """Keeps the body of a request and answers it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.keeping:  # type: ignore[attr-defined]
            self.server.bodies.append(body.decode())  # type: ignore[attr-defined]
        time.sleep(self.server.seconds)  # type: ignore[attr-defined]
        self._send(self.server.answer)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        """Returns the bodies that were kept, as a JSON list."""
        bodies, self.server.bodies = self.server.bodies, []  # type: ignore[attr-defined]
        self.server.keeping = self.path == "/keep"  # type: ignore[attr-defined]
        self._send(json.dumps(bodies).encode())

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def canned_server(text: str, seconds: float = 0) -> Iterator[str]:
    """Serves while the block runs, in another process, with answers after so many seconds; yields the address."""
    command = [sys.executable, __file__, text, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    """Serves until the standard input ends."""
    message = {"role": "assistant", "content": sys.argv[1]}
    answer = {
        "id": "canned",
        "object": "chat.completion",
        "created": 0,
        "model": "canned",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020},
    }
    server = Server(("127.0.0.1", 0), Canned)
    server.seconds = float(sys.argv[2])  # type: ignore[attr-defined]
    server.answer = json.dumps(answer).encode()  # type: ignore[attr-defined]
    server.bodies, server.keeping = [], False  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
