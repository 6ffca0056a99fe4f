"""What processes that judge shards and the one that planned them tell each other."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blpo_dspy.calls.leases import Grant, Office
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.calls.outages import Pauses
from blpo_dspy.predictions.results import Outcome


@dataclass(frozen=True)
class Report:
    """How far a process has got with a shard.

    Attributes:
        number: The shard.
        counts: Rows by what was found about them.
        judged: Rows that this process has judged.
        ledger: The LM calls of this process.
        earlier: Those that its journal had when the process began.
    """

    number: int
    counts: Counter[Outcome]
    judged: int
    ledger: Ledger
    earlier: Ledger


class Line(ABC):
    """The connection of a process that judges a shard to the one that planned it, if that waits for it."""

    @abstractmethod
    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks for more LM calls; see `Office.ask`."""

    def stopped(self) -> str:
        """Returns why the process is to end early, "" if it isn't."""
        return ""

    def report(self, make: Callable[[], Report]) -> None:  # noqa: B027 - nobody may be interested
        """Says how far it has got, if it is time for that."""

    def paused(self, quota: str, seconds: float) -> None:  # noqa: B027
        """Says that a model is not to be asked for some seconds."""

    def on_pause(self, pause: Callable[[str, float], None]) -> None:  # noqa: B027
        """Names what is called when another process says so."""


class Alone(Line):
    """The line of a process that nobody waits for: it has caps of its own.

    Args:
        max_calls: The most LM calls; None for no cap.
        max_usd: The most dollars; None for no cap.
    """

    def __init__(self, max_calls: int | None = None, max_usd: float | None = None) -> None:
        self._office = Office(max_calls, max_usd)

    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks the own caps."""
        return self._office.ask(None, ledger, under_way)


class Remote(Line):
    """The line of a process that sends messages to the one that planned the shards, which answers with grants.

    Args:
        every: Seconds from one report to the next.
    """

    def __init__(self, every: float) -> None:
        self._every, self._reported = every, 0.0
        self._changed = threading.Condition()
        self._grants: deque[Grant] = deque()
        self._pauses = Pauses()
        self._pause: Callable[[str, float], None] = lambda quota, seconds: None

    @abstractmethod
    def send(self, *message: Any) -> None:
        """Sends a message."""

    def report(self, make: Callable[[], Report]) -> None:
        """Reports now and then."""
        if time.monotonic() - self._reported >= self._every:
            self._reported = time.monotonic()
            self.send("report", make())

    def paused(self, quota: str, seconds: float) -> None:
        """Says so to the planner, which says so to the others."""
        self._pauses.add(quota, seconds)
        self.send("pause", quota, seconds)

    def on_pause(self, pause: Callable[[str, float], None]) -> None:
        """Takes what is called for the pauses of others, and calls it for those that are not over."""
        self._pause = pause
        for quota, left in self._pauses.under_way():
            pause(quota, left)

    def take_pause(self, quota: str, seconds: float) -> None:
        """Takes a pause of another process."""
        self._pauses.add(quota, seconds)
        self._pause(quota, seconds)


@dataclass
class Desk:
    """What the process that planned shards does with what it hears of those that judge them.

    Attributes:
        office: Grants their calls.
        take: Counts a report.
        lost: Notes that the process that judged a shard has died.
        answered: Whether the models are known to answer.
        max_in_flight: The most LM calls under way at once over all of them, None for no cap.
        pauses: Those of the models, of which a process that starts later has to hear.
    """

    office: Office
    take: Callable[[Report], None]
    lost: Callable[[int], None]
    answered: bool = False
    max_in_flight: int | None = None
    pauses: Pauses = field(default_factory=Pauses)

    def hear(self, report: Report) -> None:
        """Counts a report."""
        total = report.ledger.total
        self.answered = self.answered or total.calls > total.failed
        self.take(report)
