"""The gate that bounds how many LM calls are under way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Gate:
    """Limits the number of calls under way at once.

    Args:
        slots: The most calls under way.
    """

    def __init__(self, slots: int) -> None:
        self._free = self._slots = slots
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """How many calls are under way."""
        return self._slots - self._free

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Waits for one of the slots, and holds it while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        """Waits until no call is under way; returns whether that was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self._slots, seconds)
