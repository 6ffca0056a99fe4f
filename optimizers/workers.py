"""Threads for the LM calls of a step."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

import dspy

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """One pool for a whole run; every task sees the DSPy context of the thread that submitted it.

    Args:
        num_threads: The most tasks under way at once; DSPy's setting where None.
    """

    def __init__(self, num_threads: int | None) -> None:
        self.num_threads = num_threads or dspy.settings.num_threads or 8
        self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="blpo")

    def submit(self, function: Callable[[T], R], items: Iterable[T]) -> list[Future[R]]:
        """Starts one task per item."""
        return [self._pool.submit(contextvars.copy_context().run, function, item) for item in items]

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Returns the results in the order of the items, whatever order they end in.

        Raises:
            BaseException: The first failing item's own error, once no task of this call is waiting to start.
        """
        return self.results(self.submit(function, items))

    @staticmethod
    def results(futures: list[Future[R]]) -> list[R]:
        """Waits for tasks and returns their results in order; see `map`."""
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
        failed = [future for future in futures if not future.cancelled() and future.done() and future.exception()]
        return [future.result() for future in (failed or futures)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
