"""Which images of a judged collection people should label, so that the labels stand for all of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.data.labels.scores import quantile_bins
from blpo_dspy.errors import BlpoError
from blpo_dspy.notebook import html_table, one_line

_LEAST = 5
_PER_BIN = 20  # images of a label for each bin of confidence
_FEWEST = 2


@dataclass(frozen=True)
class Stratum:
    """Images that are equally likely to be drawn.

    Attributes:
        label: The judge's label, or bin of scores; "" where it gave none.
        confidence: The range of its confidence ("0.6–0.8"), "" where that doesn't count.
        size: How many images of the collection there are.
        drawn: How many of them are drawn.
    """

    label: str
    confidence: str
    size: int
    drawn: int

    @property
    def chance(self) -> float:
        """The inclusion probability of each image."""
        return self.drawn / self.size


@dataclass(frozen=True, repr=False)
class Draw:
    """A stratified draw: its strata, and pairs of a position in the collection and one among them.

    Both are in random order, so that they say nothing to people who label.
    """

    strata: tuple[Stratum, ...]
    chosen: tuple[tuple[int, int], ...]

    def __repr__(self) -> str:
        images = sum(stratum.size for stratum in self.strata)
        return one_line(self, f"{len(self.chosen):,} of {images:,} images from {len(self.strata)} strata")

    def _repr_html_(self) -> str:
        rows = [[each.label, each.confidence, f"{each.size:,}", f"{each.drawn:,}"] for each in self.strata]
        return html_table([["label", "confidence", "images", "drawn"], *rows])


def draw(labels: Sequence[str], confidence: Sequence[float | None], n: int, *, seed: int = 0) -> Draw:
    """Returns a draw of n images, stratified by the judge's label and, with enough images, by its confidence.

    Every stratum gets images in proportion to its size, but at least five, or all that it has: a judge that is no
    better than chance then costs next to nothing.

    Args:
        labels: The judge's label of each image, "" where it gave none.
        confidence: Its confidence in each, None where it is unknown.
        n: How many images people label.
        seed: The same seed gives the same draw.
    """
    if not 1 <= n <= len(labels):
        raise BlpoError(f"n={n} images cannot be drawn from {len(labels):,}; draw 1 to {len(labels):,}", option="n")
    by_label = [(label, "") for label in labels]
    members = _members(by_label)
    if n < sum(min(_FEWEST, len(found)) for found in members.values()):
        raise BlpoError(
            f"n={n} is too few for {len(members)} labels: an estimate needs at least {_FEWEST} of each that the judge "
            f"gave; draw {_FEWEST * len(members)} or more",
            option="n",
        )
    finer = _members(_with_confidence(labels, confidence))
    if n >= 2 * _LEAST * len(finer):
        members = finer
    sizes = _allocated([len(found) for found in members.values()], n)
    rng = random.Random(f"{seed}:strata")
    order = rng.sample(range(len(sizes)), len(sizes))
    names, places = list(members), list(members.values())
    strata = tuple(Stratum(*names[i], len(places[i]), sizes[i]) for i in order)
    chosen = [(position, at) for at, i in enumerate(order) for position in rng.sample(places[i], sizes[i])]
    rng.shuffle(chosen)
    return Draw(strata, tuple(chosen))


def _members(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return found


def _with_confidence(labels: Sequence[str], confidence: Sequence[float | None]) -> list[tuple[str, str]]:
    """Label and bin of confidence of each image; those without a label are not divided."""
    bins = [""] * len(labels)
    for label in filter(None, Counter(labels)):
        known = [
            i for i, (own, sure) in enumerate(zip(labels, confidence, strict=True)) if own == label and sure is not None
        ]
        _, found = quantile_bins([confidence[i] or 0.0 for i in known], _PER_BIN)
        for position, name in zip(known, found, strict=True):
            bins[position] = name
    return list(zip(labels, bins, strict=True))


def _allocated(sizes: Sequence[int], n: int) -> list[int]:
    """How many images of each stratum are drawn: its least number, and of the rest its share."""
    least = max(_FEWEST, min(_LEAST, n // (2 * len(sizes))))
    found = [min(size, least) for size in sizes]
    if sum(found) > n:
        found = [min(size, _FEWEST) for size in sizes]
    while (left := n - sum(found)) > 0:
        # The stratum that is the furthest behind its share; of a large draw many at once.
        behind = {i: n * size / sum(sizes) - found[i] for i, size in enumerate(sizes) if found[i] < size}
        furthest = max(behind, key=lambda i: behind[i])
        found[furthest] += max(1, min(left, sizes[furthest] - found[furthest], int(behind[furthest])))
    return found
