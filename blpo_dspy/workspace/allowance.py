"""The part of a budget that the search may spend; the rest is kept for the validation of its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Ledger

# The shares of 28 of 29 calls and of one more add up to a little over 1 in floating point.
_ROUNDING = 1e-9


class Allowance:
    """Admits LM calls as long as every cap pays for them, and for what is kept.

    Args:
        budget: The caps; None for none.
        ledger: Returns what was spent so far.
        refusal: Makes the error that refuses a call.
        began: When the time of the budget began, by the monotonic clock; now if None.

    Attributes:
        deadline: When it is over, None if it never is.
        kept: The calls that are kept from being spent.
        stopped: The refusal that ended `until_stopped`, None as long as there was none.
    """

    def __init__(
        self,
        budget: Budget | None,
        ledger: Callable[[], Ledger],
        refusal: Callable[[str], BaseException],
        began: float | None = None,
    ) -> None:
        self._budget, self._ledger, self._refusal = budget or Budget(), ledger, refusal
        self._began = time.monotonic() if began is None else began
        longest = self._budget.max_seconds
        self.deadline = None if longest is None else self._began + longest
        self._first_call: float | None = None
        self.kept = 0
        self.stopped: RunStoppedError | None = None

    @contextmanager
    def keeping(self, calls: int) -> Iterator[None]:
        """Keeps a number of calls from being spent inside the block."""
        self.kept = calls
        try:
            yield
        finally:
            self.kept = 0

    @contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Ends the block where a call is refused; the run ends with the current round."""
        try:
            yield
        except RunStoppedError as refused:
            self.stopped = refused

    def admit(self, ledger: Ledger) -> None:
        """Refuses a call that a cap doesn't pay for."""
        if reason := self._budget.exhausted(ledger, self._seconds):
            raise self._refusal(reason)
        self._first_call = self._first_call or time.monotonic()
        if not self._pays_for(ledger, 1):
            raise self._refusal("the rest of the budget is kept for the last validation and what comes after it")

    def afford(self, calls: int) -> None:
        """Refuses a step whose last calls a cap would refuse: its first ones would be wasted."""
        most, ledger = self._budget.calls, self._ledger()
        if most is not None and ledger.total.calls + calls + self.kept > most:
            raise self._refusal("the rest of the budget doesn't pay for another step")

    def pays_for_round(self, done: int) -> bool:
        """Whether every cap leaves room for a round like those before and for what is kept."""
        ledger = self._ledger()
        return self._pays_for(ledger, ledger.total.calls / done)

    def _pays_for(self, ledger: Ledger, calls: float) -> bool:
        """Whether every cap pays for so many calls, at the cost of those before, and for what is kept."""
        total, kept = ledger.total, self.kept + self._budget.keep_calls
        # Failures are expected as often as so far; but with fewer answers than are kept, no more than there were.
        repeated = total.failed / max(1, total.calls - total.failed, kept)
        more = (calls + kept * (1 + repeated)) / max(1, total.calls)
        spent = self._budget.spent(ledger, self._seconds)
        # Time before the first call, in which images were prepared, does not count as time of calls.
        calling = self._budget.spent(ledger, time.monotonic() - (self._first_call or time.monotonic()))
        return all(share + calling[name] * more <= 1 + _ROUNDING for name, share in spent.items())

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began
