"""What teaches a judge most, mixed with random draws: spread over its labels, in doubt, and unlike what is labelled."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Thread

import numpy as np

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError
from blpo_dspy.labelling.journal import Draw
from blpo_dspy.labelling.order.looks import Look
from blpo_dspy.labelling.order.ordering import RandomOrder
from blpo_dspy.predictions.reading import CHOSEN

RANDOM_SHARE = 0.3
_SHORTLIST = 24  # images whose looks are compared; each is decoded once


@dataclass(frozen=True)
class Opinion:
    """What a judge said of an item, or people who labelled it before the judge was asked.

    Attributes:
        stratum: Its label, or bin of scores; "" where its answer states none.
        doubt: From 0 for certain to 1; 0 where that is not known. None for people: the item is not chosen.
        label: The judge's label, None if its answer states none.
    """

    stratum: str
    doubt: float | None
    label: Label | None = None


class ChosenOrder:
    """Chooses each next item by chance alone, or where its label teaches most.

    Which of the two is a draw of its own, by seed and number of labels. What is chosen is of the label of the judge
    that the fewest labelled items have. Of the items there of which the judge is least certain, it is the one that
    looks the least like any that is labelled (the greedy solution of k-center; Sener and Savarese 2018). The order
    depends on what is labelled alone, not on the labels, but for those that were there before the judge was asked:
    raters who label the same items are shown the same next.

    Args:
        keys: Of all items to draw from.
        opinions: By key what the judge said; the others are drawn by chance alone.
        look: Returns the look of an item by key, None if it has none.
        seed: Seeds the draws.
        share: The share of random draws, in (0, 1].

    Raises:
        BlpoError: If the share is none.
    """

    def __init__(
        self,
        keys: Sequence[str],
        opinions: Mapping[str, Opinion],
        look: Callable[[str], Look | None],
        *,
        seed: int = 0,
        share: float = RANDOM_SHARE,
    ) -> None:
        if not 0 < share <= 1:
            raise BlpoError(
                f"random_share={share!r} is not above 0 and at most 1; without random draws no estimate would be valid",
                option="random_share",
            )
        self.share, self._seed = share, seed
        self._random = RandomOrder(keys, seed)
        self._keys, self._opinions = frozenset(keys), opinions
        self._look, self._looks = look, dict[str, Look | None]()
        ranked = sorted(
            (key for key in opinions if key in self._keys and opinions[key].doubt is not None), key=self._rank
        )
        self._candidates: dict[str, list[str]] = {}
        for key in ranked:
            self._candidates.setdefault(opinions[key].stratum, []).append(key)

    def _rank(self, key: str) -> tuple[float, bytes]:
        """The most doubtful first, equal ones in a random order of their own."""
        return -(self._opinions[key].doubt or 0.0), hashlib.sha256(f"{self._seed}:doubt:{key}".encode()).digest()

    def upcoming(self, done: Collection[str], count: int) -> list[tuple[str, Draw]]:
        """Returns the next items, as `Ordering` does."""
        taken, found = set(done), list[tuple[str, Draw]]()
        number = len(self._keys & taken)
        while len(found) < count:
            by_chance = random.Random(f"{self._seed}:slot:{number}").random() < self.share
            key = None if by_chance else self._chosen(taken)
            drawn = self._random.upcoming(taken, 1) if key is None else [(key, Draw(CHOSEN, self._seed))]
            if not drawn:
                break
            found += drawn
            taken.add(drawn[0][0])
            number += 1
        return found

    def inclusion(self, draws: Mapping[str, Draw]) -> dict[str, float | None]:
        """Returns the probabilities of the random sample; what lies beyond it and was chosen has none."""
        return self._random.inclusion(draws)

    def prepare(self) -> Thread:
        """Looks at the first shortlist of each label in a thread, while the person looks at the first picture."""
        first = [key for keys in self._candidates.values() for key in keys[:_SHORTLIST]]
        thread = Thread(target=lambda: [self._look_of(key) for key in first], daemon=True)
        thread.start()
        return thread

    def _chosen(self, taken: Collection[str]) -> str | None:
        known: dict[str, list[str]] = {}
        for key in taken:
            if key in self._opinions:
                known.setdefault(self._opinions[key].stratum, []).append(key)
        sizes = Counter({stratum: len(keys) for stratum, keys in known.items()})
        for stratum in sorted(self._candidates, key=lambda name: (sizes[name], name)):
            left = (key for key in self._candidates[stratum] if key not in taken)
            if shortlist := list(islice(left, _SHORTLIST)):
                return self._farthest(shortlist, known.get(stratum, []))
        return None

    def _farthest(self, shortlist: Sequence[str], labelled: Sequence[str]) -> str:
        """The item least like those of the same label of the judge; the most doubtful if there are none."""
        there = [look for key in labelled if (look := self._look_of(key)) is not None]
        if not there:
            return shortlist[0]
        known = np.stack(there)

        def nearest(key: str) -> float:
            look = self._look_of(key)
            return -1.0 if look is None else float(np.square(known - look).sum(axis=1).min())

        return max(shortlist, key=nearest)

    def _look_of(self, key: str) -> Look | None:
        if key not in self._looks:
            self._looks[key] = self._look(key)
        return self._looks[key]
