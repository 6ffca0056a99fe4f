"""Requests that are recorded instead of being sent, and answers that are read as if they had just come.

DSPy makes the request and reads the answer either way, so that both are those of a plain call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from dspy import lm15

from blpo_dspy.models.batches import body_of
from blpo_dspy.models.seams import LiteLLMEngine, litellm_module

R = TypeVar("R")

_LIMITS = ("max_completion_tokens", "max_tokens")


class Deferred(BaseException):
    """Ends a call whose request was recorded; not an error, and nothing on its way may handle it as one."""


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


class LiteLLMWire:
    """An engine without a connection, instead of DSPy's for LiteLLM, by whose name it calls the model."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name, self._engine = name, LiteLLMEngine()
        self._limit = next((option for option in _LIMITS if options.get(option) is not None), None)

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Takes a request down, or returns the answer to it."""
        arguments = {**self._engine._arguments(request), "model": self._name}
        limits = [arguments.pop(option) for option in _LIMITS if option in arguments]
        if limits and self._limit is not None:  # under the name by which a plain call states it
            arguments[self._limit] = limits[0]
        received = _exchanged(Sent("", {}, body_of(arguments)))
        if received.status >= 400:
            reader = lm15.OpenAIChatLM(api_key="reads errors only", transport=None)
            raise reader.normalize_error(received.status, received.body.decode(errors="replace"))
        try:
            raw = litellm_module().ModelResponse(**json.loads(received.body))
        except (TypeError, ValueError) as error:
            raise lm15.ProviderError(f"the server's answer cannot be read: {error}") from error
        response: lm15.Response = self._engine._response(raw, request)
        return response

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> LiteLLMWire:
        return self
