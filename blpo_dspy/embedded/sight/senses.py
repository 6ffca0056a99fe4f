"""What the engine is like: its span of attention, its noise, and how it looks at a picture."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.perception import Perception

Temperament = Literal["careful", "bold"]


@dataclass(frozen=True)
class Traits:
    """The engine's abilities; probabilities are in [0, 1].

    Args:
        span: How many flaws a describing engine attends to; asked for n > span, it sees each with probability span / n.
        describing_noise: Probability that a described flaw is a level off.
        generic_share: Probability that a caption nobody asked anything of mentions a severe flaw.
        judging_misses: Probability that the judge overlooks a flaw in a picture.
        judging_noise: Probability that the judge sees a flaw a level off.
        prior: Weight of a flaw, at severity 2/3 or more, on which the judge's instruction is silent.
        temperament: "careful" changes a few weights of an instruction at a time; "bold" corrects every mistake that it
            is shown at once, with rules for single pictures where weights don't do it.
        obedience: How far a bold engine heeds a prompt that asks for rules which several mistakes share: the
            probability of leaving out what only one picture calls for.
        edits: How many weights one careful revision changes.
        cues: How many flaws a proposed report instruction asks for.
        crowd: Number of images in one request beyond which attention falls as crowd / n.
        crowd_noise: Further probability of a level's error for each image after the first.
        position_bias: How much more the flaws of one of two compared images must weigh than those of the other, whose
            place the engine favours, for the two to be equally good; the engine's seed decides which place.
    """

    span: int = 4
    describing_noise: float = 0.05
    generic_share: float = 0.3
    judging_misses: float = 0.0
    judging_noise: float = 0.05
    prior: float = 0.3
    temperament: Temperament = "careful"
    obedience: float = 0.9
    edits: int = 2
    cues: int = 4
    crowd: int = 5
    crowd_noise: float = 0.0125
    position_bias: float = 0.06


TEMPERAMENTS: Mapping[str, Traits] = MappingProxyType(
    {"careful": Traits(), "bold": Traits(temperament="bold"), "bold-deaf": Traits(temperament="bold", obedience=0.0)}
)
"""The engines that a model's name can mean, the first by default."""


@dataclass(frozen=True)
class Senses:
    """The traits with a seed and eyes: all randomness and all looking of the engine go through here."""

    seed: int
    traits: Traits
    perception: Perception

    def rng(self, request_seed: int | None, role: str, *content: str | bytes) -> random.Random:
        """Returns randomness that depends on the seeds, the role and the content, and on nothing else."""
        digest = hashlib.sha256(f"{self.seed}:{request_seed}:{role}".encode())
        for part in content:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        return random.Random(digest.digest())

    def favour_of_first(self) -> float:
        """Returns how much the engine favours the first of two images over the second; negative for the second."""
        return self.traits.position_bias * (1 if self.rng(None, "position").random() < 0.5 else -1)

    def look(self, image: bytes, rng: random.Random, *, attention: float, noise: float, crowd: int) -> dict[str, int]:
        """Returns the level that the engine sees of every flaw, 0 included, in one look at a picture.

        A flaw is noticed with the probability `attention` and seen a level off with the probability `noise`, both less
        favourable the more images the request has (`crowd`).
        """
        levels = self.perception(image).levels
        attention *= min(1.0, self.traits.crowd / max(1, crowd))
        noise = min(0.5, noise + self.traits.crowd_noise * max(0, crowd - 1))
        seen = {}
        for flaw in flaws.FLAWS:
            noticed, off, up = rng.random() < attention, rng.random() < noise, rng.random() < 0.5
            level = levels.get(flaw, 0) if noticed else 0
            seen[flaw] = misjudged(level, up=up) if off else level
        return seen


def misjudged(level: int, *, up: bool) -> int:
    """Returns a level one step off, within the scale."""
    if level == 0 or (up and level < flaws.LEVELS):
        return level + 1
    return level - 1


def present(levels: Mapping[str, int]) -> dict[str, int]:
    """Returns the flaws that are there."""
    return {flaw: level for flaw, level in levels.items() if level}
