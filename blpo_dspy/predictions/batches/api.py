"""Verdicts through a provider's batch endpoint: answered within a day, usually at half the price."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real

from blpo_dspy.errors import BlpoError, check_kind, check_least, counted
from blpo_dspy.models.batches import LARGEST_FILE, MOST_REQUESTS
from blpo_dspy.models.prices import Prices, checked_prices
from blpo_dspy.predictions.batches.costs import Cost


@dataclass(frozen=True)
class Offer:
    """Requests that are about to be submitted.

    Attributes:
        model: The model that they are for.
        role: Its role.
        requests: How many there are.
        cost: What they cost at the price of batches; None where that is not known.
        whole: What those of all rows usually cost, as far as they can be asked for now; the same once all are in.
    """

    model: str
    role: str
    requests: int
    cost: Cost | None
    whole: float | None

    def __str__(self) -> str:
        number = counted(self.requests, "request")
        about = f"Batch of {number} to {self.model} ({self.role}): "
        if self.cost is None or self.whole is None:
            return about + "price unknown"
        about += f"about ${self.cost.usual:,.4f}, at most ${self.cost.most:,.4f}"
        more = self.whole > 1.5 * self.cost.usual
        return about + more * f"; about ${self.whole:,.4f} with the batches before and after it"


@dataclass(frozen=True)
class Waiting:
    """Batches whose answers are not all there yet.

    Attributes:
        ids: Their names at the provider.
        total: Their requests.
        completed: How many of these were answered.
        failed: How many of these failed.
    """

    ids: tuple[str, ...]
    total: int
    completed: int
    failed: int

    def __str__(self) -> str:
        return f"{self.completed:,} of {self.total:,} answered, {self.failed:,} failed"


@dataclass(frozen=True)
class BatchApi:
    """How verdicts are bought through a batch endpoint.

    Attributes:
        prices: US dollars per million prompt and completion tokens of single calls by model, where DSPy's tables lack
            them.
        share: The share of the price of single calls that a batch costs, for models without a price of batches in
            LiteLLM's table.
        poll: Initial seconds between two polls of a batch; they double up to a minute.
        most_requests: The most requests of a batch.
        largest_file: The most bytes of a batch's requests.
        abandon: Whether batches under way are given up; their requests are paid for again.
        on_submit: Called before requests are submitted.
        on_wait: Called whenever batches were looked at.

    Raises:
        BlpoError: If one of them is not a value that it can have.
    """

    prices: Prices | None = None
    share: float = 0.5
    poll: float = 1.0
    most_requests: int = MOST_REQUESTS
    largest_file: int = LARGEST_FILE
    abandon: bool = False
    on_submit: Callable[[Offer], None] = field(default=lambda offer: None, compare=False)
    on_wait: Callable[[Waiting], None] = field(default=lambda waiting: None, compare=False)

    def __post_init__(self) -> None:
        checked_prices(self.prices)
        for name in ("share", "poll"):
            value = getattr(self, name)
            check_kind(name, value, Real, "number", f"one, as in BatchApi({name}=0.5)")
            if not 0 < value < math.inf:
                raise BlpoError(f"{name}={value!r} is not a positive number", option=name)
        check_least("most_requests", self.most_requests, 1)
        check_least("largest_file", self.largest_file, 1)


def batch_api_of(given: bool | BatchApi, prices: Prices | None = None) -> BatchApi | None:
    """Returns how verdicts are bought through a batch endpoint, with further prices; None for plain calls.

    Raises:
        BlpoError: If that is neither a truth value nor a `BatchApi`.
    """
    check_kind("batch_api", given, (bool, BatchApi), "truth value or BatchApi", "True, or BatchApi(poll=60)")
    if not given:
        return None
    api = BatchApi() if given is True else given
    assert isinstance(api, BatchApi), "checked above"
    return replace(api, prices={**(prices or {}), **(api.prices or {})})
