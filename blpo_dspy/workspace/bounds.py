"""How many calls may be under way, and what one may take at most: seconds for all of it, and bytes of an answer.

The time-outs of DSPy's engines bound the silence between two bytes, and nothing bounds how many come.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from dspy import lm15

from blpo_dspy.models.seams import LM15Engine, settled
from blpo_dspy.workspace.idempotency import with_key

R = TypeVar("R")

LARGEST_ANSWER = 8 * 2**20
"""The most bytes of an answer, and characters of its text; no label, description or instruction comes near it."""

# What DSPy's native engine, like the providers' own clients, waits for a byte where an LM has no time-out.
_DEFAULT_SECONDS = 600.0

# Seconds for which a thread waits for another call.
_IDLE_SECONDS = 10.0

# Seconds after its time in which a call ends by itself; by then its caller has raised the error.
_AFTER = 1.0

_until: ContextVar[float] = ContextVar("blpo_call_until", default=float("inf"))

RECEIVED: ContextVar[bool] = ContextVar("blpo_answer_received", default=False)
"""Set once the native engine has read a server's answer to its end, whatever DSPy then makes of it."""


class Gate:
    """Limits the number of calls under way at once.

    Args:
        slots: The most calls under way.
    """

    def __init__(self, slots: int) -> None:
        self._free = self._slots = slots
        # Entered itself, as Ctrl-C within a condition's own `__enter__` or `__exit__` would leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def taken(self) -> int:
        """How many calls are under way."""
        return self._slots - self._free

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Waits for one of the slots, and holds it while the block runs."""
        with self._lock:
            self._changed.wait_for(lambda: self._free)
            self._free -= 1
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Waits until no call is under way; returns whether that was in time."""
        with self._lock:
            return self._changed.wait_for(lambda: self._free == self._slots, seconds)


def longest_call(lm: Any) -> float | None:
    """Returns the most seconds of a whole call to an LM; None where an engine of its own makes the connection."""
    if not isinstance(getattr(lm, "engine", None), str):
        return None
    timeout = lm.kwargs.get("timeout")
    seconds = getattr(timeout, "read", timeout)  # of an httpx.Timeout, what it allows for an answer
    return float(seconds) if isinstance(seconds, (int, float)) else _DEFAULT_SECONDS


def within(seconds: float, call: Callable[[], R], late: Callable[[], BaseException]) -> R:
    """Returns what a call returns; once its time is over it is left to itself, which ends it at its next byte.

    It is made in a thread of its own, in the caller's context. `late` makes the error for one that takes longer.
    """
    result: Future[R] = Future()
    ended = threading.Lock()  # of all ways to wait for a thread the one that takes the least time
    ended.acquire()

    def work() -> None:
        _until.set(time.monotonic() + seconds + _AFTER)
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)
        finally:
            ended.release()

    try:
        caller = _idle.pop()
    except IndexError:
        caller = _Caller()
    caller.work.put(partial(copy_context().run, work))
    if not ended.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX)):
        raise late()
    return result.result()


class _Caller:
    """A thread that makes calls, one at a time; it ends after a while without one."""

    def __init__(self) -> None:
        self.work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._run, name="blpo-call", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                work = self.work.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:  # it was taken at this moment
                    continue
                return
            work()
            del work  # no image of a call that ended is kept until the next begins
            _idle.append(self)


_idle: list[_Caller] = []
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive one


class Engines(dict[Any, Any]):
    """The native engines of an LM by their settings, as DSPy keeps them, each with a bounded transport.

    Args:
        wire: A transport instead of the connection to the server.
    """

    def __init__(self, wire: Any = None) -> None:
        super().__init__()
        self._wire = wire

    def __setitem__(self, key: Any, engine: Any) -> None:
        if isinstance(engine, LM15Engine):
            router = engine.router
            router._transport = _BoundedTransport(_ending_in(self._wire, settled(router._shared_transport())))
        super().__setitem__(key, engine)


def _ending_in(wire: Any, transport: Any) -> Any:
    """A transport with a wire instead of its innermost one; those around that may change what is sent."""
    inner = getattr(transport, "_transport", None)
    if wire is None or inner is None:
        return wire or transport
    transport._transport = _ending_in(wire, inner)
    return transport


class _BoundedTransport:
    """A transport of DSPy's native engine that bounds answers and gives requests the key of their attempt."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def stream(self, request: Any) -> _BoundedResponse:
        return _BoundedResponse(self._transport.stream(with_key(request)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _BoundedResponse:
    """Its answer, read no further than the bounds allow; then its connection is closed."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def read(self) -> bytes:
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        size, until = 0, _until.get()
        for chunk in self._response:
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise lm15.ProviderError(TOO_LARGE)
            if time.monotonic() > until:
                raise lm15.TimeoutError("the answer is not complete in time")
            yield chunk
        RECEIVED.set(True)

    def __enter__(self) -> _BoundedResponse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)


TOO_LARGE = f"the server's answer is larger than {LARGEST_ANSWER // 2**20} MB"
