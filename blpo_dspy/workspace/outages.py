"""How long a run waits for a server that has stopped answering, beyond the retries of each call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from blpo_dspy.errors import BlpoError, notice
from blpo_dspy.log import log_event

MAX_OUTAGE = 300.0
"""Seconds for which an outage is waited out, unless a run says otherwise."""

# Seconds between two requests to a server that doesn't answer: they double up to the longest.
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 15.0
# While a call waits it checks this often, in seconds, whether its run may continue.
_LOOK = 1.0
_SHOWN = 200


def checked_outage(seconds: float) -> float:
    """Returns the seconds for which an outage is waited out."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise BlpoError(
            f"max_outage={seconds!r} is not a number of seconds; write one such as 300, or 0 for no waiting",
            option="max_outage",
        )
    return float(seconds)


@dataclass
class _Outage:
    """A time without any answer: since when, seconds between two requests, and when the next one is due, if any is."""

    since: float
    delay: float = _FIRST_DELAY
    turn: float | None = None


class Pauses:
    """For how long the calls to which models are held back."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, quota: str, seconds: float) -> None:
        """Holds back the calls to a model of a server for some seconds."""
        self._until[quota] = max(self._until.get(quota, 0.0), time.monotonic() + seconds)

    def left(self, quota: str) -> float:
        """Returns the seconds for which calls to a model are held back."""
        return max(0.0, self._until.get(quota, 0.0) - time.monotonic())

    def under_way(self) -> list[tuple[str, float]]:
        """Returns the models to which calls are held back, with the seconds that are left."""
        return [(quota, left) for quota in list(self._until) if (left := self.left(quota)) > 0]


@dataclass
class Outages:
    """The outages of the servers that a run asks.

    There is no wait for a server that has not answered any call yet: a wrong address is more likely than an outage.

    Args:
        longest: Seconds that an outage is waited out.
        known: Whether the servers are known to have answered.
        paces: Whether a rate limit whose answer says how long to wait holds back all calls to that model, not only the
            one that was refused.
        on_pause: Called with the model and the seconds when that begins, so that other processes wait, too.
    """

    longest: float = MAX_OUTAGE
    known: bool = False
    paces: bool = False
    on_pause: Callable[[str, float], None] = lambda quota, seconds: None
    _pauses: Pauses = field(default_factory=Pauses, init=False)
    _answered: dict[str, float] = field(default_factory=dict, init=False)
    _under_way: dict[str, _Outage] = field(default_factory=dict, init=False)
    # Entered itself, as in `Gate`.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _changed: threading.Condition = field(init=False)

    def __post_init__(self) -> None:
        checked_outage(self.longest)
        self._changed = threading.Condition(self._lock)

    def answered(self, server: str) -> None:
        """Notes an answer: calls that wait for this server make their requests again."""
        with self._lock:
            self._answered[server] = time.monotonic()
            over = self._under_way.pop(server, None)
            if over is not None:
                self._changed.notify_all()
        if over is not None and over.turn is not None:
            seconds = time.monotonic() - over.since
            log_event("answered again", f"{server} answers again after {seconds:.0f} s", server=server, seconds=seconds)

    def answered_since(self, server: str, when: float) -> bool:
        """Returns whether there was an answer after a time of the monotonic clock."""
        with self._lock:
            return self._answered.get(server, 0.0) > when

    def failed(self, server: str) -> None:
        """Notes a failed attempt."""
        with self._lock:
            first = server not in self._under_way
            self._under_way.setdefault(server, _Outage(time.monotonic()))
        if first:
            log_event("retry", f"{server} failed to answer; calls are retried", server=server)

    def pause(self, quota: str, seconds: float, *, tell: bool = True) -> None:
        """Holds back the calls to a model of a server for some seconds, if rate limits do so."""
        if self.paces and seconds > 0:
            self._pauses.add(quota, seconds)
            if tell:
                self.on_pause(quota, seconds)

    def hold(self, quota: str, look: Callable[[], None]) -> None:
        """Waits while the calls to a model are held back; `look` as for `wait`."""
        while left := self._pauses.left(quota):
            look()
            time.sleep(min(left, _LOOK))

    def wait(self, server: str, reason: str, hint: float, look: Callable[[], None]) -> bool:
        """Waits until a call whose retries have run out may be made again; returns whether it may.

        One call at a time finds out whether the server is back, so that an outage costs few of the calls of a cap.

        Args:
            server: Which one.
            reason: What its failure was, for the notice.
            hint: The seconds of waiting that it asked for.
            look: Called about once a second; raises if the run may not continue.
        """
        with self._lock:
            outage = self._under_way.get(server)
            if outage is None:
                return True
            if not (self.known or server in self._answered) or time.monotonic() >= outage.since + self.longest:
                return False
            first = outage.turn is None
            outage.turn = max(outage.turn or time.monotonic() + outage.delay, time.monotonic() + hint)
        if first:
            log_event("outage", f"{server} has stopped answering", server=server, waiting=self.longest)
            notice(
                f"{server} has stopped answering; waiting up to max_outage={self.longest:g} seconds for it: "
                f"{reason.partition(chr(10))[0][:_SHOWN]}",
                option="max_outage",
            )
        while True:
            look()
            with self._lock:
                if self._under_way.get(server) is not outage:
                    return True
                if (may := self._turn(outage)) is not None:
                    return may
                assert outage.turn is not None
                self._changed.wait(
                    min(_LOOK, max(0.0, min(outage.turn, outage.since + self.longest) - time.monotonic()))
                )

    def _turn(self, outage: _Outage) -> bool | None:
        """Whether it is the caller's turn to make a request; None if it has to wait longer, False if the time is over.

        The last request is made as the time ends.
        """
        now, end = time.monotonic(), outage.since + self.longest
        assert outage.turn is not None
        if now < min(outage.turn, end):
            return None
        if outage.turn == float("inf"):
            return False
        outage.turn = now + outage.delay if now < end else float("inf")
        outage.delay = min(2 * outage.delay, _LONGEST_DELAY)
        return True
