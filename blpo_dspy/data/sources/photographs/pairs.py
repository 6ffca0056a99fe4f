"""Pairs of rated photographs: which of the two is better follows from the rater's two ratings."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs.dataset import FIVE, RatedPhotograph, rated_photographs
from blpo_dspy.data.sources.photographs.raters import Rater
from blpo_dspy.data.splits import Splits

PAIR = LabelSpace.pairwise("A", "B", tie="tie")


@dataclass(frozen=True)
class RatedPair:
    """Two photographs as PNG bytes, and which of them the rater rates higher, by the ratings that were written down."""

    left: bytes
    right: bytes
    label: Label


def rated_pairs(
    rater: Rater, *, seed: int = 0, train: int = 100, val: int = 60, test: int = 100, labels: LabelSpace = PAIR
) -> Splits[RatedPair]:
    """Returns pairs of rated photographs in three splits; no photograph is in two pairs.

    As many pairs have the better photograph first as second. With a tie, the pairs are drawn at random, so that about
    one in five has two equal ratings; without one, none has. Arguments and errors are those of `rated_photographs`; the
    sizes are numbers of pairs.
    """
    photos = rated_photographs(rater, seed=seed, train=2 * train, val=2 * val, test=2 * test)
    splits = {
        name: _pairs(getattr(photos, name), labels, random.Random(f"{seed}:pairs:{name}"))
        for name in ("train", "val", "test")
    }
    return Splits(**splits, labels=labels, how=f"disjoint pairs, seed {seed}")


def _pairs(photos: Sequence[RatedPhotograph], labels: LabelSpace, rng: random.Random) -> list[RatedPair]:
    drawn = rng.sample(photos, len(photos))
    firsts, seconds = drawn[::2], drawn[1::2]
    if labels.tie is None:
        _part_equals(firsts, seconds)
    made = []
    better_first = rng.random() < 0.5
    for first, second in zip(firsts, seconds, strict=True):
        one, other = FIVE.index(first.label), FIVE.index(second.label)
        if one != other:
            if (one > other) != better_first:
                first, second = second, first  # noqa: PLW2901 - the pair the other way round
            better_first = not better_first
        made.append(RatedPair(first.image, second.image, _label(first, second, labels)))
    return made


def _part_equals(firsts: list[RatedPhotograph], seconds: list[RatedPhotograph]) -> None:
    """Gives photographs that have an equally rated partner another one, as far as there is one."""
    for i, first in enumerate(firsts):
        if first.label == seconds[i].label:
            for j, other in enumerate(firsts):
                if first.label != seconds[j].label and other.label != seconds[i].label:
                    seconds[i], seconds[j] = seconds[j], seconds[i]
                    break


def _label(first: RatedPhotograph, second: RatedPhotograph, labels: LabelSpace) -> Label:
    one, other = FIVE.index(first.label), FIVE.index(second.label)
    if one == other and labels.tie is not None:
        return labels.tie
    return labels.labels[0 if one > other else 1]
