"""What a store knows of a batch, so that none of its requests is submitted twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class BatchRecord:
    """A batch; it is written down before the upload, after it, after the submission and at the end.

    Attributes:
        name: Its name here and in the metadata at the provider.
        role: The role whose requests it has.
        images: How many images each request holds, by the request's key.
        repeated: Those of its requests that had failed before.
        options: The options of the calls, as far as they are plain values.
        began: When it was intended, in seconds since 1970.
        file: The file of requests at the provider, None before it is uploaded.
        batch: The batch at the provider, None before it is known to be there.
        closed: Whether nothing more is expected of it.
    """

    name: str
    role: str
    images: Mapping[str, int] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0.0
    file: str | None = None
    batch: str | None = None
    closed: bool = False

    @classmethod
    def new(
        cls, role: str, images: Mapping[str, int], repeated: tuple[str, ...], options: Mapping[str, Any]
    ) -> BatchRecord:
        """Returns one that is intended now."""
        plain = {name: value for name, value in options.items() if isinstance(value, _PLAIN)}
        return cls(uuid.uuid4().hex, role, dict(images), repeated, plain, time.time())

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> BatchRecord:
        """Returns what was written down."""
        return cls(**{**data, "repeated": tuple(data["repeated"])})

    def step(self, **changes: Any) -> BatchRecord:
        """Returns what is known of it next."""
        return replace(self, **changes)
