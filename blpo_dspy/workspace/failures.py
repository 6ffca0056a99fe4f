"""Failures of LM calls: which of them are outages, which are retried, and what ends a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import dspy
from dspy.utils.exceptions import LMError, LMProviderError

from blpo_dspy.errors import BlpoError
from blpo_dspy.workspace.ledger import Usage

R = TypeVar("R")


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
    return is_unreadable(error) or dspy.is_retryable_lm_error(error)


def is_unreadable(error: LMError) -> bool:
    """Whether an answer came that can't be read."""
    return type(error) in (LMProviderError, UnreadableAnswerError) and (error.status or 200) < 300


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
