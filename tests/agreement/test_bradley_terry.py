"""Models ranked by verdicts on pairs: known strengths are found, and what says nothing is refused."""

from __future__ import annotations

import math
import random

import pytest

from blpo_dspy.agreement.bradley_terry import Comparison, bradley_terry
from blpo_dspy.errors import BlpoError

TRUE = {"x": 1.0, "y": 0.0, "z": -1.0}


def drawn(count: int, seed: int = 0) -> list[Comparison]:
    """Verdicts by the model itself."""
    rng = random.Random(seed)
    pairs = [rng.sample(list(TRUE), 2) for _ in range(count)]
    return [Comparison(a, b, float(rng.random() < 1 / (1 + math.exp(TRUE[b] - TRUE[a])))) for a, b in pairs]


@pytest.mark.slow
def test_known_strengths_are_found() -> None:
    """In order, within their intervals, and with a mean of zero."""
    ranking = bradley_terry(drawn(600), resamples=60)
    assert [row.model for row in ranking.models] == ["x", "y", "z"]
    assert all(row.interval.low < TRUE[row.model] < row.interval.high for row in ranking.models)
    assert sum(row.strength for row in ranking.models) == pytest.approx(0, abs=1e-9)
    assert sum(row.wins for row in ranking.models) == ranking.verdicts == 600


def test_two_models_differ_by_the_log_odds_of_a_win() -> None:
    """Ties count half a win each, whichever model is named first."""
    verdicts = [Comparison("a", "b", 1.0)] * 5 + [Comparison("b", "a", 0.0)] * 1 + [Comparison("b", "a", 0.5)] * 4
    first, second = bradley_terry(verdicts, resamples=20).models
    assert (first.model, first.wins, second.wins) == ("a", 8.0, 2.0)
    assert first.strength - second.strength == pytest.approx(math.log(8 / 2), abs=0.01)


def test_a_model_that_won_all_has_a_finite_strength_and_a_wide_interval() -> None:
    """The next comparison may be lost."""
    first, second = bradley_terry([Comparison("a", "b", 1.0)] * 5, resamples=60).models
    assert math.isfinite(first.strength)
    assert first.interval.high - first.interval.low > 1
    assert (first.model, second.wins) == ("a", 0.0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_intervals() -> None:
    """Another one others; the order of the verdicts doesn't matter."""
    verdicts = drawn(40)
    found = bradley_terry(verdicts, resamples=20, seed=3)
    assert found == bradley_terry(verdicts[::-1], resamples=20, seed=3)
    assert found.models[0].interval != bradley_terry(verdicts, resamples=20, seed=4).models[0].interval


def test_models_that_were_never_compared_are_refused_by_name() -> None:
    """By way of a third model they are."""
    verdicts = [Comparison("a", "b", 1.0), Comparison("c", "d", 1.0)]
    with pytest.raises(BlpoError, match="2 groups that were never compared with each other: a, b; c, d; rank each"):
        bradley_terry(verdicts)
    assert len(bradley_terry([*verdicts, Comparison("b", "c", 0.0)], resamples=5).models) == 4


def test_without_a_verdict_nothing_is_ranked() -> None:
    """An error, not an empty table."""
    with pytest.raises(BlpoError, match="there is no verdict"):
        bradley_terry([])
