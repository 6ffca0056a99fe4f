"""The sets of a run that compiles a judge further: what the start was compiled with is no test."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from PIL import Image

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import item_prints, load_examples
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.errors import DataError
from blpo_dspy.runs.data.sets import divided

LABELS = LabelSpace("Safe", "Unsafe")


def examples(n: int = 40, **columns: Any) -> list[dspy.Example]:
    """Labelled images, all different."""
    rows = [
        {"image": Image.new("RGB", (8, 8), (i, 0, 0)), "label": ("Safe", "Unsafe")[i % 2], "prompt": str(i % 3)}
        | {name: make(i) for name, make in columns.items()}
        for i in range(n)
    ]
    return load_examples(rows, labels=LABELS, columns=Columns(context=["prompt"], group="group" if columns else None))


def prints(part: list[dspy.Example]) -> set[str]:
    """The fingerprints of a set."""
    return set(item_prints(part).split())


def test_known_examples_are_for_train_and_the_others_are_split() -> None:
    """Each is in one set, and it is said how many were known."""
    found = examples()
    known = frozenset(prints(found[:8]))
    parts, how = divided(found, LABELS, seed=0, known=known)
    assert known <= prints(parts["train"])
    assert not known & (prints(parts["val"]) | prints(parts["test"]))
    assert sum(map(len, parts.values())) == 40
    assert how.endswith(", and 8 known to the start added to train")
    assert divided(found, LABELS, seed=0, known=frozenset({"0"})) == divided(found, LABELS, seed=0)


def test_what_shares_a_group_with_a_known_example_stays_with_it() -> None:
    """Through any number of steps."""
    found = examples(group=lambda i: f"g{i // 4}")
    parts, _ = divided(found, LABELS, seed=0, known=frozenset(prints(found[:1])))
    assert prints(found[:4]) <= prints(parts["train"])


def test_images_that_are_all_known_are_refused() -> None:
    """There would be nothing to measure on."""
    found = examples()
    with pytest.raises(DataError, match="compiled with all 40 images; label new ones"):
        divided(found, LABELS, seed=0, known=frozenset(prints(found)))
