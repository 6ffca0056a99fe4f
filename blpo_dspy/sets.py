"""The labelled examples of a run, from one table that is split or from tables of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dspy

from blpo_dspy.data import check_disjoint, load_examples, split_examples
from blpo_dspy.errors import DataError
from blpo_dspy.labels import LabelSpace
from blpo_dspy.options import Columns
from blpo_dspy.splits import DEFAULT_FRACTIONS, histogram

# What is split off where one of the two has a table of its own.
_WITHOUT_TEST = (0.7, 0.3, 0.0)
_WITHOUT_VAL = (0.5, 0.0, 0.5)


@dataclass(frozen=True)
class Sets:
    """The labelled examples of a run.

    Attributes:
        train: What mistakes are drawn from.
        val: What the returned judge is picked on.
        test: Sealed: judged once, at the end.
        how: Where they come from, in words.
    """

    train: Sequence[dspy.Example]
    val: Sequence[dspy.Example]
    test: Sequence[dspy.Example]
    how: str

    def named(self) -> dict[str, Sequence[dspy.Example]]:
        """Returns the examples by the name of their set."""
        return {"train": self.train, "val": self.val, "test": self.test}


def load_sets(
    table: Path, val: Path | None, test: Path | None, *, labels: LabelSpace, columns: Columns, seed: int
) -> Sets:
    """Returns train, val and test; what has no table of its own is split off the first one.

    Raises:
        DataError: Naming all rows of all tables that cannot be used, the images that are in more than one of the
            sets, or the labels that are too few to split.
    """
    loaded = _load([table, *filter(None, (val, test))], labels, columns)
    if val is not None and test is not None:
        sets = {"train": loaded[table], "val": loaded[val], "test": loaded[test]}
        how = "; ".join(f"{name} {path}" for name, path in zip(sets, (table, val, test), strict=True))
    else:
        fractions = _WITHOUT_TEST if test is not None else _WITHOUT_VAL if val is not None else DEFAULT_FRACTIONS
        splits = split_examples(loaded[table], labels=labels, fractions=fractions, seed=seed)
        sets = {
            "train": splits.train,
            "val": splits.val if val is None else loaded[val],
            "test": splits.test if test is None else loaded[test],
        }
        own = [f"{name} {path}" for name, path in (("val", val), ("test", test)) if path is not None]
        how = "; ".join([f"{table}: {splits.how}", *own])
    check_disjoint(**sets)
    sizes = ", ".join(f"{name} {_counted(examples, labels)}" for name, examples in sets.items())
    return Sets(**sets, how=f"{sizes}; {how}")


def _counted(examples: Sequence[dspy.Example], labels: LabelSpace) -> str:
    counts = Counter(example.label for example in examples)
    each = {counts[label] for label in labels.labels}
    return f"{len(examples)} ({f'{each.pop()} per label' if len(each) == 1 else histogram(examples, labels)})"


def _load(tables: Sequence[Path], labels: LabelSpace, columns: Columns) -> dict[Path, list[dspy.Example]]:
    loaded: dict[Path, list[dspy.Example]] = {}
    errors: list[DataError] = []
    for table in tables:
        try:
            loaded[table] = load_examples(
                table,
                labels=labels,
                image_column=columns.image,
                label_column=columns.label,
                context=columns.context,
                group_column=columns.group,
            )
        except DataError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DataError(
            f"{len(errors)} tables cannot be used; repair them:",
            [line for error in errors for line in error.problems or (str(error),)],
        )
    return loaded
