"""The key by which OpenAI's own API recognizes a request that is sent again, such as after a time-out.

It is a header of the attempt, and no part of the request: neither the caches nor a judge file know it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

HEADER = "Idempotency-Key"
_HOST = "api.openai.com"

_key: ContextVar[str | None] = ContextVar("blpo_idempotency_key", default=None)


@contextmanager
def attempt_at(*request: object) -> Iterator[None]:
    """Gives the attempts made inside the block the key of a request, which is the same for equal parts."""
    token = _key.set(hashlib.sha256(repr(request).encode()).hexdigest())
    try:
        yield
    finally:
        _key.reset(token)


def with_key(sent: Any) -> Any:
    """Returns a request of DSPy's native engine, with the key of its attempt if it goes to OpenAI's own API."""
    key, host = _key.get(), urlsplit(sent.url).hostname or ""
    if key is None or not f".{host}".endswith(f".{_HOST}"):
        return sent
    return replace(sent, headers=[*sent.headers, (HEADER, key)])
