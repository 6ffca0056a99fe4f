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

    The cap on calls is never exceeded. For those on dollars and tokens a call under way counts at the average of those
    before, so that they can be exceeded by what the calls under way take above the average.

    Args:
        max_calls: The most calls; None for no cap.
        max_usd: The most dollars; None for no cap.
        max_tokens: The most tokens; None for no cap. It is kept like that on dollars.
        whose: Whose caps they are, for the messages.
        stopped: Returns why no call may be made any more, "" if they may.

    Attributes:
        under_way: Returns how many calls are under way.
    """

    max_calls: int | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    whose: str = "the"
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
            return f"{self.whose} cap on LM calls is reached (max_calls={self.max_calls})"
        under_way = reserved + self.under_way()
        answered = max(0, total.calls - total.failed - self.under_way())
        for name, spent, unknown in (
            ("max_usd", total.usd, "has no known price" if total.unpriced else ""),
            ("max_tokens", total.tokens, "came without token counts" if total.uncounted else ""),
        ):
            most = getattr(self, name)
            if most is None:
                continue
            if unknown:
                return self._unkept(f"{name}={most} can't be kept: an answer {unknown}; give max_calls= instead", name)
            if spent >= most or spent + (spent / answered * (under_way + 1) if answered else 0) > most:
                return f"{self.whose} budget is spent ({name}={most})"
        return ""

    def _unkept(self, reason: str, name: str) -> str:
        if not self._noticed:
            notice(reason, option=(name, "max_calls"))
        self._noticed = True
        return reason
