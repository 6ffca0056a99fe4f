"""The caps of one session as a meter's `admit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from blpo_dspy.errors import check_least, notice
from blpo_dspy.workspace.budget import Budget
from blpo_dspy.workspace.failures import RunStoppedError
from blpo_dspy.workspace.ledger import Ledger


@dataclass
class Cap:
    """Refuses calls that no cap pays for.

    The cap on calls is never exceeded. For the cap on dollars a call under way counts at the average cost of those
    before, so that it can be exceeded by what the calls under way cost above the average.

    Args:
        max_calls: The most calls; None for no cap.
        max_usd: The most dollars; None for no cap.
        stopped: Returns why no call may be made any more, "" if they may.

    Attributes:
        under_way: Returns how many calls are under way.
    """

    max_calls: int | None = None
    max_usd: float | None = None
    stopped: Callable[[], str] = lambda: ""
    under_way: Callable[[], int] = lambda: 0
    _noticed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.max_calls is not None:
            check_least("max_calls", self.max_calls, 0)
        self.max_usd = Budget(max_usd=self.max_usd).max_usd

    def __call__(self, ledger: Ledger) -> None:
        """Refuses a call that a cap doesn't pay for."""
        if reason := self.stopped() or self.refusal(ledger, 0):
            raise RunStoppedError(reason)

    def refusal(self, ledger: Ledger, reserved: int) -> str:
        """Returns why there is no further call beside those reserved, "" if there is one."""
        total = ledger.total
        if self.max_calls is not None and total.calls + reserved >= self.max_calls:
            return "the cap on LM calls is reached"
        if self.max_usd is None:
            return ""
        if total.unpriced:
            reason = f"max_usd={self.max_usd} can't be kept: an answer has no known price; give max_calls= instead"
            if not self._noticed:
                notice(reason, option=("max_usd", "max_calls"))
            self._noticed = True
            return reason
        under_way = reserved + self.under_way()
        answered = max(0, total.calls - total.failed - self.under_way())
        average = total.usd / answered if answered else 0.0
        spent = total.usd + average * (under_way + 1 if answered else 0)
        return f"the budget is spent (max_usd={self.max_usd})" if spent > self.max_usd else ""
