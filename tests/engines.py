"""LM engines for tests: scripted answers at DSPy's engine boundary or over HTTP, with every request on record."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
from dspy import lm15

Script = Callable[["Seen"], Any]


class Seen:
    """A request as a test reads it: text, images and requested fields."""

    def __init__(self, request: lm15.Request) -> None:
        self.request = request
        parts = [part for message in request.messages for part in message.parts]
        self.images = [part.data or part.url for part in parts if part.type == "image"]
        system = request.system if isinstance(request.system, str) else ""
        self.system = system
        self.user = "".join(part.text for part in parts if part.type == "text")
        self.text = f"{system}\n{self.user}"
        asked = re.search(r"Respond with the corresponding output fields.*", self.text, re.DOTALL)
        self.fields = re.findall(r"\[\[ ## (\w+) ## \]\]", asked.group() if asked else "")[:-1]

    def field(self, name: str) -> str:
        """Returns the value of an input field in the chat format; the last one, as demonstrations stand before it."""
        pattern = rf"\[\[ ## {name} ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with|\Z)"
        found = re.findall(pattern, self.user, re.DOTALL)
        assert found, f"no field {name} in {self.user[:300]}"
        return found[-1]

    @property
    def instruction(self) -> str:
        """Returns the instruction in the system prompt."""
        return self.system.rpartition("your objective is:")[2].strip()


class ScriptedEngine:
    """Answers by a function of the request.

    Text is the whole answer, a dict the fields of one in the chat format, a pair adds a finish reason, an lm15 Response
    is given as it is, and an error is raised.
    """

    def __init__(self, script: Script) -> None:
        self.script, self._lock = script, threading.Lock()
        self.seen: list[Seen] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request."""
        seen = Seen(request)
        with self._lock:
            self.seen.append(seen)
        answer = self.script(seen)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, lm15.Response):
            return answer
        reason = "stop"
        if isinstance(answer, tuple):
            answer, reason = answer
        if isinstance(answer, dict):
            answer = "\n\n".join(f"[[ ## {k} ## ]]\n{v}" for k, v in answer.items()) + "\n\n[[ ## completed ## ]]"
        return lm15.Response(
            id="scripted",
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(str(answer))]),
            finish_reason=reason,
            usage=lm15.Usage(input_tokens=10, output_tokens=5, total_tokens=15),
        )

    def stream(self, request: lm15.Request) -> Any:
        """Answers one request as events, the text word by word."""
        for event in lm15.response_to_events(self.complete(request)):
            if event.type == "delta" and event.delta.type == "text":
                for word in re.findall(r"\S+\s*|\s+", event.delta.text):
                    delta = lm15.TextDelta(text=word, part_index=event.delta.part_index)
                    yield lm15.StreamDeltaEvent(delta=delta)
            else:
                yield event

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedEngine:
        return self


def scripted_lm(script: Script, name: str = "scripted/test", **options: Any) -> dspy.LM:
    """Returns an LM without cache whose engine (`lm.engine`) answers by a script and records what it was sent."""
    options.setdefault("cache", False)
    return dspy.LM(name, engine=ScriptedEngine(script), **options)


class ScriptedServer:
    """An OpenAI-compatible endpoint on loopback: a script turns a request's body into (status, body, headers)."""

    def __init__(self, script: Callable[[dict[str, Any]], tuple[int, dict[str, Any], dict[str, str]]]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[tuple[str, dict[str, str], bytes]] = []  # path, headers, body
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(raw)
                server.bodies.append(body)
                server.raw.append((self.path, dict(self.headers), raw))
                status, answer, headers = script(body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}
                for name, value in sent.items():
                    self.send_header(name, value)
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def completion(text: str, *, finish_reason: str = "stop", **usage: Any) -> dict[str, Any]:
    """Returns the body of a chat completion; 1000 prompt and 100 completion tokens unless `usage` says otherwise."""
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-4o-mini",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason},
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, **usage},
    }
