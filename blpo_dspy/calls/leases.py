"""Caps that hold over many processes: one office grants calls in small portions, and each process spends its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from blpo_dspy.calls.budget import Budget
from blpo_dspy.calls.failures import RunStoppedError
from blpo_dspy.calls.ledger import Ledger, Usage
from blpo_dspy.errors import check_least, notice

# The most calls that are granted at once, and of how many portions for each holder the rest is one: enough that a
# process seldom asks, few enough to lose with one that dies.
_PORTION, _PORTIONS = 32.0, 8
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Grant:
    """How many calls a process may have made in all, with those before, and why it gets no more, if so."""

    calls: float
    refusal: str = ""


@dataclass
class _Account:
    """What one process was granted and has used, and how many of its calls are under way."""

    granted: float = 0.0
    used: Usage = field(default_factory=Usage)
    under_way: int = 0

    @property
    def answered(self) -> int:
        """Calls whose cost is known."""
        return max(0, self.used.calls - self.used.failed - self.under_way)

    @property
    def reserved(self) -> float:
        """Calls granted whose cost is not known yet."""
        return max(0.0, self.granted - self.used.failed - self.answered)


class Office:
    """Grants the calls of one session, over all processes that ask.

    The cap on calls is never exceeded: what was granted counts until its holder says how much of it was used, and all
    of it if the holder dies. The cap on dollars reserves the average cost of a call for each that was granted and not
    yet paid; before the first answer, one call is granted for each thread. So it can be exceeded by what the calls
    under way cost above the average.

    Args:
        max_calls: The most calls; None for no cap.
        max_usd: The most dollars; None for no cap.
        holders: How many processes share the rest when it gets small.
    """

    def __init__(self, max_calls: int | None = None, max_usd: float | None = None, *, holders: int = 1) -> None:
        if max_calls is not None:
            check_least("max_calls", max_calls, 0)
        self._calls, self._usd = max_calls, Budget(max_usd=max_usd).max_usd
        self._holders = max(1, holders)
        self._accounts: dict[Hashable, _Account] = {}
        self.refused = False

    def ask(self, holder: Hashable, ledger: Ledger, under_way: int) -> Grant:
        """Grants a holder that has used so much more calls; with no cap, all that it will ever make.

        Of its calls some, those under way, are not answered yet.
        """
        if self._calls is None and self._usd is None:
            return Grant(math.inf)
        account = self._accounts.setdefault(holder, _Account())
        account.used, account.under_way = ledger.total, under_way
        granted = sum(account.granted for account in self._accounts.values())
        left_of_calls = math.inf if self._calls is None else self._calls - granted
        left, reason = min((left_of_calls, "the cap on LM calls is reached"), self._left_of_dollars())
        more = math.floor(min(_PORTION, max(1.0, left / (_PORTIONS * self._holders)), left) + _ROUNDING)
        if more < 1:
            self.refused = True
            return Grant(account.granted, reason)
        account.granted += more
        return Grant(account.granted)

    def end(self, holder: Hashable, ledger: Ledger) -> None:
        """Takes back what a holder that has ended was granted and did not use."""
        self._accounts[holder] = _Account(ledger.total.calls, ledger.total)

    def _left_of_dollars(self) -> tuple[float, str]:
        """How many more calls the cap on dollars allows, and what it says when there are none."""
        if self._usd is None:
            return math.inf, ""
        accounts = self._accounts.values()
        if sum(each.used.unpriced for each in accounts):
            reason = f"max_usd={self._usd} can't be kept: an answer has no known price; give max_calls= instead"
            if not self.refused:
                notice(reason, option=("max_usd", "max_calls"))
            return 0.0, reason
        usd, answered = sum(each.used.usd for each in accounts), sum(each.answered for each in accounts)
        reason = f"the budget is spent (max_usd={self._usd})"
        if usd >= self._usd or not answered:
            return float(usd < self._usd), reason
        if not usd:
            return math.inf, reason
        return (self._usd - usd) * answered / usd - sum(each.reserved for each in accounts), reason


@dataclass
class LeasedCap:
    """The caps of one process, as a meter's `admit`: it asks for more calls when those granted are used.

    Args:
        ask: Given the ledger and the number of calls under way, returns what is granted in all.
        stopped: Returns why no call may be made any more, "" if they may.

    Attributes:
        under_way: Returns how many calls are under way.
    """

    ask: Callable[[Ledger, int], Grant]
    stopped: Callable[[], str] = lambda: ""
    under_way: Callable[[], int] = lambda: 0
    _granted: float = field(default=0.0, init=False)

    def __call__(self, ledger: Ledger) -> None:
        """Refuses a call that no cap pays for."""
        if reason := self.stopped():
            raise RunStoppedError(reason)
        if ledger.total.calls >= self._granted:
            grant = self.ask(ledger, self.under_way())
            self._granted = grant.calls
            if ledger.total.calls >= self._granted:
                raise RunStoppedError(grant.refusal)
