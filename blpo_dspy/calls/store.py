"""Answers that were paid for, and where they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

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
        texts = (output.get("text") if isinstance(output, dict) else output for output in self.outputs)
        return sum(len(text) for text in texts if isinstance(text, str))

    @property
    def empty(self) -> bool:
        """Whether it holds nothing: no text, no token spent on one, and no finish reason such as a filter's."""
        texts = any(any(output.values()) if isinstance(output, dict) else output for output in self.outputs)
        return not texts and not self.usage.completion_tokens and self.finish_reason in (None, "stop")


class AnswerStore(Protocol):
    """Where the answers of a run are remembered, by request."""

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an equal request and what taking it adds to the ledger, or None."""

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Remembers an answer before anyone uses it."""

    def put_failed(self, role: str, usage: Usage) -> None:
        """Remembers that an attempt failed, and its usage."""

    def failed(self) -> dict[str, Usage]:
        """Returns the usage of the failed attempts of earlier sessions, by role."""

    def unused(self) -> Ledger:
        """Returns the usage of answers that were paid for earlier and not used so far; it counts against the cap."""


class MemoryStore:
    """Answers kept in memory for the length of a run."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an earlier equal request, which costs nothing, or None."""
        answer = self._answers.get(key)
        return None if answer is None else (answer, Usage(cached=1))

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Remembers an answer."""
        self._answers[key] = answer

    def put_failed(self, role: str, usage: Usage) -> None:
        """Does nothing: there is no later session."""

    def failed(self) -> dict[str, Usage]:
        """Returns nothing: there was no earlier session."""
        return {}

    def unused(self) -> Ledger:
        """Returns nothing, for the same reason."""
        return Ledger({})
