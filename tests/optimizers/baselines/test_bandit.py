import math
import random

import pytest

from blpo_dspy.optimizers.baselines.bandit import UCBBandit


def test_the_first_choice_is_random_and_without_repetition() -> None:
    """Before anything is known every arm may be chosen, none twice, and no more than there are."""
    bandit = UCBBandit(6, 1.0)
    chosen = bandit.choose(4, 0, random.Random(0))
    assert len(set(chosen)) == 4
    assert chosen != bandit.choose(4, 0, random.Random(1))
    assert sorted(bandit.choose(9, 0, random.Random(0))) == list(range(6))
    assert bandit.means == [None] * 6


def test_means_run_over_all_tries() -> None:
    """An arm's mean is over all samples, however they were grouped; failed tries count nothing."""
    bandit = UCBBandit(2, 1.0)
    bandit.update(0, [1.0, 0.0, 0.5])
    bandit.update(0, [1.0])
    bandit.update(1, [])
    assert bandit.means == [pytest.approx(0.625), None]


def test_the_second_choice_goes_by_the_mean_alone_and_later_ones_to_the_unknown_first() -> None:
    """In round 1 ln t is 0; from round 2 on an arm without a try has an almost endless bound."""
    bandit = UCBBandit(4, 1.0)
    bandit.update(0, [0.2] * 8)
    bandit.update(1, [0.9] * 8)
    rng = random.Random(0)
    assert bandit.choose(2, 1, rng) == [1, 0]
    assert bandit.choose(2, 2, rng) == [2, 3]


def test_later_choices_have_the_highest_bounds() -> None:
    """The bound is mean + c · sqrt(ln t / n); of equal bounds the earlier arm is chosen."""
    tries = [(0.6, 40), (0.5, 8), (0.55, 8), (0.55, 8)]
    for c in (0.0, 0.5, 2.0):
        bandit = UCBBandit(4, c)
        for arm, (mean, n) in enumerate(tries):
            bandit.update(arm, [mean] * n)
        bounds = [mean + c * math.sqrt(math.log(5) / (n + 1e-3)) for mean, n in tries]
        expected = sorted(range(4), key=lambda arm: (-round(bounds[arm], 9), arm))
        assert bandit.choose(4, 5, random.Random(0)) == expected
    assert bandit.choose(2, 5, random.Random(0)) == [2, 3]
