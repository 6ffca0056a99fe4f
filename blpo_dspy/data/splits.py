"""Seeded, disjoint splits: balanced by label, groups kept whole, byte-identical images never in two of them."""

from __future__ import annotations

import html
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Generic, TypeVar

import dspy
import numpy as np

from blpo_dspy.data.fields import image_prints
from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.data.labels.space import LabelSpace, check_space
from blpo_dspy.errors import BlpoError, DataError, check_kind, counted, notice
from blpo_dspy.notebook import html_table, one_line

NAMES = ("train", "val", "test")
DEFAULT_FRACTIONS = (0.4, 0.2, 0.4)
_ATTEMPTS = 50
_LABELS_SHOWN = 12  # in a notebook
# With more levels without an example, a scale is one of scores rather than of levels.
_MOST_ABSENT = 15

Item = TypeVar("Item")

Quotas = tuple[Counter[Label], ...]  # how many examples of each label each split is to get
Unit = list[int]  # positions of examples that stay together


@dataclass(frozen=True, repr=False)
class Splits(Generic[Item]):
    """Three disjoint sets of labelled items, usually `dspy.Example`s, each in a seeded order.

    Args:
        train: What the optimizer learns from.
        val: What it chooses the returned judge by.
        test: Sealed: what the result is measured on.
        labels: The label space they were split by.
        how: How the split was made, in words.
    """

    train: list[Item]
    val: list[Item]
    test: list[Item]
    labels: LabelSpace
    how: str

    @property
    def parts(self) -> tuple[list[Item], list[Item], list[Item]]:
        """Train, val and test."""
        return self.train, self.val, self.test

    def __repr__(self) -> str:
        return one_line(self, self.describe())

    def _repr_html_(self) -> str:
        given = [self.labels.coerce(getattr(item, "label", item)) for part in self.parts for item in part]
        strata, found = self.labels.strata(given)
        left, rows = iter(found), []
        for name, part in zip(NAMES, self.parts, strict=True):
            counts = Counter(itertools.islice(left, len(part)))
            rows.append([name, len(part), *(counts[label] for label in strata[:_LABELS_SHOWN])])
        return html_table([["split", "n", *strata[:_LABELS_SHOWN]], *rows]) + f"<p>{html.escape(self.how)}</p>"

    def describe(self) -> str:
        """Returns sizes, label counts and the way of splitting, in one line."""
        parts = (f"{name} {_counted(getattr(self, name), self.labels)}" for name in NAMES)
        return f"{', '.join(parts)}; {self.how}"


def split_examples(
    examples: Sequence[dspy.Example],
    *,
    labels: LabelSpace,
    sizes: tuple[int, int, int] | None = None,
    fractions: tuple[float, float, float] | None = None,
    balanced: bool = True,
    seed: int = 0,
) -> Splits[dspy.Example]:
    """Splits labelled examples into train, val and test.

    Examples with the same `group`, or that share a byte-identical image, always stay together.

    Args:
        examples: With images, `label` and perhaps `group`.
        labels: The label space.
        sizes: How many examples each split gets, exactly; the rest is left out. Without it, all examples are
            split by `fractions`.
        fractions: The share of each split; each label is split in these shares, so that all three have the label
            proportions of the whole, as nearly as groups allow. The default is 0.4, 0.2, 0.4.
        balanced: With `sizes`: every label equally often in each split (as nearly as the size allows), instead of in
            the proportions of the whole.
        seed: Decides which example goes where.

    Raises:
        DataError: If there are too few examples; it prints the label histogram.
        BlpoError: If the options contradict each other.
    """
    check_space(labels)
    if sizes is not None and fractions is not None:
        raise BlpoError("give sizes or fractions of the splits, not both")
    strata, names = labels.strata([labels.coerce(example.label) for example in examples])
    units = _units(examples)
    if sizes is not None:
        # Bins of scores are equally full already, as far as equal scores allow.
        even = balanced and labels.kind != "scores"
        quotas = _sized_quotas(_checked_sizes(sizes), Counter(names), strata, even)
        chosen = _fill(names, units, quotas, seed)
        if chosen is None:
            raise DataError(_shortfall(Counter(names), strata, sizes, quotas, len(units) < len(names)))
        evenly = "balanced by label" if labels.kind != "scores" else "balanced by bins of scores"
        how = f"{evenly if balanced else 'in the label proportions of the whole'}, seed {seed}"
        left = len(names) - sum(sizes)
        how += f", {left} of {len(names)} examples left out" if left else ""
    else:
        shares = _checked_fractions(fractions or DEFAULT_FRACTIONS)
        chosen = _distribute(names, units, _shared_quotas(shares, Counter(names), strata), seed)
        if _some_empty(shares, chosen):
            chosen = _distribute_units(names, units, lambda heads: _shared_quotas(shares, heads, strata), seed)
        if _some_empty(shares, chosen):
            whole = f", in {counted(len(units), 'group')} kept whole" if len(units) < len(names) else ""
            raise DataError(
                f"too few examples to split: {len(names)} ({_histogram(Counter(names), strata)}){whole}; a split "
                "would be empty; label more images, or give separate tables for validation and test"
            )
        percent = "/".join(f"{100 * share:g}" for share in shares)
        within = "label" if labels.kind != "scores" else "bin of scores"
        how = f"split {percent} within each {within}, seed {seed}"
    if len(units) < len(names):
        how += f", {sum(len(unit) > 1 for unit in units)} groups kept whole"
    train, val, test = ([examples[i] for i in part] for part in chosen)
    return Splits(train, val, test, labels, how)


