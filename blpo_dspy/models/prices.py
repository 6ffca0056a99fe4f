"""The prices of tokens: the user's, or those of DSPy's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import dspy
from dspy.lm15 import LM15Error
from dspy.utils.exceptions import LMError

from blpo_dspy.errors import BlpoError
from blpo_dspy.models.seams import litellm_module, model_info, rate, resolve

Price: TypeAlias = tuple[float, float]
"""US dollars per million prompt tokens and per million completion tokens."""

Prices: TypeAlias = Mapping[str, Price]
"""Prices by model name, as in `dspy.LM(name)`."""

_OFFLINE = "embedded/"


def checked_prices(prices: Prices | None) -> dict[str, Price]:
    """Returns the prices that a user gave."""
    checked = {}
    for model, price in (prices or {}).items():
        try:
            prompt, completion = (float(amount) for amount in price)
        except (TypeError, ValueError):
            prompt = completion = math.nan
        if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
            raise BlpoError(
                f"the price of {model!r} is {price!r}; give US dollars per million prompt and completion tokens, as in "
                "(0.15, 0.60)"
            )
        checked[model] = (prompt, completion)
    return checked


def own_price(lm: dspy.BaseLM, prices: Prices | None) -> Price | None:
    """Returns the price that doesn't come from a table: the user's, or nothing at all for the offline engine."""
    return (prices or {}).get(lm.model, (0.0, 0.0) if lm.model.startswith(_OFFLINE) else None)


def known_price(lm: dspy.BaseLM, prices: Prices | None) -> Price | None:
    """Returns what the tokens of an LM cost, None if that is not known."""
    own = own_price(lm, prices)
    if own is not None or not isinstance(getattr(lm, "engine", None), str):
        return own
    try:
        route = resolve(lm)
    except (LM15Error, LMError):
        return _litellm_price(lm.model)
    info = model_info(route.provider, route.model)
    prompt, completion = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    return None if prompt is None or completion is None else (prompt * 1e6, completion * 1e6)


def batch_price(lm: dspy.BaseLM, prices: Prices | None, share: float) -> Price | None:
    """Returns what the tokens of an LM cost through a batch endpoint, None if that is not known.

    That is a share of the price of a single call where LiteLLM's table has none for batches.
    """
    if lm.model not in (prices or {}):
        table = litellm_module().model_cost
        for name in (lm.model, lm.model.partition("/")[2]):
            listed = table.get(name) or {}
            prompt, completion = (rate(listed, f"{kind}_cost_per_token_batches") for kind in ("input", "output"))
            if prompt is not None and completion is not None:
                return prompt * 1e6, completion * 1e6
    single = known_price(lm, prices)
    return None if single is None else (single[0] * share, single[1] * share)


def check_priced(max_usd: float | None, lms: Sequence[dspy.BaseLM], prices: Prices | None) -> None:
    """Checks that a cap in dollars can be kept, as every model has a price."""
    if max_usd is None:
        return
    unknown = sorted({lm.model for lm in lms if known_price(lm, prices) is None})
    if unknown:
        raise BlpoError(
            f"max_usd={max_usd} can't be kept, as the price of {', '.join(unknown)} is not known; give US dollars per "
            "million prompt and completion tokens with prices={model: (prompt, completion)}, or cap calls or tokens "
            "instead",
            option=("max_usd", "prices"),
        )


def _litellm_price(model: str) -> Price | None:
    """The price of a model that DSPy reaches through LiteLLM alone."""
    litellm = litellm_module()
    try:
        price: Price = litellm.cost_per_token(model=model, prompt_tokens=10**6, completion_tokens=10**6)
    except litellm.exceptions.ModelNotMappedError:
        return None
    return price


def cost(price: Price, prompt_tokens: float, completion_tokens: float) -> float:
    """Returns US dollars."""
    return (price[0] * prompt_tokens + price[1] * completion_tokens) / 1e6
