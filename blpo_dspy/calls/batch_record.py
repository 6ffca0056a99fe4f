"""What a journal knows of a batch, so that none of its requests is submitted twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from blpo_dspy.calls.journal_lines import of_kind, role_in

_PLAIN = (bool, int, float, str, type(None))
_TEXT = (str, type(None))
_KINDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "options": dict,
    "began": (int, float),
    "file": _TEXT,
    "batch": _TEXT,
    "closed": bool,
}


@dataclass(frozen=True)
class BatchRecord:
    """A batch; one line of the journal each for the intention, the file, the submission and the end.

    Attributes:
        name: Its name in this journal and in the metadata at the provider.
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

    def step(self, **changes: Any) -> BatchRecord:
        """Returns the next line about it, without what an earlier one says."""
        return replace(self, images={}, repeated=(), options={}, **changes)

    def after(self, before: BatchRecord | None) -> BatchRecord:
        """Returns all that is known with this line."""
        if before is None:
            return self
        return replace(before, file=self.file or before.file, batch=self.batch or before.batch)

    def line(self) -> dict[str, Any]:
        """Returns the line of the journal."""
        return {"kind": "batch", **vars(self)}

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> BatchRecord:
        """Returns what a line says; errors are those of `of_kind`."""
        images, repeated = of_kind(line, "images", dict), of_kind(line, "repeated", list)
        if any(not isinstance(count, int) or count < 0 for count in images.values()):
            raise ValueError("images: not the number of images of each request")
        others = {name: of_kind(line, name, kind) for name, kind in _KINDS.items()}
        return cls(role=role_in(line), images=images, repeated=tuple(map(str, repeated)), **others)
