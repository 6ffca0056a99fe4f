"""Requests as they pass the meter, and answers that were paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspy.utils.exceptions import LMTimeoutError

from blpo_dspy.workspace.ledger import Usage


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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON, without the usage."""
        return {"outputs": list(self.outputs), "finish_reason": self.finish_reason, "served": self.served}

    @classmethod
    def of(cls, data: Mapping[str, Any], usage: Usage) -> Answer:
        """Returns the answer that `to_dict` gave the data of."""
        return cls(tuple(data["outputs"]), data["finish_reason"], usage, data["served"])

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
