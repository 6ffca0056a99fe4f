"""Reasons: what people wrote beside a label. Only an optimizer reads them, never the judge or the verbalizer."""

from __future__ import annotations

from collections.abc import Iterable

import dspy

from blpo_dspy.data.labels.normalize import Label
from blpo_dspy.errors import BlpoError
from blpo_dspy.text import as_data

REASON = "reason"
"""The field of an example that holds its reason; an input of this name is not one."""

_LONGEST_SHOWN = 600  # characters
_NEEDED = "write in words what the person said, or leave it empty"


def reason_text(what: str, value: object) -> str:
    """Returns a reason, which isn't empty, as it stands; messages call its column or field by `what`."""
    if not isinstance(value, str):
        raise BlpoError(f"{what} holds a {type(value).__name__}, and a reason is text; {_NEEDED}")
    if value.lstrip()[:11].lower() == "data:image/":
        raise BlpoError(f"{what} holds an image, and a reason is text; {_NEEDED}")
    return value.strip()


def joined(said: Iterable[tuple[str | None, Label | None, str]]) -> str:
    """Returns the reasons of several people as one, each with its rater, if that is known, and the label given."""
    return "; ".join(
        text if label is None else f"{rater or 'one person'} ({label}): {text}" for rater, label, text in said
    )


def reason_of(example: dspy.Example) -> str:
    """Returns an example's reason as data for a prompt, cut if it is very long; "" if it has none."""
    value = example.get(REASON)
    if value is None or value == "" or _is_input(example):
        return ""
    text = as_data(reason_text(f"its field {REASON!r}", value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def without_reason(example: dspy.Example) -> dspy.Example:
    """Returns the example itself, or, if it has a reason, a copy without it."""
    return example.without(REASON) if REASON in example and not _is_input(example) else example


def with_note(example: dspy.Example, note: str) -> dspy.Example:
    """Returns an example whose reason, if it has one, begins with a note on how it is to be read."""
    reason = reason_of(example)
    return example.copy(**{REASON: f"({note}) {reason}"}) if reason else example


def _is_input(example: dspy.Example) -> bool:
    return REASON in (getattr(example, "_input_keys", None) or ())
