"""A meter whose calls are answered through batches: their requests are gathered, the answers taken in later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from blpo_dspy.models.batches import BatchEndpoint, check_batched, endpoint_at, endpoint_of
from blpo_dspy.models.prices import Price, Prices, batch_price
from blpo_dspy.models.seams import CLIENT_KEYS
from blpo_dspy.workspace.answers import Answer, Request
from blpo_dspy.workspace.exchange import Deferred, LiteLLMWire, Received, Sent, Wire, captured, replayed
from blpo_dspy.workspace.failures import RunStoppedError, UnreadableAnswerError
from blpo_dspy.workspace.job import Job
from blpo_dspy.workspace.ledger import Usage
from blpo_dspy.workspace.meter import Meter


@dataclass(frozen=True)
class Gathered:
    """A request that waits for a batch; its body is byte for byte that of a plain call."""

    key: str
    role: str
    body: bytes
    options: Mapping[str, Any]
    images: int


_gathering: ContextVar[list[Gathered] | None] = ContextVar("blpo_gathering", default=None)


class BatchMeter(Meter):
    """Counts and remembers calls as a `Meter` does; none is sent.

    Inside `gather` a request without an answer is recorded, and ends what is called there. Elsewhere it raises what
    its batch came back with, or `RunStoppedError` where it was in none.

    Args:
        job: Where answers are kept.
        prices: What tokens cost in single calls, where DSPy's tables lack it or have it wrong.
        share: The share of that price that a batch costs, where LiteLLM's table has no price for batches.

    Attributes:
        endpoints: The batch endpoint of each role.
        prices: What tokens cost, by role; None where it is not known.
        retries: How often a request is repeated where it fails for a reason that may pass, by role.
        failures: Requests that failed for good.
    """

    _wire = Wire()

    def __init__(self, *, job: Job, prices: Prices | None, share: float) -> None:
        super().__init__(num_threads=1, job=job, prices=prices)
        self._share = share
        self._lms: dict[str, Any] = {}
        self._counted: set[str] = set()
        self.endpoints: dict[str, BatchEndpoint] = {}
        self.prices: dict[str, Price | None] = {}
        self.retries: dict[str, int] = {}
        self.failures: dict[str, LMError] = {}

    def wrap(self, lm: dspy.BaseLM, role: str) -> dspy.BaseLM:
        """Returns a copy of the LM whose calls pass this meter; the first one of a role stands for all."""
        if role in self._lms:
            known: dspy.BaseLM = self._lms[role]
            return known
        metered: Any = super().wrap(lm, role)
        endpoint = None
        if check_batched(lm):
            sent = captured(partial(metered._attempt, "-", None, {"cache": False}))
            assert isinstance(sent, Sent)
            endpoint = endpoint_at(metered, sent.url, sent.headers)
        if endpoint is None:
            endpoint, name = endpoint_of(metered)
            owned = dict.fromkeys(CLIENT_KEYS & lm.kwargs.keys())  # DSPy refuses a connection beside an engine
            metered = super().wrap(lm.copy(**owned, engine=LiteLLMWire(name, lm.kwargs)), role)
        self.endpoints[role], self.retries[role] = endpoint, metered._retries
        metered._price = self.prices[role] = batch_price(lm, self._prices, self._share)
        self._lms[role] = metered
        wrapped: dspy.BaseLM = metered
        return wrapped

    def gather(self, run: Callable[[], object]) -> list[Gathered]:
        """Returns the requests without an answer that a function makes, up to the first that it needs to continue."""
        found: list[Gathered] = []
        token = _gathering.set(found)
        try:
            run()
        except Deferred:
            pass
        finally:
            _gathering.reset(token)
        return found

    def call(self, request: Request) -> Answer:
        """Returns the answer to a request, if there is one."""
        key, role = request.key, request.role
        with self._lock:
            known = self._job.get(key)
            if known is not None:
                if key not in self._counted:
                    self._counted.add(key)
                    self._count(role, known[1])
                self._answered[role].add(key)
        if known is not None:
            return self._seen(known[0])
        if key in self.failures:
            raise self.failures[key].with_traceback(None)
        gathering = _gathering.get()
        if gathering is None:
            raise RunStoppedError("the request was not submitted, as a cap was reached or the image was changed")
        found = captured(request.attempt)
        if isinstance(found, Sent):
            gathering.append(Gathered(key, role, found.body, request.options, request.images))
            raise Deferred
        self._keep(role, key, found)  # from DSPy's cache
        return self._seen(found)

    def take(
        self, role: str, key: str, received: Received, options: Mapping[str, Any], *, images: int, repeated: int
    ) -> LMError | None:
        """Takes in the answer to a request, read as that to a plain call; returns why it cannot be used, if so."""
        lm, sent = self._lms[role], Usage(calls=1, retries=int(repeated))
        try:
            answer: Answer = replayed(partial(lm._attempt, "-", None, {**options, "cache": False}), received)
        except LMError as error:
            usage = sent + Usage(failed=1)
            if isinstance(error, UnreadableAnswerError):
                usage += error.usage
            self._add(role, usage)
            self._job.put_failed(key, role, usage, lm.model)
            return error
        self._keep(role, key, replace(answer, usage=replace(sent + answer.usage, images=images)))
        return None

    def _keep(self, role: str, key: str, answer: Answer) -> None:
        self._job.put(key, role, answer, self._lms[role].model)
        with self._lock:
            self._counted.add(key)
            self._count(role, answer.usage)
            self._answered[role].add(key)
