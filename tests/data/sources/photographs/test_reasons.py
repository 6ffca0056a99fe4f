"""What the embedded raters write beside their labels."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from blpo_dspy.data.columns import Columns
from blpo_dspy.data.examples import load_examples
from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, Rater, rated_photographs, write_dataset
from blpo_dspy.data.sources.photographs.reasons import WORDS, reason_for
from blpo_dspy.embedded.reading.reasons import named_in
from blpo_dspy.embedded.sight import flaws

FIVE = LabelSpace.ordinal(1, 5)


def written(rater: Rater, levels: dict[str, int], label: int) -> str:
    """Returns what a rater writes."""
    return reason_for(rater, levels, label, FIVE, random.Random(0))


def test_people_have_words_of_their_own_for_every_flaw() -> None:
    """None is the name of a flaw, and each is understood as the flaw that it is said of."""
    assert set(WORDS) == set(flaws.FLAWS)
    for flaw, said in WORDS.items():
        for words in said:
            assert not any(name in words for name in flaws.FLAWS)
            assert named_in(words) == (flaw,)


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ({"blur": 3, "noise": 1}, ("blur",)),
        ({"blur": 1, "noise": 3}, ("blur", "noise")),
        ({"colour cast": 3, "noise": 1}, ("noise",)),
        ({"colour cast": 3}, ()),
    ],
)
def test_the_one_or_two_flaws_that_cost_most_are_named(levels: dict[str, int], named: tuple[str, ...]) -> None:
    """What the rater forgives is not."""
    assert named_in(written(Rater({"blur": 0.9, "noise": 0.3}), levels, 2)) == named


def test_the_best_label_needs_no_reason() -> None:
    """Nobody explains it."""
    assert written(RATERS["sharp"], {"blur": 1}, 5) == ""
    scores = LabelSpace.scores(0, 100)
    said = [reason_for(RATERS["sharp"], {"blur": 1}, x, scores, random.Random(0)) for x in (100, 99.5)]
    assert [bool(reason) for reason in said] == [False, True]


def test_tables_hold_reasons_where_they_are_asked_for(tmp_path: Path) -> None:
    """In a column of their own, with the same photographs and labels; an empty cell is no reason."""
    sizes = {"train": 10, "val": 5, "test": 5}
    plain = write_dataset(tmp_path / "plain", RATERS["colour"], **sizes)
    reasoned = write_dataset(tmp_path / "reasoned", RATERS["colour"], **sizes, reasons=True)
    tables = [list(csv.reader(paths.train.open(encoding="utf-8"))) for paths in (plain, reasoned)]
    assert tables[1][0] == ["image", "label", "why"]
    assert tables[0] == [row[:2] for row in tables[1]]
    rows = rated_photographs(RATERS["colour"], **sizes).train
    assert [row[2] for row in tables[1][1:]] == [row.reason for row in rows]
    loaded = load_examples(reasoned.train, labels=FIVE, columns=Columns(reason="why"))
    assert [example.get("reason", "") for example in loaded] == [row.reason for row in rows]
    assert 0 < sum("reason" in example for example in loaded) < 10
