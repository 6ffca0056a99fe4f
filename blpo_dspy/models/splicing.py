"""Requests whose images and texts are put in as they are sent.

DSPy prepares, caches, routes, bills and records such a call as any other; its engine builds the body of the request
with the words of `stand_ins.py`, and the transport below it puts what they stand for into that body. Whatever DSPy
would not send by its native engine, or would show to a callback on the way, is called with the messages themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy
from dspy import lm15
from dspy.utils.exceptions import LMUnsupportedFeatureError

from blpo_dspy.models.seams import (
    CLIENT_KEYS,
    PreparedCall,
    execute,
    extend,
    finalize,
    prepare,
    select_backend,
    settled,
)
from blpo_dspy.models.stand_ins import SPLICE, Filling, Splice, is_watched

# A request that is signed, or states the length or a digest of its body, cannot be changed.
_SEALED = ("x-amz-", "content-length", "content-md5", "content-digest", "digest")
# What the request of a prompt doesn't depend on.
_NOT_IN_A_REQUEST = CLIENT_KEYS | {"messages", "rollout_id", "n"}


@contextmanager
def spliced(lm: Any) -> Iterator[Any]:
    """Yields an LM to call instead of another, which takes words where that is possible, until the block ends.

    It shares all of its state with the other one. Only DSPy's own class is taken: a subclass may do anything.
    """
    if type(lm) is dspy.LM:
        view = object.__new__(dspy.LM)
        view.__dict__ = lm.__dict__
        lm = extend(view, SplicingMixin)
    token = SPLICE.set(Splice() if isinstance(lm, SplicingMixin) else None)
    try:
        yield lm
    finally:
        SPLICE.reset(token)


def filling_of(messages: Any) -> Filling | None:
    """Returns what is to be put into the places of messages, None if they are whole."""
    splice = SPLICE.get()
    filling = None if splice is None else splice.filling
    return filling if filling is not None and filling.messages is messages else None


class SplicingMixin:
    """DSPy's LM, which takes messages with words in them."""

    def __call__(self, prompt: Any = None, *, messages: Any = None, **options: Any) -> Any:
        """Answers as `dspy.LM` does."""
        filling = filling_of(messages)
        if filling is None or prompt is not None:
            return super().__call__(prompt, messages=messages, **options)  # type: ignore[misc]
        try:
            if (selection := _selection(self, options)) is not None:
                return _called(self, selection, filling, options)
        except LMUnsupportedFeatureError:
            if filling.sent:
                raise
        return super().__call__(messages=_restored(filling), **options)  # type: ignore[misc]

    def update_history(self, entry: dict[str, Any]) -> None:
        """Keeps an entry as DSPy does, with the whole messages."""
        if filling := filling_of(entry["messages"]):
            entry["messages"] = filling.whole()
        super().update_history(entry)  # type: ignore[misc]


def _restored(filling: Filling) -> list[dict[str, Any]]:
    """The messages, whole from now on; in place, as DSPy recognizes those of its adapters by their identity."""
    splice = SPLICE.get()
    assert splice is not None, "the messages were formatted for it"
    splice.filling = None
    return filling.restore()


def _selection(lm: Any, options: dict[str, Any]) -> Any:
    """The engine that DSPy chooses if it is the native one; None else, or where it streams or a callback looks on."""
    if not isinstance(lm.engine, str) or lm.model_type != "chat" or "forward" in vars(lm):
        return None
    if dspy.settings.send_stream is not None or is_watched(lm.callbacks, "on_lm_start", "on_lm_end"):
        return None
    try:
        selection = select_backend(lm, options)
    except (lm15.LM15Error, TypeError, ValueError):  # DSPy's own call raises it as its own error
        return None
    return selection if selection.native else None


def _called(lm: Any, selection: Any, filling: Filling, options: dict[str, Any]) -> Any:
    """What DSPy's own call does; its caches, like its histories, get the whole messages.

    The LM that DSPy is given falls back to no other engine, which spares it building each request twice.
    """
    call = _Call(**vars(prepare(lm, None, filling.messages, options)))
    call.known = {**call.key(lm, False), "messages": filling.whole()} if call.cache else None
    settings = {name: value for name, value in call.legacy.items() if name not in _NOT_IN_A_REQUEST}
    key = (selection.resolution, repr(sorted(settings.items(), key=lambda item: item[0])))
    if not settings.get("logprobs") and not any(map(callable, settings.values())):  # a class says little of itself
        call.request = filling.prompt.requests.get(key)
    routed = object.__new__(type(lm))
    routed.__dict__.update(lm.__dict__)
    routed.kwargs = {**lm.kwargs, **selection.clients}
    routed._engine_spec, routed._engine_store = "lm15", _Engines(lm._engine_store, filling, key)
    result = execute(routed, call)
    call.request = None
    return finalize(lm, call, result)


class _Call(PreparedCall):
    """A call that DSPy's cache knows by its whole messages."""

    known: dict[str, Any] | None = None

    def key(self, lm: Any, asynchronous: bool) -> dict[str, Any]:
        key: dict[str, Any] = super().key(lm, asynchronous) if self.known is None else self.known
        return key


class _Engines:
    """The native engines of an LM where DSPy keeps them; those that splice have keys of their own."""

    def __init__(self, store: Any, filling: Filling, key: Any) -> None:
        self._store, self._filling, self._key = store, filling, key

    def get(self, key: tuple[Any, ...]) -> Any:
        engine = self._store.get((*key, SplicingMixin))
        return None if engine is None else _Engine(engine, self._filling, self._key)

    def __setitem__(self, key: tuple[Any, ...], engine: Any) -> None:
        engine.router._transport = _SplicingTransport(settled(engine.router._shared_transport()))
        self._store[(*key, SplicingMixin)] = engine


class _Engine:
    """A native engine that keeps the request of a prompt, which is the same for every call."""

    def __init__(self, engine: Any, filling: Filling, key: Any) -> None:
        self._engine, self._filling, self._key = engine, filling, key

    def complete(self, request: Any) -> Any:
        self._filling.prompt.keep(self._key, request)
        return self._engine.complete(request)


class _SplicingTransport:
    """A transport of DSPy's native engine that puts images and texts into the body of a request."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def stream(self, request: Any) -> Any:
        splice = SPLICE.get()
        assert splice is not None, "the engine is used for requests with words in them alone"
        assert splice.filling is not None, "likewise"
        body = splice.filling.in_json(request.body.decode(), ascii_only=False)
        if body is None or any(name.lower().startswith(_SEALED) for name, _ in request.headers):
            raise lm15.UnsupportedFeatureError("the request cannot be changed")
        splice.filling.sent = True
        return self._transport.stream(replace(request, body=b"".join(body)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
