"""Requests to the embedded engine, and pictures to send."""

from __future__ import annotations

import base64
from functools import lru_cache

import dspy
from dspy import lm15

from blpo_dspy.data.sources.photographs import RATERS, RatedPhotograph, rated_photographs
from blpo_dspy.embedded import EmbeddedEngine

TASK = "Rate the technical quality of this photograph."


def as_image(data: bytes) -> dspy.Image:
    """Returns PNG bytes as a DSPy image."""
    return dspy.Image("data:image/png;base64," + base64.b64encode(data).decode())


def request(*parts: str | bytes, system: str | None = None, seed: int | None = None) -> lm15.Request:
    """Returns a request with one user message of texts and pictures."""
    content = [
        lm15.TextPart(x)
        if isinstance(x, str)
        else lm15.ImagePart(media_type="image/png", data=base64.b64encode(x).decode())
        for x in parts
    ]
    return lm15.Request(model="m", system=system, messages=(lm15.Message.user(content),), config=lm15.Config(seed=seed))


def ask(engine: EmbeddedEngine, *parts: str | bytes, system: str | None = None, seed: int | None = None) -> str:
    """Returns the engine's answer to one user message."""
    return text_of(engine.complete(request(*parts, system=system, seed=seed)))


def text_of(response: lm15.Response) -> str:
    """Returns the text of a response."""
    return "".join(part.text for part in response.message.parts if part.type == "text")


@lru_cache(maxsize=4)
def photographs(rater: str = "sharp", seed: int = 0, count: int = 40) -> list[RatedPhotograph]:
    """Returns rated photographs, made once for all tests."""
    return rated_photographs(RATERS[rater], seed=seed, train=count, val=0, test=0).train
