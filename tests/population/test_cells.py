"""Labelled images in cells by verdict and draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.population.cells import Sample, cells_of, weight_of


def sample(values: Any, judged: Any, collection: Any, strata: Any = None, sizes: Any = None) -> Sample:
    """A draw, uniform unless strata are given; then half of each is drawn."""
    n, strata = len(values), [0] * len(values) if strata is None else strata
    chances = [n / len(collection) if not any(strata) else 0.5] * n
    numbers = np.array(strata)
    return Sample(
        np.array(values, float),
        np.array(judged, float),
        numbers,
        np.array(chances),
        np.array(collection, float),
        np.bincount(numbers) if sizes is None else np.array(sizes),
    )


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=60), st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_the_estimate_is_the_difference_estimator_with_the_weight_of_least_variance(
    pairs: list[tuple[bool, bool]], more: int
) -> None:
    """λ is the covariance of people's and the judge's labels over the variance of the judge's."""
    people, judged = np.array(pairs, float).T
    collection = np.concatenate([judged, np.arange(200) < more])
    found = sample(people, judged, collection)
    cells, extra = cells_of(found)
    together = np.cov(people, judged)
    best = max(0.0, together[0, 1] / together[1, 1]) if together[1, 1] > 0 else 0.0
    assert weight_of(found) == pytest.approx(best)
    theirs = best * collection.mean() + (people - best * judged).mean()
    assert sum(cell.weight * cell.mean for cell in cells) == pytest.approx(theirs)
    assert sum(cell.weight for cell in cells) == pytest.approx(1)
    assert extra == 0


def test_strata_weigh_what_they_stand_for() -> None:
    """Where the draw is by the judge's label, a cell is a stratum."""
    strata = [0, 0, 0, 1]
    found = sample([1, 1, 0, 0], [1, 1, 1, 0], [1] * 6 + [0] * 2, strata)
    cells, _ = cells_of(found)
    assert [cell.n for cell in cells] == [3, 1]
    assert [cell.weight for cell in cells] == pytest.approx([0.75, 0.25])
    assert [cell.mean for cell in cells] == pytest.approx([2 / 3, 0.0])


@pytest.mark.parametrize("judged", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
def test_a_judge_that_says_nothing_or_the_opposite_has_no_weight(judged: list[int]) -> None:
    """The labels alone make one cell then."""
    found = sample([1, 1, 0, 0], judged, [1, 0] * 10)
    cells, _ = cells_of(found)
    assert weight_of(found) == 0
    assert [(cell.weight, cell.n, cell.mean) for cell in cells] == [(1.0, 4, 0.5)]


def test_a_group_does_not_know_how_much_of_it_each_stratum_holds() -> None:
    """So its strata, which differ, add a variance."""
    found = sample([1, 1, 0, 0], [0, 0, 0, 0], [0] * 40, [1, 1, 2, 2], sizes=[0, 10, 10])
    assert cells_of(found)[1] > 0
