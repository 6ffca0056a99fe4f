"""A user's LM, as a copy whose calls pass the meter."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import dspy
from dspy.utils.exceptions import LMInvalidRequestError, LMUnexpectedError

from blpo_dspy.errors import brief
from blpo_dspy.models.credentials import CREDENTIAL_ERRORS, described, fit_to_show
from blpo_dspy.models.failures import no_such_model
from blpo_dspy.models.lm import rollout_seed
from blpo_dspy.models.logprobs import plain_logprobs
from blpo_dspy.models.prices import Price, cost
from blpo_dspy.models.seams import CLIENT_KEYS, UsageTracker, extend, known_prices
from blpo_dspy.models.splicing import SplicingMixin, filling_of
from blpo_dspy.workspace.answers import Answer, Request
from blpo_dspy.workspace.bounds import LARGEST_ANSWER, RECEIVED, TOO_LARGE
from blpo_dspy.workspace.failures import UnreadableAnswerError
from blpo_dspy.workspace.ledger import Usage

# `n` is always one: several answers are several requests.
_NOT_PART_OF_A_REQUEST = CLIENT_KEYS | {"cache", "num_retries", "n"}
_LONGEST_NAME = 100
_NOT_FOUND = 404


class _Billed(UsageTracker):
    """Notes whether DSPy billed a call; it reports usage for every call that its cache didn't answer."""

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
    _ask: Callable[[Request], Answer]  # the meter, which sends a request only if no equal one was answered
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
            # Equal requests would be answered alike: DSPy's rollout id distinguishes the samples of one request.
            apart = {"rollout_id": 1_000_003 * sample + rollout} if sample else {}
            apart |= self._sampling(kwargs, 1_000_003 * sample + rollout)
            options = {**kwargs, **apart, **({"n": 1} if "n" in self.kwargs else {})}  # type: ignore[attr-defined]
            key = _request_key(self._role, self, prompt, messages, options)
            attempt = functools.partial(self._attempt, prompt, messages, options)
            at = (self.model, self._server, self._retries, self._seconds)
            request = Request(self._role, key, attempt, *at, options, _images(messages))
            answer = self._ask(request)
            outputs += answer.outputs
        return outputs

    def _sampling(self, kwargs: dict[str, Any], rollout: int) -> dict[str, int]:
        """The seed of a further sample; that of a rollout which the call states stands."""
        options = {**self.kwargs, **kwargs}  # type: ignore[attr-defined]
        if not rollout or options.get("temperature") == 0:
            return {}
        seed, given = rollout_seed(self, rollout), kwargs.get("seed")
        if not seed or given is None:
            return seed
        return {} if given == seed["seed"] else {"seed": given + rollout}

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
        with fit_to_show(self):
            return self._sent(prompt, messages, options)

    def _sent(self, prompt: Any, messages: Any, options: dict[str, Any]) -> Answer:
        tracker = _Billed(dspy.settings.usage_tracker)
        token = self._entry.set(None)
        RECEIVED.set(False)
        try:
            # DSPy reports price, usage and finish reason in the history entry only: update_history keeps it from any
            # list.
            with dspy.context(disable_history=False, usage_tracker=tracker), known_prices():
                outputs = [plain_logprobs(o) for o in super().__call__(prompt, messages=messages, **options)]  # type: ignore[misc]
            entry = self._entry.get()
        except CREDENTIAL_ERRORS as error:
            error.args = (described(error, self.model),)
            raise
        except LMInvalidRequestError as error:
            if error.status != _NOT_FOUND:
                raise
            raise no_such_model(error, self.model) from error
        except LMUnexpectedError as error:
            if not RECEIVED.get():  # else DSPy failed to read it: JSON of another shape, say
                raise
            raise UnreadableAnswerError(
                f"the server's answer cannot be read: {error.message}", model=self.model
            ) from error
        finally:
            self._entry.reset(token)
        if entry is None:  # an LM with a `__call__` of its own reports no usage, and has no cache
            return Answer(tuple(outputs), usage=Usage(unpriced=1, uncounted=1, images=_images(messages)))
        usage = _usage(entry, self._price, _images(messages)) if tracker.billed else Usage(cached=1)
        served = served_in(entry, self.model)
        return Answer(tuple(outputs), _finish_reason(entry.get("response")), usage, served)

    def update_history(self, entry: dict[str, Any]) -> None:
        self._entry.set(entry)

    def __deepcopy__(self, memo: dict[int, Any]) -> _MeteredMixin:
        return self


def metered_copy(lm: dspy.BaseLM) -> Any:
    """Returns a copy of an LM whose calls pass the meter that is set on it."""
    copied = lm.copy(num_retries=0)
    return extend(extend(copied, SplicingMixin) if type(lm) is dspy.LM else copied, _MeteredMixin)


def _request_key(role: str, lm: Any, prompt: Any, messages: Any, options: dict[str, Any]) -> str:
    request = {**lm.kwargs, **options}
    request = {k: v for k, v in request.items() if v is not None and k not in _NOT_PART_OF_A_REQUEST}
    payload = [role, lm.model, lm.model_type, prompt, messages, request]
    text, filling = json.dumps(payload, sort_keys=True, default=repr), filling_of(messages)
    pieces = [text.encode()] if filling is None else filling.in_json(text, ascii_only=True)
    assert pieces is not None, "the messages hold every place"
    key = hashlib.sha256()
    for piece in pieces:
        key.update(piece)
    return key.hexdigest()


def served_in(entry: dict[str, Any], asked: str) -> str | None:
    """Returns the model that DSPy's history entry says has answered, with the server's fingerprint of its system.

    None where that is just the name that was asked for.
    """
    named = str(entry.get("response_model") or "")
    data = getattr(entry.get("response"), "provider_data", None)
    system = data.get("system_fingerprint") if isinstance(data, dict) else None
    if not system and named in ("", asked, asked.rpartition("/")[2], asked.partition("/")[2]):
        return None
    return brief(f"{named} ({system})" if system else named, _LONGEST_NAME)


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
    uncounted = not (prompt or completion)
    usd = entry.get("cost") if price is None else None if uncounted and any(price) else cost(price, prompt, completion)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        image_tokens=details.get("image_tokens") or 0,
        usd=usd or 0.0,
        unpriced=int(usd is None),
        images=images,
        uncounted=int(uncounted),
    )
