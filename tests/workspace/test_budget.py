"""Tests of the cap over all LM calls of a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.ledger import Ledger, Usage

CAPS = st.none() | st.integers(1, 100)


def ledger_of(calls: int = 0, tokens: int = 0, usd: float = 0.0) -> Ledger:
    """Returns a ledger whose roles come to these sums."""
    half = tokens // 2
    return Ledger(
        {"judge": Usage(calls=calls, prompt_tokens=half), "optimizer": Usage(completion_tokens=tokens - half, usd=usd)}
    )


@pytest.mark.slow
@given(CAPS, CAPS, CAPS, CAPS, st.tuples(*[st.integers(0, 100)] * 4))
def test_a_budget_is_exhausted_as_soon_as_one_cap_is_reached(
    calls: int | None, tokens: int | None, usd: int | None, seconds: int | None, used: tuple[int, ...]
) -> None:
    """Calls, tokens, dollars and seconds over all roles are each held against their own cap."""
    caps = (calls, tokens, usd, seconds)
    budget = Budget(max_calls=calls, max_tokens=tokens, max_usd=usd, max_seconds=seconds)
    ledger = ledger_of(*used[:3])
    reached = [cap is not None and amount >= cap for cap, amount in zip(caps, used, strict=True)]
    assert (budget.exhausted(ledger, used[3]) is not None) == any(reached)
    assert set(budget.spent(ledger, used[3]).values()) == {
        amount / cap for cap, amount in zip(caps, used, strict=True) if cap is not None
    }


def test_the_reason_names_the_cap() -> None:
    """A run that stops says which cap it reached."""
    assert Budget(max_calls=3, max_usd=1.0).exhausted(ledger_of(calls=3), 0) == "the budget is spent (max_calls=3)"


def test_calls_that_are_kept_come_off_the_cap_on_calls() -> None:
    """Those are what a run may plan with; a cap that is kept as a whole is refused."""
    assert (Budget(max_calls=10, keep_calls=4).calls, Budget(keep_calls=4).calls) == (6, None)
    with pytest.raises(BlpoError, match="keep_calls=10 leaves nothing of max_calls=10"):
        Budget(max_calls=10, keep_calls=10)


def test_no_cap_is_never_exhausted() -> None:
    """A budget without caps lets everything pass."""
    assert Budget().exhausted(ledger_of(10**9, 10**9, 1e9), 1e9) is None


def test_remembered_answers_cost_nothing() -> None:
    """What a cache answered is held against no cap."""
    assert Budget(max_calls=1).exhausted(Ledger({"judge": Usage(cached=100)}), 0) is None


@pytest.mark.parametrize("cap", ["max_calls", "max_tokens", "max_usd", "max_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_cap_that_leaves_nothing_or_caps_nothing_is_refused(cap: str, value: Any) -> None:
    """The error names the cap and its value."""
    with pytest.raises(BlpoError, match=f"{cap}={value!r}"):
        Budget(**{cap: value})