def thinned(examples: Sequence[dspy.Example], most: int, labels: LabelSpace) -> list[dspy.Example]:
    """Returns at most so many examples, in their order and as nearly as possible in their label proportions."""
    if len(examples) <= most:
        return list(examples)
    strata, names = labels.strata([labels.coerce(example.label) for example in examples])
    by_label = sorted(range(len(examples)), key=lambda i: strata.index(names[i]))
    step = len(examples) / most
    return [examples[i] for i in sorted(by_label[int((n + 0.5) * step)] for n in range(most))]


def cut_folds(
    examples: Sequence[dspy.Example], *, labels: LabelSpace, folds: int, seed: int = 0
) -> list[list[dspy.Example]]:
    """Cuts labelled examples into folds of like size and like label proportions; each example is in exactly one.

    Examples with the same `group`, or that share a byte-identical image, always stay together.

    Raises:
        DataError: If a label that occurs is in fewer groups of examples than there are folds; it prints the label
            histogram.
        BlpoError: If `folds` is below 2.
    """
    if folds < 2:
        raise BlpoError(f"folds={folds} is too few: each is judged by a judge that is compiled on the others")
    strata, names = labels.strata([labels.coerce(example.label) for example in examples], least=folds)
    units = _units(examples)
    spread = Counter(label for unit in units for label in {names[i] for i in unit})
    short = [label for label in strata if 0 < spread[label] < folds]
    if short or not units:
        feasible = min(spread.values(), default=0)
        raise DataError(_too_few_for_folds(Counter(names), strata, short, folds, len(units) < len(names), feasible))
    quotas_of = partial(_shared_quotas, [1.0] * folds, strata=strata, even=True)
    chosen = _distribute(names, units, quotas_of(Counter(names)), seed)
    if not all(chosen):
        chosen = _distribute_units(names, units, quotas_of, seed)
    return [[examples[i] for i in part] for part in chosen]


def histogram(examples: Iterable[dspy.Example], labels: LabelSpace) -> str:
    """Returns how often each label of the space occurs, in words: "Safe: 60, Unsafe: 40"; of scores, each bin."""
    return _in_words([labels.coerce(example.label) for example in examples], labels)


def _in_words(given: Sequence[Label], labels: LabelSpace) -> str:
    strata, names = labels.strata(given)
    return _histogram(Counter(names), strata)


def check_labels(given: Sequence[Label], labels: LabelSpace) -> None:
    """Checks that a train split has two labels or more; issues a warning for labels without examples.

    Of pairs the mirrored labels count too, as a search shows half of them in the other order.
    """
    counts = Counter([*given, *(map(labels.mirror, given) if labels.paired else ())])
    shown = _in_words(given, labels)
    if len(counts) < 2:
        raise DataError(
            f"all training examples have the same label ({shown}), so there is nothing to learn; add other labels"
        )
    absent = [str(label) for label in labels.labels if not counts[label]]
    if len(absent) > _MOST_ABSENT and labels.numeric:
        notice(
            f"{len(absent)} of {len(labels)} levels have no training example; numbers on a scale as fine as this are "
            f"better given as scores, LabelSpace.scores(low, high), of which near ones "
            "count as the same",
            option="scores",
        )
    elif absent:
        notice(f"no training example has the label {' or '.join(absent)} ({shown}); the judge learns nothing about it")


def check_disjoint(**splits: Sequence[dspy.Example]) -> None:
    """Checks that no image occurs in two splits that were given as separate tables.

    Raises:
        DataError: If byte-identical images (or the same URL) do; it names all of them.
    """
    homes: dict[str, dict[str, str]] = {}
    for name, examples in splits.items():
        for example in examples:
            for print_ in image_prints(example):
                homes.setdefault(print_, {}).setdefault(name, str(example.get("id", "an example")))
    problems = [
        "the same image is " + " and ".join(f"{id_} in {name}" for name, id_ in places.items())
        for places in homes.values()
        if len(places) > 1
    ]
    if problems:
        raise DataError(
            f"{len(problems)} images are in more than one of {', '.join(splits)}, which would leak what is measured; "
            "keep each in one of them:",
            problems,
        )


