"""Drift of the offline engine's own verdicts: on a collection whose flaws shift, by another engine, and at rest."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import dspy
import pytest
from workspaces import shared

from blpo_dspy.data.labels.space import LabelSpace
from blpo_dspy.data.sources.photographs import RATERS, ceiling_instruction, rated_photographs
from blpo_dspy.data.tables import read_table
from blpo_dspy.embedded import Traits, embedded_lm
from blpo_dspy.models.lm import Models
from blpo_dspy.predictions.predict import predict
from blpo_dspy.programs import VisualJudge
from blpo_dspy.runs.collection.drift import LOOK, NO_SIGN, REALIGN, measure_drift

pytestmark = pytest.mark.slow

RATER = RATERS["colour"]
JUDGE = VisualJudge(
    LabelSpace.ordinal(1, 5), instruction=ceiling_instruction(RATER, "Rate this photograph."), evidence="image"
)
Rows = list[dict[str, Any]]


def judged(lm: dspy.LM, photographs: Rows, out: Path) -> Rows:
    """The verdicts of a model on photographs, by their names."""
    shared(predict, JUDGE, photographs, out=out, models=Models(lm, lm, lm), num_threads=2)
    rows = read_table(out, ["label"]).rows
    return [{"image": str(i), "label": row.values["label"]} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows, Rows]:
    """Photographs with people's labels, a judge's verdicts on them, and those of another engine."""
    folder = tmp_path_factory.mktemp("drift")
    photographs = rated_photographs(RATER, train=150, val=1, test=1).train
    images = [{"image": photograph.image} for photograph in photographs]
    truth = [{"image": str(i), "label": photograph.label} for i, photograph in enumerate(photographs)]
    other = embedded_lm(3, traits=Traits(judging_noise=0.5, judging_misses=0.4))
    return truth, judged(embedded_lm(0), images, folder / "then.jsonl"), judged(other, images, folder / "now.jsonl")


def halves(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Two random parts without an image in both."""
    mixed = random.Random(f"{seed}:halves").sample(rows, len(rows))
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def test_at_rest_at_most_two_of_twenty_seeds_raise_an_alarm(world: tuple[Rows, Rows, Rows]) -> None:
    """With labels of people on both parts."""
    truth, then, _ = world
    found = [measure_drift(JUDGE, *halves(then, seed), labelled=truth) for seed in range(20)]
    assert sum(each.verdict != NO_SIGN for each in found) <= 2


def test_a_collection_whose_flaws_shift_is_worth_a_look_and_its_judge_as_good_as_before(
    world: tuple[Rows, Rows, Rows],
) -> None:
    """Bad photographs only: agreement has not fallen, so nothing is to be re-aligned."""
    truth, then, _ = world
    before, now = halves(then, 0)
    bad = {row["image"] for row in truth if int(row["label"]) <= 3}
    now = [row for row in now if row["image"] in bad]
    there = {row["image"] for row in (*before, *now)}
    found = measure_drift(JUDGE, before, now, labelled=[row for row in truth if row["image"] in there])
    assert found.verdict == LOOK
    assert found.why[0].startswith("labels are given in other shares")


def test_another_engine_that_agrees_less_asks_for_a_re_alignment(world: tuple[Rows, Rows, Rows]) -> None:
    """On the same photographs, by forty labels; without labels a version that its server reports is a sign."""
    truth, then, now = world
    assert measure_drift(JUDGE, then, now, labelled=truth[:40]).verdict == REALIGN
    changed = [{**row, "served_by": "engine-2"} for row in then]
    assert measure_drift(JUDGE, then, changed).verdict == LOOK
