"""The one gate that every LM call of a run passes: counted, bounded, remembered, retried.

DSPy owns the cache, the request and the engine; its own retry loop has no hook, so a run that must count every attempt
and stop at a cap repeats failed attempts here, by DSPy's classification of errors and its waiting times.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import dspy
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.utils.exceptions import (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMProviderError,
    LMTimeoutError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
from dspy.utils.usage_tracker import UsageTracker

from blpo_dspy.bounds import LARGEST_ANSWER, TOO_LARGE, Engines, longest_call, within
from blpo_dspy.credentials import CREDENTIAL_ERRORS, secrets_of, told, without_secrets
from blpo_dspy.errors import BlpoError, notice
from blpo_dspy.gate import Gate, Turn, in_background
from blpo_dspy.ledger import ROLES, Ledger, Usage
from blpo_dspy.outages import Outages
from blpo_dspy.prices import Price, Prices, checked_prices, cost, own_price

R = TypeVar("R")

# `n` is always one: several answers are several requests.
_NOT_PART_OF_A_REQUEST = CLIENT_KEYS | {"cache", "num_retries", "n"}

# Errors that no further call of the run could mend: the first one ends it.
FATAL_ERRORS = (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)


# Seconds that calls under way get to end when a run is cut short.
GRACE = 10.0

# The longest that a run waits before a retry, in seconds, whatever the provider asks for; a longer wait than the second
# is told, as it looks like a halt.
_LONGEST_WAIT, _NOTICED_WAIT = 300.0, 60.0

# While a run waits before a retry it looks this often, in seconds, whether it may go on at all.
_LOOK = 1.0


class UnreadableAnswerError(LMProviderError):
    """An answer that holds nothing of what an answer holds.

    Attributes:
        usage: What the provider charged for it all the same.
    """

    def __init__(self, message: str, *, model: str, usage: Usage | None = None) -> None:
        super().__init__(message, model=model)
        self.usage = Usage() if usage is None else usage


def is_outage(error: LMError) -> bool:
    """Whether a failure may pass: what DSPy repeats, and an HTTP answer that can't be read (a gateway's page, say)."""
    unreadable = type(error) in (LMProviderError, UnreadableAnswerError) and (error.status or 200) < 300
    return unreadable or dspy.is_retryable_lm_error(error)


def once_more(ask: Callable[[], R]) -> R:
    """Returns what a function that calls an LM returns, called a second time where an outage outlasted the retries."""
    try:
        return ask()
    except LMError as error:
        if not is_outage(error):
            raise
    return ask()


class RunStoppedError(BlpoError):
    """The run was stopped (a cap, or the user) before this call; nothing was sent."""


@dataclass
class CallCap:
    """The most LM calls of a meter, as its `admit`.

    Attributes:
        calls: How many; None for no cap.
    """

    calls: int | None

    def __call__(self, ledger: Ledger) -> None:
        """Refuses a call that the cap doesn't pay for."""
        if self.calls is not None and ledger.total.calls >= self.calls:
            raise RunStoppedError("the cap on LM calls is reached")


@dataclass(frozen=True)
class Answer:
    """What an LM answered to one request.

    Attributes:
        outputs: One entry per completion, as DSPy's adapters take them (text, or a dict with "text").
        finish_reason: The provider's reason for ending, "length" when the token limit cut the answer off.
        usage: What the answer came to; the failed attempts before it are not part of it.
    """

    outputs: tuple[Any, ...]
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut the answer off."""
        return self.finish_reason in ("length", "max_tokens")

    @property
    def size(self) -> int:
        """Characters of its texts."""
        texts = (output.get("text") if isinstance(output, dict) else output for output in self.outputs)
        return sum(len(text) for text in texts if isinstance(text, str))

    @property
    def empty(self) -> bool:
        """Whether nobody answered: no text, no token spent on one, and no reason such as a filter's."""
        said = any(any(output.values()) if isinstance(output, dict) else output for output in self.outputs)
        return not said and not self.usage.completion_tokens and self.finish_reason in (None, "stop")