def _units(examples: Sequence[dspy.Example]) -> list[Unit]:
    """Positions that must stay together: those linked by a common group or an image in common."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    first: dict[tuple[str, str], int] = {}
    links: list[tuple[int, int]] = []  # from each example to the first one with an image of it, or of its group
    for i, example in enumerate(examples):
        links += [(i, first.setdefault(("image", print_), i)) for print_ in image_prints(example)]
        if example.get("group") is not None:
            links.append((i, first.setdefault(("group", str(example.group)), i)))
    if not links:
        return []
    graph = coo_array((np.ones(len(links)), tuple(np.transpose(links))), shape=(len(examples), len(examples)))
    units: dict[int, Unit] = {}
    for i, unit in enumerate(connected_components(graph, directed=False)[1].tolist()):
        units.setdefault(unit, []).append(i)
    return list(units.values())


def _sized_quotas(sizes: Sequence[int], counts: Counter[Label], strata: Sequence[Label], balanced: bool) -> Quotas:
    """Each split in turn; the remainder goes to the labels with the most examples left."""
    left = Counter(counts)
    quotas = []
    for size in sizes:
        # In proportion to what is left no label is asked for more than there is.
        weights = {label: 1.0 if balanced else float(left[label]) for label in strata}
        quotas.append(_apportion(size, weights, left))
        left.subtract(quotas[-1])
    return tuple(quotas)


def _shared_quotas(
    shares: Sequence[float], counts: Counter[Label], strata: Sequence[Label], *, even: bool = False
) -> Quotas:
    """Each label in these shares; with `even` the remainder goes to the parts that are the smallest so far."""
    found = tuple(Counter[Label]() for _ in shares)
    for label in strata:
        room = Counter[Label]({part: -quota.total() for part, quota in enumerate(found)} if even else ())
        parts = _apportion(counts[label], dict(enumerate(shares)), room)
        for part, quota in enumerate(found):
            quota[label] = parts[part]
    return found


def _apportion(total: int, weights: dict[Label, float], counts: Counter[Label]) -> Counter[Label]:
    """Whole numbers that add up to `total` in proportion to the weights (largest remainders first)."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole if whole else 0.0 for key, weight in weights.items()}
    parts = Counter({key: int(value) for key, value in exact.items()})
    order = sorted(weights, key=lambda key: (int(exact[key]) - exact[key], -counts[key]))
    for key in order[: total - sum(parts.values())]:
        parts[key] += 1
    return parts


def _some_empty(shares: Sequence[float], chosen: Sequence[Unit]) -> bool:
    return any(share and not part for share, part in zip(shares, chosen, strict=True))


def _fill(names: Sequence[Label], units: list[Unit], quotas: Quotas, seed: int) -> list[Unit] | None:
    """Units for each split that fill exactly its quota, or None if no seeded attempt succeeds."""
    for attempt in range(_ATTEMPTS):
        order = _shuffled(units, f"{seed}:split:{attempt}")
        if attempt >= _ATTEMPTS // 2:  # large groups first leave the small ones to fill the gaps
            order.sort(key=len, reverse=True)
        chosen, rest = _place(names, order, quotas, overflow=False)
        if not any(quota.total() for quota in rest):
            return _ordered(chosen, seed)
        if len(units) == len(names):
            return None  # without groups, another order cannot help
    return None


def _distribute(names: Sequence[Label], units: list[Unit], quotas: Quotas, seed: int) -> list[Unit]:
    """All units, each split as near to its quota as groups allow."""
    order = sorted(_shuffled(units, f"{seed}:split:0"), key=len, reverse=True)
    return _ordered(_place(names, order, quotas, overflow=True)[0], seed)


def _distribute_units(
    names: Sequence[Label], units: list[Unit], quotas_of: Callable[[Counter[Label]], Quotas], seed: int
) -> list[Unit]:
    """All units, counted as one each by their most frequent label: few groups can be larger than a split's share."""
    heads = [Counter(names[i] for i in unit).most_common(1)[0][0] for unit in units]
    chosen = _distribute(heads, [[i] for i in range(len(units))], quotas_of(Counter(heads)), seed)
    return _ordered([[i for unit in part for i in units[unit]] for part in chosen], seed)


