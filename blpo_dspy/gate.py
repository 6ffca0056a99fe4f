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


class Turn:
    """What a call waits with at a gate; it may come to the front when the search begins to wait for it."""

    def __init__(self) -> None:
        self.background = _background.get()


class Gate:
    """At most so many calls under way at once.

    A call in the background begins only beside one of the search, at the start of a step rather than between two, so
    that the next step finds its slots free as far as can be.

    Args:
        slots: The most calls under way.
    """

    def __init__(self, slots: int) -> None:
        self._free, self._waiting, self._searching = slots, 0, 0
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
                if not background:
                    self._searching -= 1
                    self._searched = time.monotonic()
                self._changed.notify_all()

    def bring_forward(self, turn: Turn) -> None:
        """Lets a call go with the search from now on, which waits for it."""
        if turn.background and not _background.get():
            with self._changed:
                turn.background = False
                self._changed.notify_all()

    def _enter(self, turn: Turn) -> bool:
        """Waits for a slot and takes it; returns whether it was taken in the background."""
        with self._changed:
            while turn.background:
                if self._free and not self._waiting and self._beside_the_search():
                    self._free -= 1
                    return True
                self._changed.wait(_BETWEEN_STEPS)
            self._waiting += 1
            self._changed.wait_for(lambda: self._free)
            self._waiting -= 1
            self._free -= 1
            self._searching += 1
            self._changed.notify_all()
            return False

    def _beside_the_search(self) -> bool:
        return self._searching > 0 or time.monotonic() - self._searched >= _BETWEEN_STEPS