@dataclass(frozen=True)
class Request:
    """A request as it passes the meter.

    Attributes:
        role: Whose call it is.
        key: What tells it from other requests.
        attempt: Sends it once.
        model: The model's name.
        server: Who answers it.
        retries: How often it is repeated where it fails for a reason that may pass.
        seconds: The most that an attempt may take as a whole; None for no such bound.
    """

    role: str
    key: str
    attempt: Callable[[], Answer]
    model: str
    server: str
    retries: int
    seconds: float | None

    def too_late(self) -> LMTimeoutError:
        """Returns the error for an attempt that takes longer."""
        return LMTimeoutError(f"no complete answer within {self.seconds:g} s (timeout)", model=self.model)


class AnswerStore(Protocol):
    """Where the answers of a run are remembered, by request."""

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an equal request and what taking it adds to the ledger, or None."""

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Remembers an answer before anyone uses it."""

    def put_failed(self, role: str, usage: Usage) -> None:
        """Remembers that an attempt failed, and what it came to."""

    def failed(self) -> dict[str, Usage]:
        """Returns by role what the failed attempts of earlier sessions came to."""

    def unused(self) -> Ledger:
        """Returns what was paid for before, is of no use so far and counts against the cap all the same."""


class MemoryStore:
    """Answers kept in memory for the length of a run."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}

    def get(self, key: str) -> tuple[Answer, Usage] | None:
        """Returns the answer to an earlier equal request, which costs nothing, or None."""
        answer = self._answers.get(key)
        return None if answer is None else (answer, Usage(cached=1))

    def put(self, key: str, role: str, answer: Answer) -> None:
        """Remembers an answer."""
        self._answers[key] = answer

    def put_failed(self, role: str, usage: Usage) -> None:
        """Does nothing: there is no later session."""

    def failed(self) -> dict[str, Usage]:
        """Returns nothing: there was no earlier session."""
        return {}

    def unused(self) -> Ledger:
        """Returns nothing, for the same reason."""
        return Ledger({})


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


class Meter:
    """Counts, bounds and remembers the LM calls of one run.

    An equal request of the same role is answered, or refused, once per run, whatever the user's cache settings and the
    number of threads: later ones take the remembered answer, and one that is under way is waited for.

    Args:
        num_threads: The most calls under way at once, over all roles and nested steps.
        store: Where answers are remembered; in memory unless given.
        admit: Called with the ledger before every attempt; raises `RunStoppedError` to refuse it.
        demand: Returns how many tasks of the search are under way or waiting (see `Gate`).
        prices: What tokens cost where DSPy's tables don't say it, or say it wrongly.
        deadline: When the time of the run is over, by the monotonic clock: a little later calls under way are given up.
        outages: How long a server that has stopped answering is waited for, where an LM's calls are retried at all.
    """

    def __init__(
        self,
        *,
        num_threads: int,
        store: AnswerStore | None = None,
        admit: Callable[[Ledger], None] = lambda ledger: None,
        demand: Callable[[], int] = lambda: 0,
        prices: Prices | None = None,
        deadline: float | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._deadline = deadline
        self._outages = Outages() if outages is None else outages
        self._store: AnswerStore = MemoryStore() if store is None else store
        self._prices = checked_prices(prices)
        self._admit = admit
        self._gate = Gate(num_threads, demand)
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[Future[Answer], Turn]] = {}
        self._usage = self._store.failed()
        self._background = 0
        self._answered: dict[str, set[str]] = {role: set() for role in ROLES}
        self._refused = Ledger({})
        self._refusals: dict[str, LMError] = {}
        self._waited = False
        self._stopped = threading.Event()
        self._fatal: LMError | None = None
        self._failure: LMError | None = None

    def wrap(self, lm: dspy.BaseLM, role: str) -> dspy.BaseLM:
        """Returns a copy of the LM whose calls pass this meter; the user's LM is left as it is."""
        metered = lm.copy(num_retries=0)
        metered.__class__ = _metered_class(type(lm))  # type: ignore[arg-type]
        metered._meter, metered._role, metered._retries = self, role, getattr(lm, "num_retries", 0)
        metered._price = own_price(lm, self._prices)
        metered._server = str(lm.kwargs.get("api_base") or lm.model.partition("/")[0])
        metered._seconds, metered._engine_store = longest_call(lm), Engines()
        return metered

    @property
    def ledger(self) -> Ledger:
        """The usage so far."""
        with self._lock:
            answered = {role: len(keys) for role, keys in self._answered.items()}
            return Ledger(dict(self._usage), self._background, answered)

    @property
    def unused(self) -> Ledger:
        """What was paid for before and is of no use so far; see `AnswerStore`."""
        return self._store.unused() + self._refused

    @property
    def fatal(self) -> LMError | None:
        """The error that ended the run for good, if there was one."""
        return self._fatal

    @property
    def failure(self) -> LMError | None:
        """The last error of an attempt, if there was one."""
        return self._failure

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
            known = self._store.get(key)
            if known is not None and known[1].calls:
                # An answer that another session paid for counts against the cap of this run like a call.
                try:
                    self._admit(Ledger(self._usage, self._background))
                except BaseException:
                    self._refused += Ledger({role: known[1]})
                    raise
            if known is not None:
                self._count(role, known[1])
                self._answered[role].add(key)
            pending, refusal = self._under_way.get(key), self._refusals.get(key)
            if refusal is not None:
                raise refusal.with_traceback(None)
            if known is None and pending is None:
                mine, turn = self._under_way[key] = (Future(), Turn())
        if known is not None:
            return self._seen(known[0])
        if pending is not None:
            self._gate.bring_forward(pending[1])
            answer = pending[0].result()
            self._add(role, Usage(cached=1))
            return self._seen(answer)
        try:
            answer = self._ask(request, turn)
            self._store.put(key, role, answer)
            with self._lock:
                self._answered[role].add(key)
            mine.set_result(answer)
        except BaseException as error:
            if isinstance(error, LMError) and not is_outage(error):
                self._refusals[key] = error
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
        return self._seen(answer)

    def _ask(self, request: Request, turn: Turn) -> Answer:
        number, failed, repeated = 0, time.monotonic(), 0
        while True:
            self._check()
            try:
                with self._gate.slot(turn):
                    return self._attempt(request, Usage(calls=1, retries=repeated))
            except LMError as error:
                if isinstance(error, FATAL_ERRORS):
                    self._fatal = error
                if not is_outage(error):
                    raise
                before, failed = failed, time.monotonic()
                self._outages.failed(request.server)
                if number < request.retries:
                    self._wait(self._delay(error, number))
                elif not request.retries or not self._waited_out(request, error, number, before):
                    raise
                elif self._outages.answered_since(request.server, failed):
                    number = -1  # it is back: what fails now is retried like the first time
            number, repeated = number + 1, 1

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
        if self._fatal is not None:
            raise self._fatal.with_traceback(None)  # or it would tell of every thread that met it
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
        """Waits before a retry, unless the run may not go on."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped.wait(min(left, _LOOK)):
            self._admit(self.ledger)

    def _attempt(self, request: Request, sent: Usage) -> Answer:
        """Makes one attempt; it counts as a call from before it is sent, so that threads can't overrun a cap."""
        role = request.role
        with self._lock:
            self._check()
            self._admit(Ledger(self._usage, self._background) + self.unused)
            self._count(role, sent)
        began = time.monotonic()
        try:
            answer = self._in_time(request)
        except BaseException as error:
            failure = Usage(failed=1, seconds=time.monotonic() - began)
            if isinstance(error, UnreadableAnswerError):
                failure += error.usage
            if isinstance(error, LMError):
                self._failure = error
            self._add(role, failure)
            self._store.put_failed(role, sent + failure)
            raise
        if answer.usage.cached:
            self._add(role, Usage(calls=-1, retries=-sent.retries, cached=1))
            return answer
        self._outages.answered(request.server)
        usage = answer.usage + Usage(seconds=time.monotonic() - began)
        self._add(role, usage)
        return replace(answer, usage=sent + usage)

    def _in_time(self, request: Request) -> Answer:
        """What an attempt comes to, within its own time and that of the run."""
        left = None if self._deadline is None else self._deadline + GRACE - time.monotonic()
        if (left is None and request.seconds is None) or dspy.settings.send_stream is not None:
            return request.attempt()  # DSPy streams only from the threads of AnyIO
        if left is not None and (request.seconds is None or left < request.seconds):
            return within(left, request.attempt, _out_of_time)
        assert request.seconds is not None
        return within(request.seconds, request.attempt, request.too_late)

    def _add(self, role: str, usage: Usage) -> None:
        with self._lock:
            self._count(role, usage)

    def _count(self, role: str, usage: Usage) -> None:
        self._usage[role] = self._usage.get(role, Usage()) + usage
        self._background += usage.calls * in_background()

    @staticmethod
    def _seen(answer: Answer) -> Answer:
        observed = _observed.get()
        if observed is not None:
            observed.append(answer)
        return answer


