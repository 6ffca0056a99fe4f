"""LM engines for tests: scripted answers at DSPy's engine boundary, with every request on record."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
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
        """Returns the value of an input field in the chat format."""
        found = re.search(rf"\[\[ ## {name} ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with|\Z)", self.user, re.DOTALL)
        assert found, f"no field {name} in {self.user[:300]}"
        return found.group(1)

    @property
    def instruction(self) -> str:
        """Returns the instruction in the system prompt."""
        return self.system.rpartition("your objective is:")[2].strip()


class ScriptedEngine:
    """Answers by a function of the request; text becomes the last asked field, a dict the fields, an error is raised."""

    def __init__(self, script: Script) -> None:
        self.script, self.seen, self._lock = script, [], threading.Lock()
        self.seen: list[Seen] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request."""
        seen = Seen(request)
        with self._lock:
            self.seen.append(seen)
        answer = self.script(seen)
        if isinstance(answer, Exception):
            raise answer
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
        """Answers one request as events."""
        return lm15.response_to_events(self.complete(request))

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedEngine:
        return self


def scripted_lm(script: Script, name: str = "scripted/test", **options: Any) -> dspy.LM:
    """Returns an LM without cache whose engine (`lm.engine`) answers by a script and records what it was sent."""
    options.setdefault("cache", False)
    return dspy.LM(name, engine=ScriptedEngine(script), **options)
