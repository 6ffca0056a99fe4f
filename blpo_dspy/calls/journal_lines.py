"""The lines of a journal: how they are written, and what counts as damage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import orjson

from blpo_dspy.calls.ledger import ROLES, Usage
from blpo_dspy.calls.store import Answer

_COUNTS: dict[str, tuple[type, ...]] = {
    field.name: (int,) if type(field.default) is int else (int, float) for field in fields(Usage)
}


def encoded(entry: Any) -> bytes:
    """Returns an entry as JSON; any text, half a surrogate pair too, is read again as it was."""
    return json.dumps(entry, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def parsed(line: bytes) -> dict[str, Any]:
    """Returns the entry that a line holds."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:  # half a surrogate pair, NaN, or damage
        entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    return entry


def answer_in(line: Mapping[str, Any]) -> Answer:
    """Returns the answer that a line holds.

    Raises:
        As `check_answer`.
    """
    usage = Usage(**check_answer(line))
    return Answer(tuple(line["outputs"]), line["finish_reason"], usage, line.get("served"))


def check_answer(line: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the usage of the answer that a line holds.

    Raises:
        KeyError: If a part of it is missing.
        ValueError: If a part of it is not what a journal writes.
    """
    outputs = of_kind(line, "outputs", list)
    texts = [output.get("text") if isinstance(output, dict) else output for output in outputs]
    if not outputs or not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError(f"outputs: {_short(outputs)} are not the texts of an answer")
    if "served" in line:
        of_kind(line, "served", (str, type(None)))
    of_kind(line, "finish_reason", (str, type(None)))
    return _usage_fields(line)


def usage_in(line: Mapping[str, Any]) -> Usage:
    """Returns the usage that a line holds; counts are never negative."""
    return Usage(**_usage_fields(line))


def _usage_fields(line: Mapping[str, Any]) -> dict[str, Any]:
    usage: dict[str, Any] = of_kind(line, "usage", dict)
    for name, found in usage.items():
        if type(found) is int and found >= 0 and name in _COUNTS:  # as nearly all are
            continue
        # Whatever a server claims: orjson reads a float where an integer has more than 64 bits.
        value = usage[name] = int(found) if type(found) is float and 2**63 <= found < math.inf else found
        if type(value) not in _COUNTS[name]:  # of_kind says so, and takes longer to find it
            of_kind(usage, name, _COUNTS[name])
        if not 0 <= value < math.inf:
            raise ValueError(f"usage.{name}: {value!r} is not a count")
    return usage


def role_in(line: Mapping[str, Any]) -> str:
    """Returns the role that a line names."""
    role: str = of_kind(line, "role", str)
    if role not in ROLES:
        raise ValueError(f"role: {role!r} is not one of {', '.join(ROLES)}")
    return role


def of_kind(line: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """Returns a part of a line; a KeyError says that it is missing, a ValueError that it is of another type."""
    value = line[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name}: {_short(value)} is of the wrong type")
    return value


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Returns one line per place in which two fingerprints differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {_short(before)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
