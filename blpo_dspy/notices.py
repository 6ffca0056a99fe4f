"""Warnings that point at the user's own line."""

from __future__ import annotations

import inspect
import warnings

from blpo_dspy.text import shown


class BlpoWarning(UserWarning):
    """A warning of this library, as opposed to those of the libraries below it."""


_INSIDE = ("blpo_dspy", "dspy", "contextlib", "functools")


def notice(text: str) -> None:
    """Warns of something at the line that called into this library, however deep below it this is."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(shown(text, lines=True), BlpoWarning, stacklevel=level)
