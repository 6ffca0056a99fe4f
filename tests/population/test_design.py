"""Which images people label."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.errors import BlpoError
from blpo_dspy.population.design import draw


@pytest.mark.slow
@given(st.lists(st.sampled_from("abc"), min_size=40, max_size=300), st.integers(6, 40), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_draw_has_n_different_images_and_states_how_likely_each_was(labels: list[str], n: int, seed: int) -> None:
    """By the probabilities they stand for the whole collection."""
    found = draw(labels, [None] * len(labels), n, seed=seed)
    assert len({position for position, _ in found.chosen}) == n
    for position, at in found.chosen:
        assert found.strata[at].label == labels[position]
    assert sum(1 / found.strata[at].chance for _, at in found.chosen) == pytest.approx(len(labels))
    assert {each.label: each.size for each in found.strata} == Counter(labels)
    assert all(each.drawn >= min(2, each.size) for each in found.strata)


def test_strata_get_their_share_and_rare_ones_at_least_five() -> None:
    """So that a judge no better than chance costs next to nothing."""
    found = draw(["Safe"] * 9_900 + ["Unsafe"] * 100, [None] * 10_000, 200)
    assert {each.label: each.drawn for each in found.strata} == {"Safe": 195, "Unsafe": 5}
    halves = draw(["Safe"] * 500 + ["Unsafe"] * 500, [None] * 1000, 100)
    assert {each.drawn for each in halves.strata} == {50}


def test_confidence_divides_labels_where_there_are_images_enough() -> None:
    """With few images only the label counts; images without a verdict are not divided."""
    labels, sure = ["a"] * 100 + [""] * 10, [i % 2 / 2 for i in range(110)]
    assert len(draw(labels, sure, 60).strata) == 3
    assert len(draw(labels, sure, 10).strata) == 2
    assert {each.confidence for each in draw(labels, [None] * 110, 60).strata} == {""}


def test_the_seed_decides() -> None:
    """The same one draws the same images, another one others."""
    labels = ["a", "b"] * 50
    first, again, other = (draw(labels, [None] * 100, 20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_all_images_can_be_drawn() -> None:
    """Each with probability 1."""
    found = draw(["a"] * 7 + ["b"], [None] * 8, 8)
    assert {each.chance for each in found.strata} == {1.0}


@pytest.mark.parametrize(("n", "said"), [(0, "draw 1 to 10"), (11, "draw 1 to 10"), (3, "draw 4 or more")])
def test_too_few_or_too_many_are_refused(n: int, said: str) -> None:
    """With what can be drawn."""
    with pytest.raises(BlpoError, match=said):
        draw(["a", "b"] * 5, [None] * 10, n)
