"""One cap over all LM calls of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from numbers import Real

from blpo_dspy.errors import BlpoError, check_kind
from blpo_dspy.ledger import Ledger


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend, over judge, verbalizer and optimizer calls together; None means no cap.

    Attributes:
        max_calls: Requests sent to providers, retries included.
        max_tokens: Prompt and completion tokens. The run stops where a provider doesn't count them.
        max_usd: US dollars. The run stops where an answer has no known price.
        max_seconds: Wall time since the call; that of an earlier session of a resumed run doesn't count.

    Raises:
        BlpoError: If a cap is no positive number.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            cap = getattr(self, field.name)
            if cap is None:
                continue
            check_kind(field.name, cap, Real, "number", f"one, as in Budget({field.name}=100)")
            if not cap > 0:
                raise BlpoError(f"{field.name}={cap!r} leaves nothing to spend; give a positive number or leave it out")

    def spent(self, ledger: Ledger, seconds: float) -> dict[str, float]:
        """Returns the share of each cap that is used, 1.0 for all of it."""
        total = ledger.total
        used = {
            "max_calls": total.calls,
            "max_tokens": total.tokens,
            "max_usd": total.usd,
            "max_seconds": seconds,
        }
        return {name: used[name] / cap for name, cap in asdict(self).items() if cap is not None}

    def exhausted(self, ledger: Ledger, seconds: float) -> str | None:
        """Returns which cap is reached, in words, or which one can't be kept; None if the run may go on."""
        for name, share in self.spent(ledger, seconds).items():
            if share >= 1:
                return f"the budget is spent ({name}={getattr(self, name)})"
        total = ledger.total
        if self.max_usd is not None and total.unpriced:
            return f"max_usd={self.max_usd} can't be kept: {total.unpriced} answers have no known price; give prices"
        if self.max_tokens is not None and total.untold:
            return f"max_tokens={self.max_tokens} can't be kept: {total.untold} answers came without token counts"
        return None
