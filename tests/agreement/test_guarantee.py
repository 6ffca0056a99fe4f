"""The promise of a calibration: exact tests, their order, and what is needed for one to pass."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from blpo_dspy.agreement.guarantee import (
    POWER,
    accepting,
    check_promise,
    counts_of,
    labels_needed,
    least_selected,
    lower_bound,
    sequence_tests,
    staircase,
)
from blpo_dspy.errors import BlpoError

COUNTS = st.lists(
    st.integers(0, 80).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=8
)
LEVELS = st.sampled_from([0.5, 0.8, 0.9, 0.95])


def tail(agreeing: int, selected: int, level: Fraction) -> float:
    """P(X ≥ agreeing) for X of the binomial distribution, summed exactly."""
    terms = (math.comb(selected, k) * level**k * (1 - level) ** (selected - k) for k in range(agreeing, selected + 1))
    return float(sum(terms, Fraction(0)))


@given(COUNTS, LEVELS, st.sampled_from([0.05, 0.1, 0.2]))
def test_p_values_are_exact_binomial_tails(counts: list[tuple[int, int]], level: float, risk: float) -> None:
    """As the sum of their terms in fractions; nothing selected proves nothing."""
    for test, (selected, agreeing) in zip(sequence_tests(counts, level, risk), counts, strict=True):
        expected = tail(agreeing, selected, Fraction(str(level))) if selected else 1.0
        assert test.p_value == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert (test.selected, test.agreeing) == (selected, agreeing)


@given(COUNTS, LEVELS)
def test_a_test_passes_where_its_lower_bound_reaches_the_level(counts: list[tuple[int, int]], level: float) -> None:
    """The bound is SciPy's Clopper-Pearson bound."""
    for test in sequence_tests(counts, level, 0.1):
        if test.selected and test.risk:
            ends = binomtest(test.agreeing, test.selected, alternative="greater").proportion_ci(1 - test.risk, "exact")
            assert lower_bound(test) == pytest.approx(ends.low, abs=1e-9)
            if abs(lower_bound(test) - level) > 1e-9:
                assert test.passed == (lower_bound(test) > level)
        assert test.passed <= (test.selected > 0)


STARTS = [(0,), (0, 2), (0, 1, 2, 3), (1, 3)]


@pytest.mark.parametrize("starts", STARTS)
def test_the_risk_is_spent_once(starts: tuple[int, ...]) -> None:
    """Where none passes the starts share it, and no other is tested; where all pass, the last is at all of it."""
    none = sequence_tests([(0, 0)] * 4, 0.9, 0.1, starts)
    assert [test.risk for test in none] == [pytest.approx(0.1 / len(starts)) if i in starts else 0 for i in range(4)]
    every = sequence_tests([(1000, 1000)] * 4, 0.9, 0.1, starts)
    assert every[-1].risk == pytest.approx(0.1)
    assert [test.passed for test in every] == [i >= starts[0] for i in range(4)]


def test_the_sequence_ends_where_a_test_fails() -> None:
    """What comes after it isn't tested, however good, until the next start."""
    counts = [(100, 100), (110, 90), (300, 300), (400, 400)]
    assert [test.passed for test in sequence_tests(counts, 0.9, 0.1)] == [True, False, False, False]
    assert [test.passed for test in sequence_tests(counts, 0.9, 0.1, (0, 3))] == [True, False, False, True]


@pytest.mark.parametrize("starts", STARTS[:3])
def test_no_wrong_setting_passes_more_often_than_the_risk(starts: tuple[int, ...]) -> None:
    """Summed over all outcomes of three settings that are all just below the level, each selecting more."""
    level, risk = 0.5, 0.2
    shares, truth = (0.3, 0.3, 0.4), (0.49, 0.49, 0.49)
    n, wrong = 6, 0.0
    cells = [(s, right) for s in range(3) for right in (0, 1)]
    probability = {(s, r): shares[s] * (truth[s] if r else 1 - truth[s]) for s, r in cells}
    for outcome in itertools.combinations_with_replacement(range(6), n):
        times = [outcome.count(i) for i in range(6)]
        ways = math.factorial(n) / math.prod(math.factorial(t) for t in times)
        chance = ways * math.prod(probability[cells[i]] ** times[i] for i in range(6))
        counts, selected, agreeing = [], 0, 0
        for s in range(3):
            selected, agreeing = selected + times[2 * s] + times[2 * s + 1], agreeing + times[2 * s + 1]
            counts.append((selected, agreeing))
        wrong += chance * any(test.passed for test in sequence_tests(counts, level, risk, [s for s in starts if s < 3]))
    assert 0 < wrong <= risk