def _place(
    names: Sequence[Label], order: list[Unit], quotas: Quotas, *, overflow: bool
) -> tuple[list[Unit], list[Counter[Label]]]:
    """Puts each unit into the split with the most room; one that fits nowhere is left out, or overflows the least."""
    chosen: list[Unit] = [[] for _ in quotas]
    rest = [Counter(quota) for quota in quotas]
    for unit in order:
        need = Counter(names[i] for i in unit)
        fits = [s for s in range(len(rest)) if all(rest[s][label] >= n for label, n in need.items())]
        if not fits and not overflow:
            continue
        best = max(
            fits or [s for s, quota in enumerate(quotas) if quota.total()],
            key=lambda s: _room(rest[s], quotas[s], need),
        )
        chosen[best] += unit
        rest[best].subtract(need)
    return chosen, rest


def _room(rest: Counter[Label], quota: Counter[Label], need: Counter[Label]) -> float:
    """The share of a split's quota that is still open, in the labels that a unit brings."""
    return sum(n * (rest[label] - n / 2) / max(quota[label], 1) for label, n in need.items())


def _shuffled(units: list[Unit], purpose: str) -> list[Unit]:
    order = list(units)
    random.Random(purpose).shuffle(order)
    return order


def _ordered(chosen: list[Unit], seed: int) -> list[Unit]:
    """Each split in a seeded order of its own, as units would otherwise be contiguous."""
    for name, part in zip((*NAMES, *range(len(NAMES), len(chosen))), chosen, strict=False):
        part.sort()
        random.Random(f"{seed}:order:{name}").shuffle(part)
    return chosen


def _checked_sizes(sizes: tuple[int, int, int]) -> tuple[int, int, int]:
    check_kind("sizes", sizes, Sequence, "list of three whole numbers", "sizes=(100, 50, 50)")
    if len(sizes) != len(NAMES) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in sizes):
        raise BlpoError(f"sizes are three whole numbers, for train, val and test, got {sizes!r}")
    if not sizes[0]:
        raise BlpoError("train needs at least one example, got size 0")
    return sizes


def _checked_fractions(fractions: tuple[float, float, float]) -> tuple[float, float, float]:
    check_kind("fractions", fractions, Sequence, "list of three numbers", "fractions=(0.5, 0.25, 0.25)")
    shares = all(isinstance(share, Real) and share >= 0 for share in fractions)
    if len(fractions) != len(NAMES) or not shares or not fractions[0] or abs(sum(fractions) - 1) > 1e-6:
        raise BlpoError(f"fractions are three shares, for train, val and test, that add up to 1, got {fractions!r}")
    return fractions


def _counted(examples: Sequence[dspy.Example], labels: LabelSpace) -> str:
    counts = Counter(labels.coerce(example.label) for example in examples)
    if labels.labels and examples and len({counts[label] for label in labels.labels}) == 1:
        return f"{len(examples)} ({counts[labels.labels[0]]} per label)"
    return f"{len(examples)} ({histogram(examples, labels)})" if examples else "0"


def _histogram(counts: Counter[Label], strata: Sequence[Label]) -> str:
    return ", ".join(f"{label}: {counts[label]}" for label in strata)


def _shortfall(
    counts: Counter[Label], strata: Sequence[Label], sizes: Sequence[int], quotas: Quotas, grouped: bool
) -> str:
    wanted = sum(quotas, Counter[Label]())
    short = [f"{label} lacks {wanted[label] - counts[label]}" for label in strata if wanted[label] > counts[label]]
    needed, there = _histogram(wanted, strata), _histogram(counts, strata)
    what = f"splits of {'/'.join(map(str, sizes))} need {needed}, but there are {there}"
    if short:
        advice = "ask for smaller splits or unbalanced ones, or label more images"
        return f"too few examples: {what} ({', '.join(short)}); {advice}"
    why = "groups that stay whole do not fit into these sizes" if grouped else "they do not fit"
    return f"{what}, and {why}; ask for smaller splits, or for fractions instead of sizes"


def _too_few_for_folds(
    counts: Counter[Label], strata: Sequence[Label], short: Sequence[Label], folds: int, grouped: bool, feasible: int
) -> str:
    among = " (a group, or an image that is there twice, counts once)" if grouped else ""
    named = " and ".join(filter(None, [", ".join(f"{label!r}" for label in short[:-1]), *map(repr, short[-1:])]))
    few = f"the label {named} has" if len(short) == 1 else f"the labels {named} have"
    there = f"there are {counts.total()} examples ({_histogram(counts, strata)})"
    which = f"; each fold needs an example of every label, but {few} fewer than {folds}{among}" if short else ""
    fewer = f"take {feasible} folds" if feasible >= 2 else "take a split instead"
    return f"too few examples for {folds} folds: {there}{which}; {fewer}, or label more images"
