"""What tokens cost by way of a batch endpoint."""

from __future__ import annotations

import dspy
import pytest

from blpo_dspy.models.prices import batch_price, known_price

pytestmark = pytest.mark.slow


def test_a_price_of_batches_in_the_table_wins_over_a_share_of_that_of_single_calls() -> None:
    """Whatever the share."""
    lm = dspy.LM("openai/gpt-4o-mini", api_key="k")
    assert known_price(lm, None) == pytest.approx((0.15, 0.60))
    assert batch_price(lm, None, 0.9) == pytest.approx((0.075, 0.30))


def test_a_price_of_the_user_is_for_single_calls() -> None:
    """Of which a batch costs the share; so it is with listed models without a price of batches."""
    lm = dspy.LM("openai/gpt-4o-mini", api_key="k")
    assert batch_price(lm, {"openai/gpt-4o-mini": (2.0, 8.0)}, 0.25) == (0.5, 2.0)
    single = dspy.LM("deepseek/deepseek-chat", api_key="k")
    listed = known_price(single, None)
    assert listed is not None
    assert batch_price(single, None, 0.5) == pytest.approx((listed[0] / 2, listed[1] / 2))


def test_without_a_price_there_is_none() -> None:
    """None is made up."""
    assert batch_price(dspy.LM("openai/no-such-model", api_key="k"), None, 0.5) is None
