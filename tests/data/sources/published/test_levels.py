"""Tests of sources.levels: scores into levels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blpo_dspy.data.sources.published.levels import Binning, infer_scale
from blpo_dspy.errors import BlpoError, DataError

SCORES = st.lists(st.floats(1, 5, allow_nan=False), min_size=2, max_size=40)


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ([0.1, 0.9], (0, 1)),
        ([1.3, 4.8], (1, 5)),
        ([0.4, 4.1], (0, 5)),
        ([1.2, 6.5], (1, 7)),
        ([0.5, 9], (0, 10)),
        ([12, 88.5], (0, 100)),
    ],
)
def test_the_narrowest_usual_scale_is_inferred(scores: list[float], scale: tuple[float, float]) -> None:
    """From the lowest and the highest score."""
    assert infer_scale(scores) == scale


@pytest.mark.parametrize("scores", [[], [-1.5, 2], [3, 250]])
def test_scores_on_no_usual_scale_are_refused(scores: list[float]) -> None:
    """Standardised scores, say, need a stated scale."""
    with pytest.raises(DataError, match="state scale="):
        infer_scale(scores)


def test_round_is_ordinary_rounding_on_a_scale_of_five() -> None:
    """Halves go up; the ends stay on the scale."""
    levels, stated = Binning("round").apply([1.0, 1.49, 1.5, 2.5, 3.4, 4.5, 5.0])
    assert levels == [1, 1, 2, 3, 3, 5, 5]
    assert stated == "scores on a scale from 1 to 5 (inferred), rounded to the nearest of 5 levels"


def test_another_scale_is_stretched_onto_the_levels() -> None:
    """A score in the middle of its scale has the middle level."""
    assert Binning("round", scale=(0, 100)).apply([0, 50, 100])[0] == [1, 3, 5]
    assert Binning("equal_width", scale=(0, 100)).apply([0, 19.9, 20, 99, 100])[0] == [1, 1, 2, 5, 5]


def test_quantiles_have_equal_numbers_but_never_part_equal_scores() -> None:
    """As many in each level as ties allow."""
    assert Counter(Binning("quantile").apply([1 + i / 25 for i in range(100)])[0]) == dict.fromkeys(range(1, 6), 20)
    levels = Binning("quantile", levels=2).apply([3, 3, 3, 3, 4])[0]
    assert levels == [1, 1, 1, 1, 2]


@pytest.mark.slow
@given(SCORES, st.sampled_from(["round", "equal_width", "quantile"]), st.integers(2, 9))
def test_levels_keep_the_order_of_scores(scores: list[float], rule: Any, count: int) -> None:
    """A higher score never has a lower level, equal scores have equal levels, and all are on the scale."""
    levels, _ = Binning(rule, count, (1, 5)).apply(scores)
    assert all(1 <= level <= count for level in levels)
    ranked = sorted(zip(scores, levels, strict=True))
    assert [level for _, level in ranked] == sorted(levels)
    assert len(set(ranked)) == len(set(scores))


def test_scores_off_a_stated_scale_are_refused() -> None:
    """The scale was wrong, or the column is."""
    with pytest.raises(DataError, match=r"1 scores such as 5\.5 are off the scale 1 to 5"):
        Binning(scale=(1, 5)).apply([2, 5.5])


@pytest.mark.parametrize("options", [{"rule": "best"}, {"levels": 1}, {"levels": 2.5}, {"scale": (5, 1)}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(BlpoError, match=r"binning|levels|scale"):
        Binning(**options)