def test_a_setting_that_selects_too_few_does_not_hinder_the_next_start() -> None:
    """Three images prove nothing, the hundred of the next start do."""
    few, many = sequence_tests([(3, 3), (100, 100)], 0.9, 0.1, (0, 1))
    assert (few.passed, many.passed) == (False, True)


@pytest.mark.parametrize(("level", "risk", "least"), [(0.9, 0.1, 22), (0.5, 0.5, 1), (0.95, 0.05, 59), (0.9, 0.9, 1)])
def test_the_fewest_that_can_pass(level: float, risk: float, least: int) -> None:
    """With one image less even full agreement is too little."""
    assert least_selected(level, risk) == least
    assert sequence_tests([(least, least)], level, risk)[0].passed
    assert not sequence_tests([(least - 1, least - 1)], level, risk)[0].passed


def test_as_many_labels_as_are_said_to_be_needed_suffice_in_most_cases() -> None:
    """By simulation at the agreement and share that were observed."""
    tests = sequence_tests([(40, 39)], 0.9, 0.1)
    needed = labels_needed(tests, 50, 0.9)
    assert needed is not None
    assert needed > 50
    selected = round(needed * 40 / 50)
    drawn = np.random.default_rng(0).binomial(selected, 39 / 40, 2000)
    passed = np.mean([sequence_tests([(selected, int(k))], 0.9, 0.1)[0].passed for k in drawn])
    assert POWER - 0.03 <= passed <= POWER + 0.1


@pytest.mark.parametrize("counts", [[(50, 45)], [(50, 20)], [(0, 0)], [(1, 0)]])
def test_no_number_of_labels_helps_where_agreement_is_not_above_the_level(counts: list[tuple[int, int]]) -> None:
    """Also where nothing is selected, or one image."""
    assert labels_needed(sequence_tests(counts, 0.9, 0.1), 50, 0.9) is None


@pytest.mark.parametrize("name", ["agreement", "risk"])
@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), "0.9", None, True])
def test_an_impossible_promise_is_refused(name: str, value: object) -> None:
    """Both are numbers between 0 and 1."""
    values = {"agreement": 0.9, "risk": 0.1, name: value}
    with pytest.raises(BlpoError, match=f"{name}=.* is not a number between 0 and 1"):
        check_promise(values["agreement"], values["risk"])  # type: ignore[arg-type]


def test_the_last_judge_is_relaxed_first() -> None:
    """One threshold falls at a time, each to the bottom."""
    assert staircase([(1.0, 0.5)]) == [(1.0,), (0.5,)]
    assert staircase([(1.0, 0.5), (0.9, 0.1)]) == [(1.0, 0.9), (1.0, 0.1), (0.5, 0.1)]


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_selection_is_by_the_first_judge_that_is_sure_enough(images: list[tuple[float, float, bool]]) -> None:
    """As a loop has it; a label that cannot be accepted never is, and lower thresholds only add images."""
    confidences = np.array([[a for a, _, _ in images], [b for _, b, _ in images]])
    right = np.array([[r for _, _, r in images], [not r for _, _, r in images]])
    settings = staircase([(1.0, 0.5, 0.0)] * 2)
    before = 0
    for setting, (selected, agreeing) in zip(settings, counts_of(confidences, right, settings), strict=True):
        by = [next((s for s in (0, 1) if 0 <= i[s] >= setting[s]), -1) for i in images]  # type: ignore[misc]
        assert accepting(confidences, setting).tolist() == by
        assert selected == sum(s >= 0 for s in by) >= before
        assert agreeing == sum(s >= 0 and i[2] == (s == 0) for s, i in zip(by, images, strict=True))
        before = selected
