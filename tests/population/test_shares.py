"""The interval of a share: an inverted score test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from blpo_dspy.population.cells import Cell
from blpo_dspy.population.shares import share_interval


def cell(weight: float, count: int, n: int, left: float = 1.0) -> Cell:
    """So many yes of so many labels."""
    return Cell(weight, n, count / n, left)


@pytest.mark.slow
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.sampled_from([0.8, 0.95]))
@settings(max_examples=60, deadline=None)
def test_of_a_single_cell_it_is_wilsons(drawn: tuple[int, int], level: float) -> None:
    """For any count, at both ends of the range too."""
    n, count = drawn
    theirs = binomtest(count, n).proportion_ci(level, method="wilson")
    assert share_interval([cell(1.0, count, n)], level=level) == pytest.approx((theirs.low, theirs.high), abs=1e-7)


def pulled_by_force(cells: list[Cell], total: float) -> list[float]:
    """The shares of two cells that add up to a total and are the most likely ones, by search."""
    (a, b), counts = cells, [each.n * each.mean for each in cells]

    def cost(first: float) -> float:
        shares = (first, (total - a.weight * first) / b.weight)
        return -sum(
            yes * math.log(max(p, 1e-300)) + (each.n - yes) * math.log(max(1 - p, 1e-300))
            for p, yes, each in zip(shares, counts, cells, strict=True)
        )

    low, high = max(0.0, (total - b.weight) / a.weight), min(1.0, total / a.weight)
    first = float(minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)
    return [first, (total - a.weight * first) / b.weight]


@pytest.mark.parametrize(
    ("first", "second"), [((3, 20), (40, 60)), ((1, 9), (2, 150)), ((18, 20), (5, 30)), ((7, 8), (1, 191))]
)
def test_of_two_cells_its_ends_are_where_the_score_test_just_rejects(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    """The most likely shares under either end, found by search, give a statistic of 1.96."""
    cells = [cell(0.3, *first, left=0.9), cell(0.7, *second)]
    estimate = sum(each.weight * each.mean for each in cells)
    for end in share_interval(cells):
        shares = pulled_by_force(cells, end)
        variance = sum(each.weight**2 * each.left * p * (1 - p) / each.n for each, p in zip(cells, shares, strict=True))
        assert abs(end - estimate) / math.sqrt(variance) == pytest.approx(float(norm.ppf(0.975)), rel=1e-3)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.floats(0, 1), st.floats(0.05, 1), st.floats(0, 1)), min_size=1, max_size=5
    )
)
@settings(max_examples=60, deadline=None)
def test_any_cells_give_an_interval_within_0_and_1_about_the_estimate(
    drawn: list[tuple[int, float, float, float]],
) -> None:
    """Never NaN: also where nobody or everybody said yes, or all images were drawn."""
    whole = sum(weight for _, _, weight, _ in drawn)
    cells = [cell(weight / whole, round(n * share), n, left) for n, share, weight, left in drawn]
    estimate = sum(each.weight * each.mean for each in cells)
    low, high = share_interval(cells)
    assert -1e-9 <= low <= estimate + 1e-6
    assert estimate - 1e-6 <= high <= 1 + 1e-9


def test_more_variance_makes_it_longer_and_a_whole_collection_a_point() -> None:
    """What cells don't know counts; what was all labelled is certain."""
    cells = [cell(0.5, 5, 20), cell(0.5, 10, 20)]
    plain, more = share_interval(cells), share_interval(cells, extra=0.01)
    assert more[0] < plain[0] < plain[1] < more[1]
    assert np.ptp(share_interval([cell(1.0, 5, 20, left=0.0)])) == pytest.approx(0, abs=1e-6)
