"""A request as it passes the meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspy.utils.exceptions import LMTimeoutError

from blpo_dspy.calls.store import Answer


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