def _out_of_time() -> RunStoppedError:
    return RunStoppedError("the time of the run was over before the model answered")


def _hint(error: LMError) -> float | None:
    """Seconds that a provider asked to wait."""
    hint = getattr(error, "retry_after", None)
    return float(hint) if isinstance(hint, (int, float)) and hint >= 0 else None


class _Billed(UsageTracker):
    """Learns whether DSPy billed a call; it reports usage for every call but those its cache answered."""

    def __init__(self, outer: UsageTracker | None) -> None:
        super().__init__()
        self.billed = False
        self._outer = outer

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        self.billed = True
        if self._outer is not None:
            self._outer.add_usage(lm, usage_entry)


class _MeteredMixin:
    """The LM's own class, with every call passed through a meter."""

    model: str
    _meter: Meter
    _role: str
    _retries: int
    _price: Price | None
    _server: str
    _seconds: float | None
    _entry: ContextVar[dict[str, Any] | None] = ContextVar("blpo_history_entry", default=None)

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        count = kwargs.pop("n", None) or self.kwargs.get("n") or 1  # type: ignore[attr-defined]
        if isinstance(prompt, dspy.lm15.Request) or "request" in kwargs:
            raise TypeError("a metered LM takes a prompt or an adapter's messages, not a lm15.Request")
        rollout = {**self.kwargs, **kwargs}.get("rollout_id") or 0  # type: ignore[attr-defined]
        outputs: list[Any] = []
        for sample in range(count):
            # Equal requests would be answered alike: DSPy's rollout id tells the samples of one request apart.
            apart = {"rollout_id": 1_000_003 * sample + rollout} if sample else {}
            apart |= self._sampling(kwargs, 1_000_003 * sample + rollout)
            options = {**kwargs, **apart, **({"n": 1} if "n" in self.kwargs else {})}  # type: ignore[attr-defined]
            key = _request_key(self._role, self, prompt, messages, options)
            attempt = functools.partial(self._attempt, prompt, messages, options)
            request = Request(self._role, key, attempt, self.model, self._server, self._retries, self._seconds)
            outputs += self._meter.call(request).outputs
        return outputs

    def _sampling(self, kwargs: dict[str, Any], rollout: int) -> dict[str, int]:
        """The seed of a further sample, for an engine of one's own only.

        Rollout ids end before the engine, so one that is deterministic would answer every sample alike; providers draw
        by themselves, and some refuse a seed.
        """
        options = {**self.kwargs, **kwargs}  # type: ignore[attr-defined]
        own = not isinstance(getattr(self, "engine", "auto"), str)
        if not own or not rollout or options.get("temperature") == 0:
            return {}
        return {"seed": (options.get("seed") or 0) + rollout}

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        # asyncify and not asyncio.to_thread: DSPy streams only from the threads of AnyIO.
        return await dspy.asyncify(self)(prompt, messages=messages, **kwargs)

    def _attempt(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Answer:
        answer = self._asked(prompt, messages, options)
        if answer.empty and answer.usage.cached:  # DSPy's cache keeps what a server once failed to say
            answer = self._asked(prompt, messages, {**options, "cache": False})
        if answer.empty:
            charged = answer.usage if answer.usage.tokens else None
            raise UnreadableAnswerError("the server's answer is empty", model=self.model, usage=charged)
        if answer.size > LARGEST_ANSWER:
            raise UnreadableAnswerError(TOO_LARGE, model=self.model, usage=answer.usage)
        return answer

    def _asked(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Answer:
        """The answer of DSPy; what a server wrote into an error is shown without keys."""
        try:
            return self._sent(prompt, messages, options)
        except LMError as error:
            without_secrets(error, secrets_of(self.kwargs))  # type: ignore[attr-defined]
            raise

    def _sent(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Answer:
        tracker = _Billed(dspy.settings.usage_tracker)
        token = self._entry.set(None)
        try:
            # DSPy tells price, usage and finish reason in the history entry only: update_history keeps it from any
            # list.
            with dspy.context(disable_history=False, usage_tracker=tracker):
                outputs = super().__call__(prompt, messages=messages, **options)  # type: ignore[misc]
            entry = self._entry.get()
        except CREDENTIAL_ERRORS as error:
            error.args = (told(error, self.model),)
            raise
        except LMUnexpectedError as error:
            if not _arrived(error):
                raise
            raise UnreadableAnswerError(
                f"the server's answer cannot be read: {error.message}", model=self.model
            ) from error
        finally:
            self._entry.reset(token)
        if entry is None:  # an LM with a `__call__` of its own tells nothing, and has no cache
            return Answer(tuple(outputs), usage=Usage(unpriced=1, untold=1, images=_images(messages)))
        usage = _usage(entry, self._price, _images(messages)) if tracker.billed else Usage(cached=1)
        return Answer(tuple(outputs), _finish_reason(entry.get("response")), usage)

    def update_history(self, entry: dict[str, Any]) -> None:
        self._entry.set(entry)

    def __deepcopy__(self, memo: dict[int, Any]) -> _MeteredMixin:
        return self


@functools.cache
def _metered_class(cls: type) -> type:
    return type(f"Metered{cls.__name__}", (_MeteredMixin, cls), {})


def _arrived(error: LMUnexpectedError) -> bool:
    """Whether an error that DSPy didn't expect came up as it read an answer, JSON of another shape, say."""
    cause = error.__cause__
    frames = () if cause is None else traceback.walk_tb(cause.__traceback__)
    return any(frame.f_code.co_name == "parse_response" for frame, _ in frames)


def _request_key(role: str, lm: Any, prompt: Any, messages: Any, options: dict[str, Any]) -> str:
    request = {**lm.kwargs, **options}
    request = {k: v for k, v in request.items() if v is not None and k not in _NOT_PART_OF_A_REQUEST}
    payload = [role, lm.model, lm.model_type, prompt, messages, request]
    return hashlib.sha256(json.dumps(payload, sort_keys=True, default=repr).encode()).hexdigest()


def _finish_reason(response: Any) -> str | None:
    """The first finish reason that differs from an ordinary stop, over DSPy's two kinds of response."""
    if response is None:
        return None
    parts: Sequence[Any] = getattr(response, "choices", None) or (
        response if isinstance(response, (list, tuple)) else (response,)
    )
    reasons = [str(reason) for part in parts if (reason := getattr(part, "finish_reason", None)) is not None]
    return next((reason for reason in reasons if reason != "stop"), reasons[0] if reasons else None)


def _images(messages: Any) -> int:
    """How many images the messages of an adapter hold."""
    contents = [message.get("content") for message in messages or () if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts)


def _usage(entry: dict[str, Any], price: Price | None, images: int) -> Usage:
    usage = entry.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    details = details if isinstance(details, dict) else getattr(details, "__dict__", {})
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    untold = not (prompt or completion)
    usd = entry.get("cost") if price is None else None if untold and any(price) else cost(price, prompt, completion)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        image_tokens=details.get("image_tokens") or 0,
        usd=usd or 0.0,
        unpriced=int(usd is None),
        images=images,
        untold=int(untold),
    )
