"""The gate that bounds how many LM calls are under way, and lets those of the search go first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Seconds without a call of the search after which it is taken to wait for the background: between two steps it only
# puts prompts together.
_BETWEEN_STEPS = 0.1

_background: ContextVar[bool] = ContextVar("blpo_background", default=False)


def as_background(function: Callable[[T], R], item: T) -> R:
    """Calls a function whose LM calls give way to those of the search."""
    token = _background.set(True)
    try:
        return function(item)
    finally:
        _background.reset(token)


def in_background() -> bool:
    """Whether the calls of this thread give way to those of the search."""
    return _background.get()


class Turn:
    """The place of a waiting call; it moves to the front when the search begins to wait for it."""

    def __init__(self) -> None:
        self.background = in_background()


class Gate:
    """Limits the number of calls under way at once.

    A call in the background takes a slot only if the search needs no more of them for the step that it is at, and not
    between two steps: it would keep the next one waiting. At most half of the slots are in the background, unless the
    search itself waits for it.

    Args:
        slots: The most calls under way.
        demand: Returns how many tasks of the search are under way or waiting.
    """

    def __init__(self, slots: int, demand: Callable[[], int] = lambda: 0) -> None:
        self._free, self._waiting, self._searching, self._behind = slots, 0, 0, 0
        self._awaited = False
        self._slots, self._demand = slots, demand
        self._searched = time.monotonic()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def slot(self, turn: Turn) -> Iterator[None]:
        """Holds one of the slots while the block runs."""
        background = self._enter(turn)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                if background:
                    self._behind -= 1
                else:
                    self._searching -= 1
                    self._searched = time.monotonic()
                self._changed.notify_all()

    def bring_forward(self, turn: Turn) -> None:
        """Gives a call the priority of the search, which waits for it."""
        if turn.background and not in_background():
            with self._changed:
                turn.background = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Lets the background begin its calls at once: inside the block the search waits for it."""
        with self._changed:
            self._awaited = True
            self._changed.notify_all()
        try:
            yield
        finally:
            self._awaited = False

    def settle(self, seconds: float) -> bool:
        """Waits until no call is under way; returns whether that was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self._slots, seconds)

    def _enter(self, turn: Turn) -> bool:
        """Waits for a slot and takes it; returns whether it was taken in the background."""
        with self._changed:
            while turn.background:
                if self._free and self._leftover():
                    self._free -= 1
                    self._behind += 1
                    return True
                self._changed.wait(_BETWEEN_STEPS)
            self._waiting += 1
            self._changed.wait_for(lambda: self._free)
            self._waiting -= 1
            self._free -= 1
            self._searching += 1
            self._changed.notify_all()
            return False

    def _leftover(self) -> bool:
        """Whether the search leaves a slot to the background."""
        wanted = max(self._demand(), self._searching + self._waiting)
        if not wanted:
            return self._awaited or time.monotonic() - self._searched >= _BETWEEN_STEPS
        return self._behind < self._slots // 2 and self._behind + wanted < self._slots
