"""Small sets of rated photographs, and the embedded engine with every request on record."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from engines import Seen

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS
from blpo_dspy.data.sources.photographs.dataset import RatedPhotograph, rated_photographs
from blpo_dspy.embedded.engine import EmbeddedEngine
from blpo_dspy.models.lm import Models
from blpo_dspy.programs import VisualJudge

FIVE = LabelSpace.ordinal(1, 5)
TASK = "Rate the technical quality of this photograph."


@functools.cache
def photographs(seed: int = 0) -> dict[str, list[dspy.Example]]:
    """Returns train (15), val (5) and test (10), as labelled examples."""
    splits = rated_photographs(RATERS["colour"], seed=seed, train=15, val=5, test=10)
    return {f"{name}set": [_example(p) for p in getattr(splits, name)] for name in ("train", "val", "test")}


def _example(photograph: RatedPhotograph) -> dspy.Example:
    image = student().prepare(image=photograph.image)["image"]
    return dspy.Example(image=image, label=photograph.label).with_inputs("image")


def student(**options: Any) -> VisualJudge:
    """Returns the judge that every method starts from."""
    return VisualJudge(FIVE, **{"instruction": TASK, **options})


@dataclass
class Recording:
    """The requests that reached an engine, in order, with the role of the LM that sent them."""

    seen: list[tuple[str, Seen]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def of(self, role: str) -> list[Seen]:
        """Returns the requests of one role."""
        return [seen for sender, seen in self.seen if sender == role]


class RecordingEngine:
    """The embedded engine, with what it is sent on record."""

    def __init__(self, role: str, recording: Recording) -> None:
        self._role, self._recording, self._engine = role, recording, EmbeddedEngine()

    def complete(self, request: dspy.lm15.Request) -> dspy.lm15.Response:
        """Answers one request."""
        with self._recording.lock:
            self._recording.seen.append((self._role, Seen(request)))
        return self._engine.complete(request)

    def close(self) -> None:
        """Nothing to close."""

    def __deepcopy__(self, memo: dict[int, Any]) -> RecordingEngine:
        return self


def recorded_models(recording: Recording) -> Models:
    """Returns three LMs of one name on the embedded engine, without cache."""
    lms = (dspy.LM("embedded/recorded", engine=RecordingEngine(role, recording), cache=False) for role in ROLES)
    return Models(*lms)


ROLES = ("judge", "verbalizer", "optimizer")


def digest(data: str) -> str:
    """Returns a short hash, for messages that a person can read."""
    return hashlib.sha256(data.encode()).hexdigest()[:12]


def images_of(examples: Sequence[dspy.Example]) -> set[str]:
    """Returns the hashes of the examples' images as an engine sees them."""
    return {digest(example.image.url.partition("base64,")[2]) for example in examples}
