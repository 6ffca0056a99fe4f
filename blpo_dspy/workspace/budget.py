"""One cap over all LM calls of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from blpo_dspy.errors import BlpoError, check_kind, check_least
from blpo_dspy.workspace.ledger import Ledger

CAPS = ("max_calls", "max_tokens", "max_usd", "max_seconds")


@dataclass(frozen=True)
class Budget:
    """The most that a run may spend, over judge, verbalizer and optimizer calls together; None means no cap.

    Attributes:
        max_calls: Requests sent to providers, retries included.
        max_tokens: Prompt and completion tokens. The run stops where a provider doesn't count them.
        max_usd: US dollars. The run stops where an answer has no known price.
        max_seconds: Wall time since the call; that of an earlier session of a resumed run doesn't count. Calls under
            way when it is over get a few more seconds.
        keep_calls: How many calls to leave for what comes after the run; of the other caps what they cost at the
            average so far.

    Raises:
        BlpoError: If a cap is not a positive, finite number, or nothing of it is left to spend.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    max_seconds: float | None = None
    keep_calls: int = 0

    def __post_init__(self) -> None:
        for name, cap in self.caps().items():
            check_kind(name, cap, Real, "number", f"one, as in Budget({name}=100)")
            if not cap > 0:
                raise BlpoError(
                    f"{name}={cap!r} leaves nothing to spend; give a positive number or leave it out", option=name
                )
            if cap > sys.float_info.max:  # infinite, or a whole number that no float holds
                raise BlpoError(f"{name}={cap!r} is not a finite number; leave it out for no cap", option=name)
        check_least("keep_calls", self.keep_calls, 0)
        if self.calls is not None and self.calls <= 0:
            raise BlpoError(
                f"keep_calls={self.keep_calls} leaves nothing of max_calls={self.max_calls}; keep less",
                option="max_calls",
            )

    def caps(self) -> dict[str, float]:
        """Returns the caps that there are, by name."""
        return {name: cap for name in CAPS if (cap := getattr(self, name)) is not None}

    @property
    def calls(self) -> int | None:
        """The most calls less those that are kept, None without a cap."""
        return None if self.max_calls is None else self.max_calls - self.keep_calls

    def within(self, room: Mapping[str, float]) -> Budget:
        """Returns the caps no higher than what a workspace leaves.

        Raises:
            BlpoError: If that is nothing.
        """
        return replace(self, **least_caps(self.caps(), room))

    def spent(self, ledger: Ledger, seconds: float) -> dict[str, float]:
        """Returns the share of each cap that is used, 1.0 for all of it."""
        total = ledger.total
        used = {"max_calls": total.calls, "max_tokens": total.tokens, "max_usd": total.usd, "max_seconds": seconds}
        return {name: used[name] / cap for name, cap in self.caps().items()}

    def exhausted(self, ledger: Ledger, seconds: float) -> str | None:
        """Returns which cap is reached, in words, or which one can't be kept; None if the run may continue."""
        for name, share in self.spent(ledger, seconds).items():
            if share >= 1:
                return f"the budget is spent ({name}={getattr(self, name)})"
        total = ledger.total
        if self.max_usd is not None and total.unpriced:
            return f"max_usd={self.max_usd} can't be kept: {total.unpriced} answers have no known price; give prices"
        if self.max_tokens is not None and total.uncounted:
            return f"max_tokens={self.max_tokens} can't be kept: {total.uncounted} answers came without token counts"
        return None


def least_caps(caps: Mapping[str, float], room: Mapping[str, float]) -> dict[str, Any]:
    """Returns the lower of two caps each, of a job and of what a workspace leaves it.

    Raises:
        BlpoError: If a workspace leaves nothing.
    """
    for name, left in room.items():
        if not left > 0:
            raise BlpoError(f"the workspace's {name} is spent; open it with a higher one", option=name)
    return {name: min(caps.get(name, left), left) for name, left in room.items()}
