"""How many LM calls a run makes, as far as that can be said beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import dspy

from blpo_dspy.optimizers.bench.setup import Dataset


@dataclass(frozen=True)
class Span:
    """At least, as a rule, and at most."""

    low: float = 0
    usual: float = 0
    high: float = 0

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.usual + other.usual, self.high + other.high)

    def __mul__(self, other: Span) -> Span:
        return Span(self.low * other.low, self.usual * other.usual, self.high * other.high)

    def capped(self, cap: float | None) -> Span:
        """Returns the span with nothing above a cap."""
        return self if cap is None else Span(*(min(cap, value) for value in (self.low, self.usual, self.high)))

    def without_least(self) -> Span:
        """Returns the span of what may end anywhere."""
        return Span(0, self.usual, self.high)

    def to_dict(self) -> dict[str, float]:
        """Returns plain data for JSON."""
        return {"low": self.low, "usual": self.usual, "high": self.high}


@dataclass(frozen=True)
class Sizes:
    """What the number of calls depends on beside the optimizer's options.

    Attributes:
        train: Training examples.
        validation: Validation examples, None if validation is on the training examples.
        doubles: How many of them repeat another's inputs; equal requests are paid for once.
        judging: LM calls for a judgement, the verbalizer's apart.
        verbalizes: Whether a judgement asks the verbalizer too, as far as is known.
        sees: Whether the judge is known to see the image; equal descriptions of two images are one request if not.
        known: Whether the program says what it does (`VisualJudge`).
    """

    train: int
    validation: int | None
    doubles: int = 0
    judging: int = 1
    verbalizes: bool = True
    sees: bool = True
    known: bool = True

    @classmethod
    def of(cls, student: dspy.Module, data: Dataset, verbalizer: str) -> Sizes:
        """Returns the sizes of a run."""
        evidence = getattr(student, "evidence", None)
        inputs = {hash(_inputs(example)) for example in data.examples}
        return cls(
            len(data.train),
            None if data.validation == data.train else len(data.validation),
            len(data.examples) - len(inputs),
            sum(name != verbalizer for name, _ in student.named_predictors()),
            evidence != "image",
            evidence in ("image", "both"),
            evidence is not None,
        )


@dataclass(frozen=True)
class Pass:
    """Images that are judged beside each other, before or after a search.

    Attributes:
        images: How many.
        calls: By role the calls for each of them, one after the other.
        least: By role the calls for all of them that no earlier answer saves.
    """

    images: int
    calls: Mapping[str, int]
    least: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The most calls."""
        return self.images * sum(self.calls.values())

    def span(self, role: str) -> Span:
        """Returns the calls of a role."""
        most = self.images * self.calls.get(role, 0)
        return Span(self.least.get(role, 0), most, most)

    def depth(self, threads: int) -> Span:
        """Returns how many calls follow one another."""
        most = math.ceil(self.images / threads) * sum(self.calls.values())
        return Span(math.ceil(sum(self.least.values()) / threads), most, most)


@dataclass(frozen=True)
class MetaPrompt:
    """A request to the optimizer LM: beside the current instruction it lists at most so many errors or instructions."""

    signature: type[dspy.Signature]
    errors: int = 0
    instructions: int = 0


@dataclass(frozen=True)
class Plan:
    """The calls of a run in which nothing fails and nothing is known beforehand.

    Attributes:
        calls: By role.
        shortest: By role, the calls of one and of two rounds, as short as a cap on calls makes them, with the
            validations before and after them.
        depth: How many calls follow one another, each waiting for the one before.
        prompts: What the optimizer LM is asked.
    """

    calls: Mapping[str, Span]
    shortest: tuple[Mapping[str, int], Mapping[str, int]]
    depth: Span
    prompts: tuple[MetaPrompt, ...]


def _inputs(example: dspy.Example) -> str:
    inputs = {name: getattr(value, "url", value) for name, value in sorted(example.inputs().items())}
    return json.dumps(inputs, default=repr)
