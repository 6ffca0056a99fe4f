"""Tests of whether verdicts differ by more than chance."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from blpo_dspy.population.shifts import Shift, corrected, fall, label_shift, number_shift, paired_fall

COUNTS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=6)


@pytest.mark.slow
@given(COUNTS)
@settings(max_examples=80, deadline=None)
def test_any_counts_of_labels_give_a_p_value(counts: list[tuple[int, int]]) -> None:
    """Also where a label, or a table, has none."""
    assert 0 <= label_shift(*zip(*counts, strict=True)).p_value <= 1


def test_labels_are_compared_by_chi_square_and_rare_ones_are_taken_together() -> None:
    """SciPy's, without a continuity correction; Fisher's where two labels are left."""
    common = label_shift([50, 50], [30, 70])
    assert common.p_value == pytest.approx(stats.chi2_contingency([[50, 50], [30, 70]], correction=False).pvalue)
    rare = label_shift([50, 50, 2, 4], [30, 70, 3, 5])
    together = stats.chi2_contingency([[50, 50, 6], [30, 70, 8]], correction=False)
    assert rare.p_value == pytest.approx(together.pvalue)
    few = label_shift([3, 1], [1, 3])
    assert (few.test, few.p_value) == ("Fisher's exact", pytest.approx(stats.fisher_exact([[3, 1], [1, 3]]).pvalue))
    assert label_shift([0, 7], [0, 9]) == Shift("labels", "one label only", 1.0)


def test_numbers_are_compared_by_kolmogorov_and_smirnov() -> None:
    """None at all are no sign."""
    first, second = list(np.linspace(0, 1, 50)), list(np.linspace(0.3, 1, 50))
    assert number_shift("confidence", first, second).p_value == pytest.approx(stats.ks_2samp(first, second).pvalue)
    assert number_shift("confidence", [], second).p_value == 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_fall_on_the_same_images_is_tested_exactly(pairs: list[tuple[bool, bool]]) -> None:
    """By hand: the chance that of those that changed so many or more would be broken."""
    broken = sum(was and not now for was, now in pairs)
    changed = sum(was != now for was, now in pairs)
    by_hand = sum(stats.binom.pmf(k, changed, 0.5) for k in range(broken, changed + 1))
    found = paired_fall([was for was, _ in pairs], [now for _, now in pairs])
    assert found.p_value == pytest.approx(min(1.0, by_hand))


def test_a_fall_on_other_images_is_fishers_and_a_rise_is_none() -> None:
    """One-sided."""
    assert fall((90, 100), (60, 100)).p_value < 1e-4
    assert fall((60, 100), (90, 100)).p_value > 0.99


def test_holms_correction() -> None:
    """The smallest is multiplied by how many there are, the next by one less; in the order given."""
    found = corrected([Shift("a", "", 0.04), Shift("b", "", 0.01), Shift("c", "", 0.03)])
    assert [shift.corrected for shift in found] == pytest.approx([0.06, 0.03, 0.06])
    assert corrected([Shift("a", "", 0.9), Shift("b", "", 0.8)])[0].corrected == 1


@pytest.mark.slow
def test_without_a_change_hardly_any_of_many_seeds_raises_an_alarm() -> None:
    """At a level of 5 % over both tests."""
    alarms = 0
    for seed in range(200):
        rng = random.Random(f"{seed}:at rest")
        labels = [[rng.choices(range(4), [50, 30, 15, 5])[0] for _ in range(150)] for _ in range(2)]
        sure = [[rng.randrange(11) / 10 for _ in range(150)] for _ in range(2)]
        counts = [[each.count(label) for label in range(4)] for each in labels]
        found = corrected([label_shift(*counts), number_shift("confidence", *sure)])
        alarms += any(shift.corrected <= 0.05 for shift in found)
    assert alarms <= 18
