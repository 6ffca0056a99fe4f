"""Requests as they pass the meter, answers that were paid for, and where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspy.utils.exceptions import LMTimeoutError

from blpo_dspy.calls.ledger import Ledger, Usage


@dataclass(frozen=True)
class Answer:
    """The answer of an LM to one request.

    Attributes:
        outputs: One entry per completion, as DSPy's adapters take them (text, or a dict with "text").
        finish_reason: The provider's reason for ending, "length" when the token limit cut the answer off.
        usage: The usage of the answer, without that of failed attempts before it.
        served: The version of the model that the server reports, None where that is the name that was asked for.
    """

    outputs: tuple[Any, ...]
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    served: str | None = None

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer off."""
        return self.finish_reason in ("length", "max_tokens")

    @property
    def size(self) -> int:
        """Characters of its texts."""
        return sum(map(len, self._texts))

    @property
    def text(self) -> str:
        """The text of its first completion."""
        return next(iter(self._texts), "")

    @property
    def _texts(self) -> list[str]:
        texts = (output.get("text") if isinstance(output, dict) else output for output in self.outputs)
        return [text for text in texts if isinstance(text, str)]

    @property
    def empty(self) -> bool:
        """Whether it holds nothing: no text, no token spent on one, and no finish reason such as a filter's."""
        texts = any(any(output.values()) if isinstance(output, dict) else output for output in self.outputs)
        return not texts and not self.usage.completion_tokens and self.finish_reason in (None, "stop")


@dataclass(frozen=True)
class Request:
    """A request as it passes the meter.

    Attributes:
        role: The role of the model that is called.
        key: A hash that distinguishes it from other requests.
        attempt: Sends it once.
        model: The model's name.
        server: Who answers it.
        retries: How often it is repeated where it fails for a reason that may pass.
        seconds: The most that an attempt may take as a whole; None for no such bound.
        options: The options of this call.
        images: How many images it holds.
    """

    role: str
    key: str
    attempt: Callable[[], Answer]
    model: str
    server: str
    retries: int
    seconds: float | None
    options: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0

    @property
    def quota(self) -> str:
        """Whose rate limit it counts against."""
        return f"{self.server} {self.model}"

    def too_late(self) -> LMTimeoutError:
        """Returns the error for an attempt that takes longer."""
        return LMTimeoutError(f"no complete answer within {self.seconds:g} s (timeout)", model=self.model)


class AnswerStore:
    """Where the answers of a run are remembered, by request: in memory here, on disk in a journal."""

    def __init__(self) -> None:
        self._kept: dict[str, Answer] = {}

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an equal request and what taking it adds to the ledger, or None."""
        answer = self._kept.get(key)
        return None if answer is None else (answer, Usage(cached=1))

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Remembers an answer before anyone uses it."""
        self._kept[key] = answer

    def put_failed(self, key: str, role: str, usage: Usage) -> None:
        """Remembers that an attempt at a request failed, and its usage, for a later session if there may be one."""

    def failed(self) -> dict[str, Usage]:
        """Returns the usage of the failed attempts of earlier sessions at requests without an answer, by role."""
        return {}

    def unused(self) -> Ledger:
        """Returns the usage of answers that were paid for earlier and not used so far; it counts against the cap."""
        return Ledger({})
