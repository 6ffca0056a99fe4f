"""The benchmark of intervals for a whole collection: what it simulates, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "benchmarks"))

import population

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "judge", "longest"), [("10 %", "good", 0.8), ("50 %", "useless", 1.05), ("mean", "good", 0.7)]
)
@pytest.mark.parametrize("design", population.DESIGNS)
def test_intervals_hold_the_truth_and_a_good_judge_makes_them_short(
    name: str, judge: str, longest: float, design: str
) -> None:
    """All but one of five runs at least; a naive one of a judge that errs to one side seldom."""
    found = population.simulate(name, judge, design, runs=30, images=800, n=80)
    assert found.coverage("ours") > 0.8
    assert found.ratio < longest
    assert name != "mean" or found.coverage("naive") < 0.5


def test_the_useless_judge_answers_regardless_and_the_good_one_hardly_errs() -> None:
    """As the table says."""
    rng = np.random.default_rng(0)
    useless, good = (np.corrcoef(*population.collection(rng, 4000, 0.1, judge))[0, 1] for judge in ("useless", "good"))
    assert abs(useless) < 0.05
    assert good > 0.85


def test_the_table_has_a_line_for_every_setting() -> None:
    """Each when it is done."""
    lines = list(population.table(runs=1, labels=40, rare_labels=60, seed=0))
    assert len(lines) == 2 + 4 * 2 * 3
    assert all(line.count("|") == lines[0].count("|") for line in lines)
