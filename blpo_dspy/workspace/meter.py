"""The meter that every LM call of a run passes: counted, bounded, remembered, retried.

DSPy owns the cache, the request and the engine; its own retry loop has no hook, so a run that must count every attempt
and stop at a cap repeats failed attempts here, by DSPy's classification of errors and its waiting times.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import dspy
from dspy.utils.exceptions import LMError, LMRateLimitError

from blpo_dspy.errors import notice
from blpo_dspy.models.failures import FATAL_ERRORS
from blpo_dspy.models.prices import Prices, checked_prices, own_price
from blpo_dspy.workspace.answers import Answer, Request
from blpo_dspy.workspace.bounds import Engines, Gate, longest_call, within
from blpo_dspy.workspace.failures import RunStoppedError, UnreadableAnswerError, is_outage, is_unreadable
from blpo_dspy.workspace.idempotency import attempt_at
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import ROLES, Ledger, Usage
from blpo_dspy.workspace.metered_lm import metered_copy
from blpo_dspy.workspace.outages import Outages
from blpo_dspy.workspace.workspace import current_workspace

# Seconds until it is asked again whether another process has an answer.
_ELSEWHERE = 0.05

# Seconds that calls under way get to end when a run is cut short.
GRACE = 10.0

# The longest that a run waits before a retry, in seconds, whatever the provider asks for; a longer wait than the second
# is reported, as it looks like a halt.
_LONGEST_WAIT, _NOTICED_WAIT = 300.0, 60.0

# While a run waits before a retry it checks this often, in seconds, whether it may continue.
_LOOK = 1.0


_observed: ContextVar[list[Answer] | None] = ContextVar("blpo_observed_answers", default=None)


@contextlib.contextmanager
def observe_answers() -> Iterator[list[Answer]]:
    """Yields a list that receives the answer to every metered call made inside the block, in this thread."""
    answers: list[Answer] = []
    token = _observed.set(answers)
    try:
        yield answers
    finally:
        _observed.reset(token)


_ahead: ContextVar[bool] = ContextVar("blpo_asking_ahead", default=False)


@contextlib.contextmanager
def asking_ahead() -> Iterator[None]:
    """Makes requests inside the block in the name of the next equal ones, which are not counted."""
    token = _ahead.set(True)
    try:
        yield
    finally:
        _ahead.reset(token)


class Meter:
    """Counts, bounds and remembers the LM calls of one run.

    An equal request of the same role is answered, or refused, once per run, whatever the user's cache settings and the
    number of threads: later ones take the remembered answer, and wait for one that is under way.

    Args:
        num_threads: The most calls under way at once, over all roles and nested steps.
        job: Where answers are kept; in memory unless given.
        admit: Called with the ledger before every attempt; raises `RunStoppedError` to refuse it.
        prices: What tokens cost where DSPy's tables lack it or have it wrong; the workspace's if None.
        deadline: When the time of the run is over, by the monotonic clock: a little later calls under way are given up.
        outages: How long to wait for a server that has stopped answering, where an LM's calls are retried at all; as
            the workspace says if None.

    Attributes:
        fatal: The error that ended the run for good, if there was one.
        failure: The last error of an attempt, if there was one.
    """

    # What requests go through instead of a connection to the server.
    _wire: Any = None

    def __init__(
        self,
        *,
        num_threads: int,
        job: Job | None = None,
        admit: Callable[[Ledger], None] = lambda ledger: None,
        prices: Prices | None = None,
        deadline: float | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._deadline = deadline
        workspace = current_workspace()
        self._outages = Outages(workspace.max_outage) if outages is None else outages
        self._job = Job.in_memory() if job is None else job
        self._prices = workspace.prices if prices is None else checked_prices(prices)
        self._admit = admit
        self._gate = Gate(num_threads)
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Answer]] = {}
        self._usage = self._job.failed()
        self._answered: dict[str, set[str]] = {role: set() for role in ROLES}
        self._asked_ahead: set[str] = set()
        # Another run that sends the same requests means to ask again; so does a request whose answer can't be read, by
        # the number of such answers: the one that a provider remembers would be the same.
        self._run, self._unreadable = uuid.uuid4().hex, Counter[str]()
        self._refused = Ledger({})
        self._refusals: dict[str, LMError] = {}
        self._waited = False
        self._stopped = threading.Event()
        self.fatal: LMError | None = None
        self.failure: LMError | None = None

    def wrap(self, lm: dspy.BaseLM, role: str) -> dspy.BaseLM:
        """Returns a copy of the LM whose calls pass this meter; the user's LM is left as it is."""
        metered: dspy.BaseLM = metered_copy(lm)
        metered._ask, metered._role, metered._retries = self.call, role, getattr(lm, "num_retries", 0)
        metered._price = own_price(lm, self._prices)
        metered._server = str(lm.kwargs.get("api_base") or lm.model.partition("/")[0])
        metered._seconds, metered._engine_store = longest_call(lm), Engines(self._wire)
        return metered

    @property
    def ledger(self) -> Ledger:
        """The usage so far."""
        with self._lock:
            answered = {role: len(keys) for role, keys in self._answered.items()}
            return Ledger(dict(self._usage), answered)

    @property
    def under_way(self) -> int:
        """How many calls wait for their answer; for `admit`, besides the one that it is asked about."""
        return max(0, self._gate.taken - 1)

    @property
    def unused(self) -> Ledger:
        """The usage of answers that were paid for earlier and not used so far; see `Job`."""
        return self._job.unused() + self._refused

    def stop(self) -> None:
        """Refuses every further call and ends the waiting before retries."""
        self._stopped.set()

    def settle(self, seconds: float) -> bool:
        """Waits until no call is under way, so that the ledger is complete; returns whether that came in time."""
        return self._gate.settle(seconds)

    def call(self, request: Request) -> Answer:
        """Returns the answer to a request, from memory where there is one."""
        role, key = request.role, request.key
        with self._lock:
            counts = _ahead.get() or key not in self._asked_ahead
            (self._asked_ahead.add if _ahead.get() else self._asked_ahead.discard)(key)
            known = self._job.get(key)
            if known is not None and known[1].calls:
                # An answer that another session paid for counts against the cap of this run like a call.
                try:
                    self._admit(Ledger(self._usage))
                except BaseException:
                    self._refused += Ledger({role: known[1]})
                    raise
            if known is not None and counts:
                self._count(role, known[1])
                self._answered[role].add(key)
            pending, refusal = self._under_way.get(key), self._refusals.get(key)
            if refusal is not None:
                raise refusal.with_traceback(None)
            if known is None and pending is None:
                mine = self._under_way[key] = Future()
        if known is not None:
            return self._seen(known[0])
        if pending is not None:
            answer = pending.result()
            self._add(role, Usage(cached=int(counts)))
            return self._seen(answer)
        try:
            answer = self._ask(request)
            with self._lock:
                self._answered[role].add(key)
            mine.set_result(answer)
        except BaseException as error:
            if isinstance(error, LMError) and not is_outage(error):
                self._refusals[key] = error
            mine.set_exception(error)
            self._asked_ahead.discard(key)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
        return self._seen(answer)

    def _ask(self, request: Request) -> Answer:
        number, failed, repeated = 0, time.monotonic(), 0
        while True:
            self._check()
            self._outages.hold(request.quota, self._look)
            try:
                return self._attempted(request, Usage(calls=1, retries=repeated))
            except LMError as error:
                if isinstance(error, FATAL_ERRORS):
                    self.fatal = error
                if not is_outage(error):
                    raise
                before, failed = failed, time.monotonic()
                self._outages.failed(request.server)
                if isinstance(error, LMRateLimitError):
                    self._outages.pause(request.quota, min(_hint(error) or 0.0, _LONGEST_WAIT))
                if number < request.retries:
                    self._wait(self._delay(error, number))
                elif not request.retries or not self._waited_out(request, error, number, before):
                    raise
                elif self._outages.answered_since(request.server, failed):
                    number = -1  # it is back: what fails now is retried like the first time
            number, repeated = number + 1, 1

    def _attempted(self, request: Request, sent: Usage) -> Answer:
        """The answer to an attempt, or that which another process waits for."""
        while True:
            with self._gate.slot():
                answer = self._attempt(request, sent)
            if answer is not None:
                return answer
            self._stopped.wait(_ELSEWHERE)
            self._job.store.bury()

    def _waited_out(self, request: Request, error: LMError, number: int, before: float) -> bool:
        """Waits after the last retry while the server is away; returns whether to ask again.

        It isn't away where others had answers since the failure before: then it is this request that fails.
        """
        if number == request.retries and self._outages.answered_since(request.server, before):
            return False
        return self._outages.wait(request.server, str(error), _hint(error) or 0.0, self._look)

    def _look(self) -> None:
        self._check()
        self._admit(self.ledger)

    def _check(self) -> None:
        if self.fatal is not None:
            raise self.fatal.with_traceback(None)  # which would grow with every thread that raises it
        if self._stopped.is_set():
            raise RunStoppedError("the run was stopped")

    def _delay(self, error: LMError, attempt: int) -> float:
        """Seconds before the next attempt: the provider's hint within reason, or DSPy's own backoff."""
        hint = _hint(error)
        if hint is None:
            return float(min(2**attempt, 60))
        if hint > _NOTICED_WAIT and not self._waited:
            self._waited = True
            shorter = f", which is cut to {_LONGEST_WAIT:.0f}" if hint > _LONGEST_WAIT else ""
            notice(f"the provider asks to wait {hint:.0f} s before the next call{shorter}: {error.message}")
        return min(float(hint), _LONGEST_WAIT)

    def _wait(self, seconds: float) -> None:
        """Waits before a retry, unless the run is stopped or out of budget."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped.wait(min(left, _LOOK)):
            self._admit(self.ledger)

    def _attempt(self, request: Request, sent: Usage) -> Answer | None:
        """Makes one attempt; it counts as a call from before it is sent, so that threads can't overrun a cap.

        None while another process waits for the answer to the request.
        """
        role, key = request.role, request.key
        with self._lock:
            self._check()
            self._admit(Ledger(self._usage) + self.unused)
            if not self._job.reserve(key, role, request.model):
                known = self._job.get(key)
                if known is not None:
                    self._count(role, known[1])
                return None if known is None else known[0]
            self._count(role, sent)
        began = time.monotonic()
        try:
            with attempt_at(self._run, request.key, self._unreadable[request.key]):
                answer = self._in_time(request)
        except BaseException as error:
            failure = Usage(failed=1, seconds=time.monotonic() - began)
            if isinstance(error, UnreadableAnswerError):
                failure += error.usage
            if isinstance(error, LMError):
                self.failure = error
                self._unreadable[request.key] += is_unreadable(error)
            self._add(role, failure)
            self._job.put_failed(key, role, sent + failure, request.model)
            raise
        if answer.usage.cached:
            self._add(role, Usage(calls=-1, retries=-sent.retries, cached=1))
            self._job.put(key, role, answer, request.model)
            return answer
        self._outages.answered(request.server)
        usage = answer.usage + Usage(seconds=time.monotonic() - began)
        self._add(role, usage)
        answer = replace(answer, usage=sent + usage)
        self._job.put(key, role, answer, request.model)
        return answer

    def _in_time(self, request: Request) -> Answer:
        """The answer to an attempt, within its own time and that of the run."""
        left = None if self._deadline is None else self._deadline + GRACE - time.monotonic()
        if (left is None and request.seconds is None) or dspy.settings.send_stream is not None:
            return request.attempt()  # DSPy streams only from the threads of AnyIO
        if left is not None and (request.seconds is None or left < request.seconds):
            over = "the time of the run was over before the model answered"
            return within(left, request.attempt, lambda: RunStoppedError(over))
        assert request.seconds is not None
        return within(request.seconds, request.attempt, request.too_late)

    def _add(self, role: str, usage: Usage) -> None:
        with self._lock:
            self._count(role, usage)

    def _count(self, role: str, usage: Usage) -> None:
        self._usage[role] = self._usage[role] + usage if role in self._usage else usage

    @staticmethod
    def _seen(answer: Answer) -> Answer:
        observed = _observed.get()
        if observed is not None:
            observed.append(answer)
        return answer


def _hint(error: LMError) -> float | None:
    """Seconds that a provider asked to wait."""
    hint = getattr(error, "retry_after", None)
    return float(hint) if isinstance(hint, (int, float)) and hint >= 0 else None
