"""The embedded engine: DSPy's engine contract answered by a small deterministic program, offline.

It is not a language model. It looks at images with measures, reads and writes a small vocabulary of photographic flaws,
and answers the requests of judge, verbalizer and optimizer well enough to run a whole compilation offline. What it
shows is that a mechanism works, never how a method would do on real models.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import dspy
from dspy import lm15
from dspy.clients.engines.base import validate_request

from blpo_dspy.embedded.answers import answer
from blpo_dspy.embedded.likelihood import DRAWS, log_probabilities
from blpo_dspy.embedded.reading.request import read
from blpo_dspy.embedded.sight.perception import Perception
from blpo_dspy.embedded.sight.senses import TEMPERAMENTS, Senses, Traits
from blpo_dspy.errors import BlpoError

VERSION = 6
"""Raised whenever an answer changes: DSPy's cache knows an engine by its model name alone."""

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 85
_PERCEPTION = Perception()
_FIRST_DRAW = 2**40  # seeds from here on are those of no request


class EmbeddedEngine:
    """A deterministic offline engine: equal requests get equal answers, in any order and from any thread.

    Args:
        seed: Draws all of its noise, together with the content of the request and the request's own seed.
        traits: Its abilities: spans, misses and noise.
    """

    def __init__(self, seed: int = 0, traits: Traits | None = None) -> None:
        self.seed = seed
        self.traits = traits or Traits()
        self._senses = Senses(seed, self.traits, _PERCEPTION)

    @property
    def name(self) -> str:
        """The engine's identity, as a model name carries it."""
        traits = "" if self.traits == Traits() else f"-{hashlib.sha256(repr(self.traits).encode()).hexdigest()[:8]}"
        return f"embedded-{VERSION}-seed{self.seed}{traits}"

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request.

        Raises:
            dspy.lm15.InvalidRequestError: If an image of the request cannot be decoded.
        """
        validate_request(request)
        reading = read(request)
        further = 0 if request.config.logprobs is None else DRAWS
        try:
            text = answer(reading, self._senses)
            draws = [answer(dataclasses.replace(reading, seed=_FIRST_DRAW + i), self._senses) for i in range(further)]
        except BlpoError as error:
            raise lm15.InvalidRequestError(str(error)) from error
        return _response(request, text, draws)

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        """Yields the answer as stream events."""
        yield from lm15.response_to_events(self.complete(request))

    def close(self) -> None:
        """Does nothing: the engine holds no resources."""

    def dump_state(self) -> dict[str, Any]:
        """Returns the state from which `load_state` makes an equal engine."""
        return {"seed": self.seed, "traits": dataclasses.asdict(self.traits)}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> EmbeddedEngine:
        """Returns the engine that `dump_state` described."""
        return cls(state["seed"], Traits(**state["traits"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> EmbeddedEngine:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.seed, self.traits))


class AsyncEmbeddedEngine(EmbeddedEngine):
    """The same engine behind DSPy's asynchronous contract."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Answers one request."""
        return super().complete(request)

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:  # type: ignore[override]
        """Yields the answer as stream events."""
        for event in lm15.response_to_events(super().complete(request)):
            yield event

    async def aclose(self) -> None:
        """Does nothing: the engine holds no resources."""


def embedded_lm(
    seed: int = 0, *, temperament: str = "careful", traits: Traits | None = None, **lm_kwargs: Any
) -> dspy.LM:
    """Returns a `dspy.LM` on the embedded engine; its model name carries the engine's version, seed and traits.

    Args:
        seed: The engine's seed.
        temperament: How it revises an instruction: "careful", "bold", or "bold-deaf" to the wording of the prompt; see
            `TEMPERAMENTS`.
        traits: The engine's abilities; those of the temperament if None.
        **lm_kwargs: Passed on to `dspy.LM` (`cache`, `temperature`, `max_tokens`, …).

    Raises:
        BlpoError: If the temperament is unknown.
    """
    if temperament not in TEMPERAMENTS:
        raise BlpoError(f"temperament={temperament!r} is not one of {', '.join(TEMPERAMENTS)}")
    traits = TEMPERAMENTS[temperament] if traits is None else traits
    engine = EmbeddedEngine(seed, traits)
    return dspy.LM(
        f"embedded/{engine.name}", engine=engine, async_engine=AsyncEmbeddedEngine(seed, traits), **lm_kwargs
    )


def _response(request: lm15.Request, answered: str, draws: Sequence[str]) -> lm15.Response:
    """The answer as a response: cut at the request's token limit, with rough token counts."""
    limit = request.config.max_tokens
    most = None if limit is None else limit * _CHARACTERS_PER_TOKEN
    text = answered[:most]
    sent = _tokens(request)
    received = -(-len(text) // _CHARACTERS_PER_TOKEN)
    return lm15.Response(
        id="embedded-" + hashlib.sha256(text.encode()).hexdigest()[:16],
        model=request.model,
        message=lm15.Message.assistant([lm15.TextPart(text)]),
        finish_reason="length" if text != answered else "stop",
        usage=lm15.Usage(input_tokens=sent, output_tokens=received, total_tokens=sent + received),
        logprobs=log_probabilities(text, [draw[:most] for draw in draws]) if draws else None,
    )


def _tokens(request: lm15.Request) -> int:
    parts: list[Any] = [part for message in request.messages for part in message.parts]
    texts: list[str] = [part.text for part in parts if part.type == "text"]
    if isinstance(request.system, str):
        texts.append(request.system)
    images = len([part for part in parts if part.type == "image"])
    return sum(len(text) for text in texts) // _CHARACTERS_PER_TOKEN + _TOKENS_PER_IMAGE * images
