"""Tests of counting what LM calls come to."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import reduce
from operator import add

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blpo_dspy.workspace.ledger import ROLES, Ledger, Usage

COUNTS = st.integers(0, 10**6)
# Whole 64ths of a dollar or second add up exactly, so that order cannot hide behind rounding.
AMOUNTS = st.integers(0, 10**6).map(lambda n: n / 64)
USAGES = st.builds(
    Usage, **{field.name: AMOUNTS if field.name in ("usd", "seconds") else COUNTS for field in fields(Usage)}
)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.lists(USAGES, max_size=12), st.randoms(use_true_random=False), st.integers(1, 4))
def test_usages_add_up_in_any_order_and_grouping(usages: list[Usage], random: object, parts: int) -> None:
    """However calls interleave and whoever sums them, every field is the sum over the calls."""
    expected = {field.name: sum(getattr(usage, field.name) for usage in usages) for field in fields(Usage)}
    shuffled = list(usages)
    random.shuffle(shuffled)
    grouped = [sum(shuffled[start::parts], Usage()) for start in range(parts)]
    assert vars(sum(usages, Usage())) == vars(reduce(add, grouped)) == expected


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(ROLES), USAGES))
def test_a_ledger_adds_up_its_roles(roles: dict[str, Usage]) -> None:
    """The total is the sum of the roles; a role without calls is an empty usage."""
    ledger = Ledger(roles)
    assert ledger.total == sum((ledger[role] for role in ROLES), Usage())
    assert ledger.calls() == {
        **{role: roles[role].calls if role in roles else 0 for role in ROLES},
        "cached": sum(usage.cached for usage in roles.values()),
    }
    assert set(json.loads(json.dumps(ledger.to_dict()))) == set(roles)


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(calls=2, unpriced=2), None),
        (Usage(calls=2, usd=0.5, unpriced=1), 0.5),
        (Usage(calls=2, usd=0.5), 0.5),
        (Usage(cached=3), 0.0),
    ],
)
def test_an_unknown_price_is_none_and_nothing_spent_is_zero(usage: Usage, usd: float | None) -> None:
    """A sum is given where any price is known; how many calls it leaves out is given with it."""
    assert usage.to_dict()["usd"] == usd
    assert usage.to_dict()["unpriced"] == usage.unpriced


def test_tokens_are_those_of_prompt_and_completion() -> None:
    """Image tokens are a part of the prompt's and not counted twice."""
    assert Usage(prompt_tokens=10, completion_tokens=5, image_tokens=8).tokens == 15
