"""Requests that are taken down in place of being sent, and answers that are read as if they had just come.

DSPy makes the request and reads the answer either way, so that both are those of a plain call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from dspy import lm15

from blpo_dspy.calls.failures import UnreadableAnswerError
from blpo_dspy.models.batches import body_for
from blpo_dspy.models.seams import litellm_module, wrap_error

R = TypeVar("R")


class Deferred(BaseException):
    """Ends a call whose request was taken down; it is no error, and nothing on its way may handle it as one."""


@dataclass(frozen=True)
class Sent:
    """A request as it would have been sent; names of headers are in lower case."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Received:
    """An HTTP answer."""

    status: int
    body: bytes


@dataclass
class _Exchange:
    received: Received | None
    sent: Sent | None = None


_exchange: ContextVar[_Exchange | None] = ContextVar("blpo_exchange", default=None)


def captured(call: Callable[[], R]) -> R | Sent:
    """Returns the request that a call would send, or what it returns where it sends none."""
    exchange = _Exchange(None)
    token = _exchange.set(exchange)
    try:
        return call()
    except Deferred:
        assert exchange.sent is not None
        return exchange.sent
    finally:
        _exchange.reset(token)


def replayed(call: Callable[[], R], received: Received) -> R:
    """Returns what a call returns to which a server answers so; errors are those of the call."""
    token = _exchange.set(_Exchange(received))
    try:
        return call()
    finally:
        _exchange.reset(token)


def _exchanged(sent: Sent) -> Received:
    exchange = _exchange.get()
    assert exchange is not None, "a call outside of `captured` and `replayed`"
    exchange.sent = sent
    if exchange.received is None:
        raise Deferred
    return exchange.received


class Wire:
    """A transport of DSPy's native engine without a connection."""

    def stream(self, request: Any) -> _Response:
        """Takes a request down, or returns the answer to it."""
        headers = {name.lower(): value for name, value in request.headers}
        return _Response(_exchanged(Sent(request.url, headers, request.body)))

    def close(self) -> None:
        """Nothing to close."""


class _Response:
    reason, http_version = "", "HTTP/1.1"
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def __init__(self, received: Received) -> None:
        self.status, self._body = received.status, received.body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing to close."""


class ForwardMixin:
    """An LM whose requests LiteLLM would send; `_wire_name` is what it calls the model."""

    model: str
    _wire_name: str

    def forward(self, prompt: Any = None, messages: Any = None, **options: Any) -> Any:
        """Returns the provider's answer, as DSPy's own LM does."""
        asked = messages or [{"role": "user", "content": prompt}]
        received = _exchanged(Sent("", {}, body_for(self, self._wire_name, asked, options)))
        if received.status >= 400:
            text = received.body.decode(errors="replace")
            reader = lm15.OpenAIChatLM(api_key="reads errors only", transport=None)
            raise wrap_error(reader.normalize_error(received.status, text), model=self.model)
        try:
            return litellm_module().ModelResponse(**json.loads(received.body))
        except (TypeError, ValueError) as error:
            raise UnreadableAnswerError(f"the server's answer cannot be read: {error}", model=self.model) from error
