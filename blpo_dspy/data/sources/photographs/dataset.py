"""Rated photographs: balanced by label, in memory or as real files with train, val and test tables."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import crops
from blpo_dspy.data.sources.photographs.degradations import degrade, draw_flaws
from blpo_dspy.data.sources.photographs.raters import SCORE_LEVELS, Rater, worst_to_best
from blpo_dspy.data.sources.photographs.reasons import reason_for
from blpo_dspy.data.splits import Splits
from blpo_dspy.embedded.sight import flaws
from blpo_dspy.embedded.sight.perception import Levels
from blpo_dspy.embedded.sight.pixels import png
from blpo_dspy.errors import BlpoError

FIVE = LabelSpace.ordinal(1, 5)
REASON_COLUMN = "why"
_DRAWS_PER_EXAMPLE = 40


@dataclass(frozen=True)
class RatedPhotograph:
    """A photograph as PNG bytes, the rater's label, and the truth that neither judge nor optimizer sees.

    Attributes:
        image: The photograph.
        label: The label that was written down.
        levels: Its flaws.
        meant: The label that the rater means; another one where `Rater.label_noise` made a slip.
        reason: What the rater writes beside the label; "" for nothing.
    """

    image: bytes
    label: Label
    levels: Levels
    meant: Label
    reason: str = ""


@dataclass(frozen=True)
class DatasetPaths:
    """Where a dataset lies on disk; each table has the columns `image` (relative to the table) and `label`.

    With reasons it has a column `why` too.
    """

    folder: Path
    images: Path
    train: Path
    val: Path
    test: Path


def rated_photographs(
    rater: Rater, *, seed: int = 0, train: int = 100, val: int = 60, test: int = 100, labels: LabelSpace = FIVE
) -> Splits[RatedPhotograph]:
    """Returns rated photographs in three splits, each balanced by the label that the rater means.

    The same photographs come with any `Rater.label_noise`; measured on `RatedPhotograph.meant` a judge is not blamed
    for the slips.

    Args:
        rater: Whose taste the labels follow.
        seed: Draws the crops, their flaws, the rater's noise and the order.
        train: Number of training examples; likewise `val` and `test`.
        val: Number of validation examples.
        test: Number of test examples.
        labels: The labels the rater chooses from; scores are balanced by five parts of their range.

    Raises:
        BlpoError: If the rater hardly ever gives one of the labels; the message shows how often it gives each, and
            what stands in the way.
    """
    recipes = balanced_recipes(rater, {"train": train, "val": val, "test": test}, labels, seed)
    splits = {name: [_rated(recipe, rater, labels, seed) for recipe in chosen] for name, chosen in recipes.items()}
    by = "label" if labels.labels else "fifths of the range"
    return Splits(**splits, labels=labels, how=f"balanced by {by}, seed {seed}")


@dataclass(frozen=True)
class Recipe:
    """A photograph without its pixels: its number, its flaws, and the label that the rater means."""

    number: int
    levels: Levels
    label: Label


def balanced_recipes(rater: Rater, sizes: Mapping[str, int], labels: LabelSpace, seed: int) -> dict[str, list[Recipe]]:
    """Returns for each split so many recipes, balanced by label, in an order by seed."""
    if min(sizes.values()) < 0 or sum(sizes.values()) == 0:
        raise BlpoError(f"the splits cannot have sizes {dict(sizes)}; ask for at least one photograph")
    strata = _strata(labels)
    counts = {name: _shares(size, strata) for name, size in sizes.items()}
    recipes = _recipes(rater, labels, {x: sum(c[x] for c in counts.values()) for x in strata}, seed)
    splits = {}
    for name, wanted in counts.items():
        splits[name] = [recipes[stratum].pop() for stratum in strata for _ in range(wanted[stratum])]
        random.Random(f"{seed}:order:{name}").shuffle(splits[name])
    return splits


def _strata(labels: LabelSpace) -> tuple[Label, ...]:
    """What a set is balanced by: the labels; of scores the levels that are nearest."""
    return labels.labels or FIVE.labels


def _stratum(label: Label, labels: LabelSpace) -> Label:
    scores = labels.score_range
    return label if scores is None else FIVE.labels[round(SCORE_LEVELS * scores.part(labels.score(label)))]


def _shares(size: int, strata: tuple[Label, ...]) -> dict[Label, int]:
    """How many of each make a balanced set; the first ones take the remainder."""
    return {stratum: size // len(strata) + (i < size % len(strata)) for i, stratum in enumerate(strata)}


def _recipes(rater: Rater, labels: LabelSpace, wanted: dict[Label, int], seed: int) -> dict[Label, list[Recipe]]:
    """Draws flaws and labels, without any pixels yet, until there are enough photographs of each label."""
    rng = random.Random(f"{seed}:recipes")
    drawn: Counter[Label] = Counter()
    kept: dict[Label, list[Recipe]] = {stratum: [] for stratum in wanted}
    for number in range(max(1000, _DRAWS_PER_EXAMPLE * sum(wanted.values()))):
        levels = draw_flaws(rng)
        label = rater.rate(levels, labels, rng)
        stratum = _stratum(label, labels)
        drawn[stratum] += 1
        if len(kept[stratum]) < wanted[stratum]:
            kept[stratum].append(Recipe(number, MappingProxyType(levels), label))
        elif all(len(kept[x]) == n for x, n in wanted.items()):
            break
    short = [x for x in wanted if len(kept[x]) < wanted[x]]
    if short:
        shown = ", ".join(f"{x}: {drawn[x]}" for x in wanted)
        raise BlpoError(
            f"this rater cannot fill every label: of {sum(drawn.values())} photographs it gave {{{shown}}}, but a "
            f"balanced set needs {max(wanted.values())} of each, so too few have {', '.join(map(str, short))}; "
            f"{_remedy(rater, worst_to_best(labels if labels.labels else FIVE)[0] in short)}"
        )
    for label, pile in kept.items():
        random.Random(f"{seed}:pile:{label}").shuffle(pile)
    return kept


def _remedy(rater: Rater, worst_is_short: bool) -> str:
    """What to change in a rater that gives some labels too rarely."""
    if not worst_is_short:
        return "give another flaw a weight, as those that have one lead past these labels"
    weighed = [flaw for flaw in flaws.FLAWS if rater.weights.get(flaw)]
    pairs = [frozenset(pair) for pair in combinations(flaws.FLAWS, 2)]
    together = max(sum(rater.weights.get(f, 0.0) for f in pair) for pair in pairs if pair not in flaws.HIDING)
    apart = [f"{a} and {b}" for a, b in combinations(weighed, 2) if frozenset((a, b)) in flaws.HIDING]
    never = f" (none has both {', or '.join(apart)}, which hide each other)" if apart else ""
    return (
        f"the two heaviest flaws that one photograph can have weigh {together:.2f} together{never}: give heavier "
        "weights to flaws that can be on it together"
    )


def _rated(recipe: Recipe, rater: Rater, labels: LabelSpace, seed: int) -> RatedPhotograph:
    image = _rendered(recipe.number, tuple(recipe.levels.items()), seed)
    given = rater.given(recipe.label, labels, random.Random(f"{seed}:slips:{recipe.number}"))
    written = random.Random(f"{seed}:reason:{recipe.number}")
    reason = reason_for(rater, recipe.levels, recipe.label, labels, written)
    return RatedPhotograph(image, given, recipe.levels, recipe.label, reason)


@lru_cache(maxsize=1024)
def _rendered(number: int, levels: tuple[tuple[str, int], ...], seed: int) -> bytes:
    """A photograph; raters who see the same ones are often compared."""
    rng = random.Random(f"{seed}:pixels:{number}")
    source = crops.photograph(rng.choice(crops.NAMES))
    return png(degrade(crops.crop(source, rng), dict(levels), rng))


def write_dataset(
    folder: str | Path,
    rater: Rater,
    *,
    seed: int = 0,
    train: int = 100,
    val: int = 60,
    test: int = 100,
    labels: LabelSpace = FIVE,
    reasons: bool = False,
) -> DatasetPaths:
    """Writes rated photographs as PNG files under `folder/images`, `train.csv`, `val.csv`, `test.csv` and the credits.

    With `reasons` the tables have what the rater writes beside the label, in the column `why`. File names are running
    numbers over all splits in a shuffled order: they reveal neither flaw nor label nor split.

    Raises:
        BlpoError: If the rater cannot fill every label, or a file cannot be written.
    """
    splits = rated_photographs(rater, seed=seed, train=train, val=val, test=test, labels=labels)
    root = Path(folder)
    paths = DatasetPaths(root, root / "images", root / "train.csv", root / "val.csv", root / "test.csv")
    numbers = list(range(1, train + val + test + 1))
    random.Random(f"{seed}:names").shuffle(numbers)
    try:
        paths.images.mkdir(parents=True, exist_ok=True)
        (root / "CREDITS.txt").write_text(crops.CREDITS, encoding="utf-8")
        for table, rows in ((paths.train, splits.train), (paths.val, splits.val), (paths.test, splits.test)):
            _write_table(table, [(f"photo-{numbers.pop():04d}.png", row) for row in rows], reasons=reasons)
    except OSError as error:
        raise BlpoError(f"cannot write the photographs to {root}: {error}") from error
    return paths


def _write_table(table: Path, rows: list[tuple[str, RatedPhotograph]], *, reasons: bool) -> None:
    for name, row in rows:
        (table.parent / "images" / name).write_bytes(row.image)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", REASON_COLUMN)[: 3 if reasons else 2])
        writer.writerows((f"images/{name}", row.label, row.reason)[: 3 if reasons else 2] for name, row in rows)
