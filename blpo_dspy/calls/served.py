"""Which version of a model a server reports to have answered, where that is more than the name that was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from blpo_dspy.errors import brief

_LONGEST = 100
_SERVED: ContextVar[dict[str, None] | None] = ContextVar("blpo_served", default=None)


def served_in(entry: dict[str, Any], asked: str) -> str | None:
    """Returns the model that DSPy's history entry says has answered, with the server's fingerprint of its system.

    None where that is just the name that was asked for.
    """
    named = str(entry.get("response_model") or "")
    data = getattr(entry.get("response"), "provider_data", None)
    system = data.get("system_fingerprint") if isinstance(data, dict) else None
    if not system and named in ("", asked, asked.rpartition("/")[2], asked.partition("/")[2]):
        return None
    return brief(f"{named} ({system})" if system else named, _LONGEST)


@contextlib.contextmanager
def noting_served() -> Iterator[dict[str, None]]:
    """Yields the names that are noted in this thread while the block runs, in order."""
    names: dict[str, None] = {}
    token = _SERVED.set(names)
    try:
        yield names
    finally:
        _SERVED.reset(token)


def note_served(name: str | None) -> None:
    """Notes who has answered, where someone wants to know."""
    names = _SERVED.get()
    if names is not None and name is not None:
        names[name] = None
