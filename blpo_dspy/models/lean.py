"""Calls that leave no pixels behind in this process.

DSPy keeps the messages of the last 10 000 LM calls, and the inputs of as many in a trace for the whole process: with
images in them these are gigabytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import dspy

from blpo_dspy.models.adapter import one_call_adapter
from blpo_dspy.models.seams import PROCESS_TRACE, known_prices

_LONGEST = 1000  # characters; texts of an image part that are longer are its pixels


class _Slim(list[dict[str, Any]]):
    """A history that keeps no entry, but takes the pixels out of each: DSPy hands the same entry to all histories."""

    def append(self, entry: dict[str, Any]) -> None:
        entry["messages"] = _without_pixels(entry.get("messages"))
        entry.pop("request", None)


class _Owner:
    """Seam: in `settings.caller_modules` DSPy takes this for one of the modules a call is made from, with a history."""

    history = _Slim()


@contextlib.contextmanager
def lean_calls() -> Iterator[None]:
    """Makes LM calls inside the block take one request each, and DSPy remember their texts only.

    The history is kept as the user's settings have it, with their number instead of the characters of an image; at
    `max_history_size=0` there is none. A trace is kept where the user set one, as in `dspy.context(trace=[])`.
    """
    settings = dspy.settings
    changes: dict[str, Any] = {"adapter": one_call_adapter()}
    if settings.max_history_size == 0:
        changes["disable_history"] = True  # DSPy would still fill the history of the whole process
    if not settings.disable_history:
        changes["caller_modules"] = [*(settings.caller_modules or ()), _Owner]
    if settings.trace is PROCESS_TRACE:  # one given to dspy.context or dspy.configure is another list
        changes["trace"] = None
    with dspy.context(**changes), known_prices():
        yield


def _without_pixels(value: Any) -> Any:
    """A copy of messages whose image parts say how long their data was."""
    if isinstance(value, list):
        return [_without_pixels(item) for item in value]
    if not isinstance(value, dict):
        return value
    is_image = str(value.get("type", "")).startswith(("image", "input_image"))
    return {key: _short(item) if is_image else _without_pixels(item) for key, item in value.items()}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if not isinstance(value, str) or len(value) <= _LONGEST:
        return value
    header, comma, data = value.partition("base64,")
    return f"{header if comma else ''}<{len(data or value)} characters left out>"
