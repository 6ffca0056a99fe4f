"""Faults that the endpoint makes on purpose, so that what a flaky provider does can be tried out."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from blpo_dspy.errors import BlpoError

Fault = Literal["429", "500", "drop", "timeout", "garbage", "shape"]

_GARBAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body>upstream sent no response</body></html>",
    b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assis',
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xab\x56",
)
_SHAPES = (
    b"[]",
    b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}',
    b'{"choices": {"detail": "busy"}}',
)


@dataclass(frozen=True)
class Faults:
    """How often requests fail, and how: shares in [0, 1] of all requests, at most 1 together.

    Attributes:
        p429: Refused for now, with a Retry-After header.
        p500: An internal error.
        pdrop: The connection is closed without an answer.
        ptimeout: The connection hangs until the client gives up.
        pgarbage: A malformed HTTP answer: a gateway's page, half a JSON document, or bytes. (A model that answers
            with nonsense *text* is another thing: `Options.garbage`.)
        pshape: JSON, but no completion: a list, one without choices, or something else in their place.
        prow: A request of a batch fails with an internal error: a share of these requests, on its own.
        retry_after: Seconds that the Retry-After header names.
        seed: Draws which requests fail.
    """

    p429: float = 0.0
    p500: float = 0.0
    pdrop: float = 0.0
    ptimeout: float = 0.0
    pgarbage: float = 0.0
    pshape: float = 0.0
    prow: float = 0.0
    retry_after: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = [share for _, share in self._shares()]
        if min(*shares, self.prow) < 0 or max(sum(shares), self.prow) > 1 or self.retry_after < 0:
            raise BlpoError(f"{self} is impossible: no share may be negative, and their sum may be at most 1")

    def draw(self, content: bytes, attempt: int) -> Fault | None:
        """Returns what befalls a request, by its content and how often that came before: never by order or time."""
        digest = hashlib.sha256(b"%d:%d:" % (self.seed, attempt) + content).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        for fault, share in self._shares():
            if drawn < share:
                return fault
            drawn -= share
        return None

    def _shares(self) -> list[tuple[Fault, float]]:
        return [(fault, getattr(self, f"p{fault}")) for fault in get_args(Fault)]


class FaultyLine:
    """Draws faults for requests, counting how often each content came; safe to use from several threads."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._seen: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    def draw(self, content: bytes) -> Fault | None:
        """Returns what befalls the next request of this content."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            self._seen[digest] += 1
            attempt = self._seen[digest]
        return self._faults.draw(digest, attempt)


def spoiled(fault: Fault, content: bytes) -> bytes:
    """Returns a body that no client can read ("garbage"), or one of JSON that holds no answer ("shape")."""
    bodies = _GARBAGE if fault == "garbage" else _SHAPES
    return bodies[hashlib.sha256(content).digest()[0] % len(bodies)]
