"""The interval of a mean: the difference estimator with the judge's best weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from blpo_dspy.population.cells import Sample
from blpo_dspy.population.means import mean_interval, plain_mean

RNG = np.random.default_rng(3)


def sample(values: Any, judged: Any, collection: Any, strata: Any, chances: Any) -> Sample:
    """Arrays of any numbers."""
    numbers = np.array(strata)
    arrays = (np.array(each, float) for each in (values, judged))
    return Sample(*arrays, numbers, np.array(chances, float), np.array(collection, float), np.bincount(numbers))


def uniform(n: int, known: int, noise: float) -> Sample:
    """A uniform draw; the judge is off by a noise."""
    truth = RNG.integers(1, 6, known).astype(float)
    judged = truth + RNG.normal(0, noise, known)
    return sample(truth[:n], judged[:n], judged, [0] * n, [n / known] * n)


def test_of_labels_alone_it_is_students_interval() -> None:
    """With the finite-population correction; a step that matters little adds next to nothing."""
    drawn = uniform(50, 1000, 1.0)
    found = plain_mean(drawn, step=1e-9)
    error = stats.sem(drawn.values) * np.sqrt(1 - 50 / 1000)
    theirs = stats.t.interval(0.95, 49, drawn.values.mean(), error)
    assert (found.low, found.high) == pytest.approx(theirs)


def test_the_weight_is_the_one_of_least_variance() -> None:
    """No other weight on a grid gives less; the estimate is PPI++'s."""
    drawn = uniform(80, 2000, 1.5)
    found = mean_interval(drawn, step=1.0)
    spread = {weight: np.var(drawn.values - weight * drawn.judged) for weight in np.linspace(0, 1, 101)}
    assert found.weight == pytest.approx(min(spread, key=lambda weight: spread[weight]), abs=0.006)
    rest = (drawn.values - found.weight * drawn.judged).mean()
    assert found.value == pytest.approx(found.weight * drawn.collection.mean() + rest)


def test_a_good_judge_makes_it_shorter_and_a_useless_one_not_longer() -> None:
    """Than that of the labels alone."""
    for noise, longest in ((0.3, 0.5), (1e6, 1.02)):
        drawn = uniform(200, 5000, noise)
        found, plain = mean_interval(drawn, step=1.0), plain_mean(drawn, step=1.0)
        assert (found.high - found.low) / (plain.high - plain.low) < longest


def test_strata_are_weighed_and_their_variances_have_one_degree_of_freedom_less() -> None:
    """By hand, with a judge that says the same of all of a stratum, so that any weight gives the same estimate."""
    values, strata = [1.0, 2.0, 3.0, 10.0, 14.0], [0, 0, 0, 1, 1]
    drawn = sample(values, [0] * 3 + [5] * 2, [0] * 60 + [5] * 40, strata, [3 / 60] * 3 + [2 / 40] * 2)
    found = mean_interval(drawn, step=1e-9)
    parts = [0.6**2 * 0.95 * 1 / 3, 0.4**2 * 0.95 * 8 / 2]
    free = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = stats.t.ppf(0.975, free) * np.sqrt(sum(parts))
    assert found.weight == 1  # their means are 2 and 12 where the judge says 0 and 5
    assert (found.value, found.low, found.high) == pytest.approx((6.0, 6.0 - half, 6.0 + half))


def test_a_judge_that_says_the_same_of_all_has_no_weight() -> None:
    """Whatever rounding makes of the variance of its verdicts."""
    chances = [1 / 3] * 3 + [0.35] * 7
    drawn = sample([1, 2, 3, 4, 5, 4, 3, 2, 1, 5], [3] * 10, [3] * 29, [0] * 3 + [1] * 7, chances)
    assert mean_interval(drawn, step=1.0).weight == 0


@pytest.mark.parametrize("judged", [[1, 2, 3, 4], [3, 3, 3, 3]])
def test_labels_without_a_single_error_do_not_make_it_certain(judged: list[float]) -> None:
    """One image that is off by a step may not have been drawn."""
    drawn = sample(judged, judged, judged * 25, [0] * 4, [0.04] * 4)
    found = mean_interval(drawn, step=1.0)
    assert found.high - found.low > 0.5


def test_a_stratum_of_a_single_label_takes_the_variance_of_the_others() -> None:
    """No NaN, also where each has one."""
    for strata in ([0, 0, 1], [0, 1, 2]):
        drawn = sample([1, 3, 5], [1, 3, 5], [1, 3, 5] * 10, strata, [0.1] * 3)
        found = mean_interval(drawn, step=1.0)
        assert np.isfinite([found.low, found.high]).all()
        assert found.low < found.value < found.high
