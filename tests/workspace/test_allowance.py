import time

import pytest

from blpo_dspy.workspace.allowance import Allowance
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Ledger, Usage


def spent(calls: int) -> Ledger:
    """Returns a ledger of so many judge calls, a dollar each."""
    return Ledger({"judge": Usage(calls=calls, usd=float(calls))})


def allowance(calls: int = 0, *, cap: int | None = 10) -> Allowance:
    """Returns what a cap leaves after so many calls."""
    budget = None if cap is None else Budget(max_calls=cap)
    return Allowance(budget, lambda: spent(calls), RunStoppedError)


def test_the_search_leaves_what_is_kept_and_what_comes_after_it_takes_it() -> None:
    """Nobody gets more than the cap."""
    found = allowance()
    with found.keeping(4):
        found.admit(spent(5))
        with pytest.raises(RunStoppedError, match="kept for the last validation"):
            found.admit(spent(6))
    found.admit(spent(6))
    with pytest.raises(RunStoppedError, match=r"the budget is spent \(max_calls=10\)"):
        found.admit(spent(10))


def test_what_the_budget_keeps_for_later_is_left() -> None:
    """In calls, and of any other cap at the cost of those so far."""
    for budget in (Budget(max_calls=10, keep_calls=4), Budget(max_usd=10.0, keep_calls=4)):
        found = Allowance(budget, lambda: spent(5), RunStoppedError)
        found.admit(spent(5))
        with pytest.raises(RunStoppedError, match="what comes after it"):
            found.admit(spent(6))


def test_a_few_failures_at_the_start_say_little_about_what_is_kept() -> None:
    """No more are expected of it than there were; later as large a share of it as failed so far."""
    found = Allowance(Budget(max_calls=300, keep_calls=100), lambda: spent(4), RunStoppedError)
    found.admit(Ledger({"judge": Usage(calls=4, failed=4)}))
    found.admit(Ledger({"judge": Usage(calls=150, failed=0)}))
    with pytest.raises(RunStoppedError, match="what comes after it"):
        found.admit(Ledger({"judge": Usage(calls=150, failed=50)}))


def test_time_before_the_first_call_is_spent_but_says_nothing_about_what_calls_take() -> None:
    """Images that took long to prepare don't make the rest of the run look as slow."""
    found = Allowance(Budget(max_seconds=100, keep_calls=500), lambda: spent(1), RunStoppedError, time.monotonic() - 30)
    found.admit(spent(1))
    with pytest.raises(RunStoppedError, match=r"the budget is spent \(max_seconds=20\)"):
        Allowance(Budget(max_seconds=20), lambda: spent(1), RunStoppedError, time.monotonic() - 30).admit(spent(1))


def test_a_step_is_refused_that_the_cap_would_not_see_to_its_end() -> None:
    """To the call; without a cap no step is."""
    found = allowance(5)
    with found.keeping(2):
        found.afford(3)
        with pytest.raises(RunStoppedError, match="another step"):
            found.afford(4)
    allowance(5, cap=None).afford(10**6)


def test_a_round_like_those_before_has_to_fit() -> None:
    """Beside what is kept."""
    assert allowance(5).pays_for_round(1)
    assert not allowance(6).pays_for_round(1)
    with (found := allowance(5)).keeping(1):
        assert not found.pays_for_round(1)
        assert found.pays_for_round(2)


def test_a_refusal_ends_what_it_meets_and_is_told_afterwards() -> None:
    """Any other error is raised."""
    found, done = allowance(10), []
    with found.until_stopped():
        done.append("before")
        found.afford(1)
        done.append("after")
    assert (done, str(found.stopped)) == (["before"], "the rest of the budget doesn't pay for another step")
    with pytest.raises(KeyError), allowance().until_stopped():
        raise KeyError
