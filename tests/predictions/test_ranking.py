"""Models ranked by a table of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from workspaces import shared

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, ceiling_instruction, rated_pairs
from blpo_dspy.embedded import Traits, embedded_lm
from blpo_dspy.errors import BlpoError, DataError
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.files import write_rows
from blpo_dspy.predictions.predict import predict
from blpo_dspy.predictions.ranking import rank
from blpo_dspy.programs import VisualJudge

ROWS: list[dict[str, Any]] = [
    {"model_a": "x", "model_b": "y", "label": "A", "inconsistent": False},
    {"model_a": "x", "model_b": "y", "label": "A", "inconsistent": False},
    {"model_a": "y", "model_b": "x", "label": "B", "inconsistent": False},
    {"model_a": "y", "model_b": "x", "label": None, "inconsistent": True},
    {"model_a": "y", "model_b": "x", "label": None, "inconsistent": None},
]


def table(folder: Path, rows: list[dict[str, Any]], suffix: str = ".csv") -> Path:
    """The rows as a file."""
    path = folder / f"verdicts{suffix}"
    write_rows(path, list(rows[0]), lambda: iter(rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_verdicts_are_ranked_from_any_table(suffix: str, tmp_path: Path) -> None:
    """A pair whose label changes with the order is half a win each; a row without an answer is left out."""
    ranking = rank(table(tmp_path, ROWS, suffix))
    assert [(row.model, row.wins, row.verdicts) for row in ranking.models] == [("x", 3.5, 4), ("y", 0.5, 4)]
    assert (ranking.verdicts, ranking.ties, ranking.left_out) == (4, 1, 1)


def test_labels_and_columns_may_have_other_names(tmp_path: Path) -> None:
    """As the judge was made with."""
    rows = [{"one": "x", "two": "y", "label": "second"}, {"one": "x", "two": "y", "label": "same"}]
    labels = LabelSpace.pairwise("first", "second", tie="same")
    ranking = rank(table(tmp_path, rows), labels=labels, columns=("one", "two"))
    assert [(row.model, row.wins) for row in ranking.models] == [("y", 1.5), ("x", 0.5)]


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    """And where it comes from."""
    rows = [{"model_a": "x", "label": "A"}]
    with pytest.raises(DataError, match="no column 'model_b'; the columns are: 'model_a', 'label'; `blpo judge --out`"):
        rank(table(tmp_path, rows))


def test_all_rows_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    """With what is wrong in each."""
    rows = [
        {"model_a": "x", "model_b": "x", "label": "A"},
        {"model_a": "x", "model_b": None, "label": "A"},
        {"model_a": "x", "model_b": "y", "label": "C"},
    ]
    with pytest.raises(DataError) as caught:
        rank(table(tmp_path, rows, ".jsonl"))
    text = str(caught.value)
    assert "3 rows cannot be used" in text
    assert "both images are by x" in text
    assert "'model_b' is empty" in text
    assert "unknown label 'C'" in text


def test_a_table_without_a_verdict_is_refused(tmp_path: Path) -> None:
    """So are labels that compare nothing."""
    with pytest.raises(BlpoError, match="none of its 1 rows has a verdict"):
        rank(table(tmp_path, ROWS[4:], ".jsonl"))
    with pytest.raises(BlpoError, match="a ranking needs labels that compare two images"):
        rank(table(tmp_path, ROWS), labels=LabelSpace("A", "B"))


def write_alike(folder: Path, count: int) -> Path:
    """Pairs by two models that are equally good: each image once by either, the first of a row always by "x"."""
    rows = []
    for number, pair in enumerate(rated_pairs(RATERS["colour"], train=count, val=0, test=0, seed=1).train):
        for name, image in (("left", pair.left), ("right", pair.right)):
            (folder / f"{number}-{name}.png").write_bytes(image)
        left, right = (f"{number}-{name}.png" for name in ("left", "right"))
        models = {"model_a": "x", "model_b": "y"}
        rows += [{"left": left, "right": right, **models}, {"left": right, "right": left, **models}]
    return table(folder, rows, ".csv")


@pytest.mark.slow
def test_both_orders_remove_the_favour_for_a_place_from_the_ranking(tmp_path: Path) -> None:
    """With one order one of two equal models is ranked higher for its place alone."""
    labels = LabelSpace.pairwise("A", "B")
    photos = write_alike(tmp_path, 30)
    lm = embedded_lm(0, traits=Traits(position_bias=0.3), cache=False)
    judge = VisualJudge(
        labels,
        instruction=ceiling_instruction(RATERS["colour"], "Which photograph is better?"),
        images=("left", "right"),
        evidence="image",
    )
    apart = {}
    for orders in ("one", "both"):
        out = tmp_path / f"{orders}.csv"
        done = shared(predict, judge, photos, out=out, models=Models(lm, lm, lm), orders=orders)
        ranking = rank(out, labels=labels)
        strength = {row.model: row.strength for row in ranking.models}
        apart[orders] = abs(strength["x"] - strength["y"])
        assert done.judged == 60
    assert apart["one"] > 0.5
    assert apart["both"] < 1e-6
    assert done.flips is not None
    assert done.flips.flipped >= 10
