"""What is labelled next, and with which probability the design includes an image."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import islice, takewhile
from typing import Protocol

from blpo_dspy.labelling.journal import Draw

RANDOM = "random"


class Ordering(Protocol):
    """Chooses what is labelled next.

    Attributes:
        share: The share of random draws, in (0, 1].
    """

    share: float

    def upcoming(self, done: Collection[str], count: int) -> list[tuple[str, Draw]]:
        """Returns the next items that aren't done, each with how it was drawn.

        Args:
            done: The keys that are not to be drawn.
            count: How many to return at most.
        """
        ...

    def inclusion(self, draws: Mapping[str, Draw]) -> dict[str, float | None]:
        """Returns for each item that was shown the probability, in (0, 1], that the design included it.

        Args:
            draws: By key how each item that was shown was drawn, those of other raters too.

        Returns:
            None where the probability is not known.
        """
        ...


class RandomOrder:
    """A plain random sample: each item has a random number of its own, and the lowest come first.

    The number depends on seed and item alone. So raters with the same seed are shown the same images, which lets their
    agreement be measured, and items that are added later are part of the sample like all others.

    An item belongs to the sample once all before it were shown, whatever drew them. So the sample stays fair although
    other draws pick from the same items: without what they picked it would lack just the images that they look for.

    Args:
        keys: Of all items to draw from.
        seed: Seeds the numbers.
    """

    share = 1.0

    def __init__(self, keys: Sequence[str], seed: int = 0) -> None:
        self._keys, self._seed = tuple(keys), seed

    @cached_property
    def _order(self) -> list[str]:
        return sorted(self._keys, key=lambda key: hashlib.sha256(f"{self._seed}:{key}".encode()).digest())

    def upcoming(self, done: Collection[str], count: int) -> list[tuple[str, Draw]]:
        """Returns the next items of the sample, as `Ordering` does."""
        left = (key for key in self._order if key not in done)
        return [(key, Draw(RANDOM, self._seed)) for key in islice(left, count)]

    def inclusion(self, draws: Mapping[str, Draw]) -> dict[str, float | None]:
        """Returns the share of all items that the sample holds, whoever was shown them, for each of its items.

        One that was shown but got no label is part of the sample. The sample ends before the first item that was not
        shown: where others pick too, that makes its shares unbiased (Haldane 1945, inverse sampling).
        """
        sample = set(takewhile(draws.__contains__, self._order))
        share = len(sample) / max(1, len(self._keys))
        return {key: share if key in sample else draw.probability for key, draw in draws.items()}
