"""Edited photographs beside their originals: the rater rates what the edit has done, not what was there before."""

from __future__ import annotations

import random
from dataclasses import dataclass

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import crops
from blpo_dspy.data.sources.photographs.dataset import Recipe, balanced_recipes
from blpo_dspy.data.sources.photographs.degradations import degrade
from blpo_dspy.data.sources.photographs.raters import Rater
from blpo_dspy.data.splits import Splits
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.pixels import png

KEPT = LabelSpace("reject", "keep")


@dataclass(frozen=True)
class RatedEdit:
    """A photograph before and after an edit, as PNG bytes, and the rater's label for the edit.

    The original may have a flaw of its own; the label is by the flaws that the edit has added.
    """

    original: bytes
    candidate: bytes
    label: Label


def rated_edits(
    rater: Rater, *, seed: int = 0, train: int = 100, val: int = 60, test: int = 100, labels: LabelSpace = KEPT
) -> Splits[RatedEdit]:
    """Returns edited photographs with their originals in three splits, each balanced by label.

    Arguments and errors are those of `rated_photographs`.
    """
    recipes = balanced_recipes(rater, {"train": train, "val": val, "test": test}, labels, seed)
    splits = {name: [_rated(recipe, seed) for recipe in chosen] for name, chosen in recipes.items()}
    return Splits(**splits, labels=labels, how=f"balanced by label, seed {seed}")


def _rated(recipe: Recipe, seed: int) -> RatedEdit:
    rng = random.Random(f"{seed}:edit:{recipe.number}")
    before = crops.crop(crops.photograph(rng.choice(crops.NAMES)), rng)
    # A flaw that the edit adds to would be judged by both levels; one that hides another, by neither.
    free = [flaw for flaw in flaws.FLAWS if all(frozenset((flaw, x)) not in flaws.HIDING for x in recipe.levels)]
    own = {flaw: rng.randint(1, flaws.LEVELS) for flaw in rng.sample([f for f in free if f not in recipe.levels], 1)}
    grain = rng.getrandbits(64)
    original, candidate = (
        png(degrade(before, levels, random.Random(grain))) for levels in (own, {**own, **recipe.levels})
    )
    return RatedEdit(original, candidate, recipe.label)
