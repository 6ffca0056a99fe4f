"""What this library uses of DSPy beyond its documented interface, in one place.

Each import says why it stands; `tests/models/test_seams.py` fails when DSPy changes one of them or when another module
imports DSPy's internals, and CONTRIBUTING.md lists them.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.request import getproxies

import dspy

# An answer is searched for fields that are stated twice by the pattern that DSPy itself parses it with.
from dspy.adapters.chat_adapter import field_header_pattern

# Tags are taken out of the text of an input as DSPy writes it, which depends on the field's type.
from dspy.adapters.utils import format_field_value

# DSPy estimates the cost of each call with the look-up of this module (see `model_info`).
from dspy.clients import costs, model_metadata

# The options of a connection are neither part of a request nor of an LM's identity; whether DSPy's own engine reaches a
# model is decided before the first call.
from dspy.clients.backend_selection import CLIENT_KEYS, select_backend

# Prices before the first call; DSPy reports the price of a call only after it.
from dspy.clients.capabilities import resolve

# Requests of a batch that LiteLLM would send, and the answers to them, are those of DSPy's engine for it (its methods
# `_arguments` and `_response`).
from dspy.clients.engines.litellm_engine import LiteLLMEngine

# LiteLLM's functions for batches raise the errors of several clients; DSPy reads status and message of each.
from dspy.clients.engines.litellm_errors import litellm_errors

# The engine whose answers are bounded (see `workspace/bounds.py`, which also replaces an LM's `_engine_store` and the
# `_transport` of an engine's router: DSPy passes no transport from an LM to its engine).
from dspy.clients.engines.lm15_engine import LM15Engine

# The parts of a call to an LM: one whose images are put in as it is sent differs from DSPy's own in the engine and in
# what its cache and histories are given (see `splicing.py`, which also replaces `_engine_spec` and `_engine_store`).
from dspy.clients.execution import PreparedCall, execute, finalize, prepare
from dspy.clients.model_metadata import rate

# A judge file has the metadata that DSPy expects in a state file.
from dspy.utils.saving import get_dependency_versions

# DSPy reports usage for each call that it didn't answer from its cache.
from dspy.utils.usage_tracker import UsageTracker

__all__ = [
    "CLIENT_KEYS",
    "PROCESS_TRACE",
    "LM15Engine",
    "LiteLLMEngine",
    "PreparedCall",
    "UsageTracker",
    "execute",
    "extend",
    "field_header_pattern",
    "finalize",
    "format_field_value",
    "get_dependency_versions",
    "is_output",
    "known_prices",
    "litellm_errors",
    "litellm_module",
    "model_info",
    "prepare",
    "rate",
    "resolve",
    "select_backend",
    "settled",
]

PROCESS_TRACE = contextvars.Context().run(lambda: dspy.settings.trace)
"""The trace that DSPy keeps for the whole process: a context without variables sees none of `dspy.context`."""


@functools.lru_cache(maxsize=256)
def _known_info(provider: str, model: str, namespaces: tuple[str, ...] | None) -> Mapping[str, Any]:
    return MappingProxyType(model_metadata.model_info(provider, model, namespaces=namespaces))


def model_info(provider: str, model: str, *, namespaces: Iterable[str] | None = None) -> Mapping[str, Any]:
    """Returns DSPy's entry for a model, empty if there is none; looked up once, as DSPy loads its table only once.

    DSPy's own look-up copies the entry, and compares all of the thousands of entries where a model has none: twice for
    each call, to estimate its cost.
    """
    return _known_info(provider, model, None if namespaces is None else tuple(namespaces))


_estimating: contextvars.ContextVar[bool] = contextvars.ContextVar("blpo_known_prices", default=False)
_dspy_model_info = costs.model_info


@contextlib.contextmanager
def known_prices() -> Iterator[None]:
    """Has DSPy estimate the costs of calls inside the block, in this thread, with the look-up above."""
    token = _estimating.set(True)
    try:
        yield
    finally:
        _estimating.reset(token)


def _model_info(*about: Any, **namespaces: Any) -> Mapping[str, Any]:
    return (model_info if _estimating.get() else _dspy_model_info)(*about, **namespaces)


# DSPy's function for the cost of a call takes no look-up, so that its module is given this one. For all calls but ours
# it is the one that was there.
costs.model_info = _model_info


def settled(transport: Any) -> Any:
    """Returns a transport of an engine of ours; where there is no proxy now, it looks for none before each request.

    That look takes as long as there are variables in the environment; the clients of providers look once, too.
    """
    if not getproxies().keys() - {"no"} and hasattr(transport, "_trust_env"):
        transport._trust_env = False
    return transport


def litellm_module() -> Any:
    """Imports LiteLLM, which takes seconds, and returns it, as quiet as DSPy makes it before its own first use."""
    import litellm  # noqa: PLC0415 - only where a model needs it

    litellm.telemetry, litellm.suppress_debug_info = False, True
    return litellm


def extend(instance: Any, mixin: type) -> Any:
    """Makes an object an instance of a mixin, too, whose methods come before those of its own class, and returns it.

    DSPy checks modules and LMs by `isinstance` and calls methods on the type, so that a wrapper would not do. The
    object must be ours: a copy of the user's.
    """
    cls: type = type(instance)
    instance.__class__ = _extended_class(mixin, cls)
    return instance


@functools.cache
def _extended_class(mixin: type, cls: type) -> type:
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def is_output(info: Any) -> bool:
    """Whether a signature's field is an output; DSPy notes it in the field's extras."""
    return (info.json_schema_extra or {}).get("__dspy_field_type") == "output"
