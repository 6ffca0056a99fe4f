"""Threads for the LM calls of a run."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

import dspy

from blpo_dspy.errors import check_least
from blpo_dspy.workspace.meter import GRACE
from blpo_dspy.workspace.workspace import current_workspace

T = TypeVar("T")
R = TypeVar("R")

# Seconds of waiting without a message.
_UNNOTICED = 1.0

_own = threading.local()


def thread_count(num_threads: int | None) -> int:
    """Returns how many LM calls may be under way at once: those given, or the workspace's, or DSPy's setting."""
    if num_threads is not None:
        check_least("num_threads", num_threads, 1)
    count = num_threads or current_workspace().num_threads or dspy.settings.num_threads or 8
    return int(count)


class Workers:
    """The threads of a whole run; every task sees the DSPy context of the thread that submitted it.

    They are daemons: unlike those of `concurrent.futures`, none that hangs keeps the interpreter forever. How many LM
    calls are under way at once is up to the `Meter`.

    Args:
        num_threads: The most tasks under way at once; as `thread_count` says if None.
        grace: Seconds that tasks under way get to end when an error ends the run, so that what they cost is kept.
    """

    def __init__(self, num_threads: int | None, *, grace: float = 0.0) -> None:
        self.num_threads, self._grace = thread_count(num_threads), grace
        self._threads = self._busy = 0
        self._closed = False
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        # Entered itself, as in `Gate`.
        self._lock = threading.Lock()
        self._wanted, self._ended = threading.Condition(self._lock), threading.Condition(self._lock)
        _to_wait_for.add(self)

    def submit(self, function: Callable[[T], R], items: Iterable[T]) -> list[Future[R]]:
        """Starts one task per item; a task that submits others runs them itself, one by one."""
        return [self._start(partial(function, item)) for item in items]

    def _start(self, task: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()
        work = partial(contextvars.copy_context().run, task)
        if getattr(_own, "workers", None) is self:
            _run(future, work)
            return future
        with self._lock:
            assert not self._closed, "a task for threads that have ended"
            self._queue.append((future, work))
            if self._threads < min(self.num_threads, self._busy + len(self._queue)):
                self._threads += 1
                threading.Thread(target=self._work, name="blpo", daemon=True).start()
            self._wanted.notify()
        return future

    def _work(self) -> None:
        _own.workers = self
        while True:
            with self._lock:
                self._wanted.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                future, task = self._queue.popleft()
                self._busy += 1
            _run(future, task)
            del future, task  # no image of a task that ended is kept until the next begins
            with self._lock:
                self._busy -= 1
                self._ended.notify_all()

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

    def drain(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Drops what has not begun and gives the rest some time to end; returns whether all of it did."""
        ended = False
        try:
            with self._lock:
                self._drop()
                ended = self._ended.wait_for(lambda: not self._busy, max(0.0, seconds))
        finally:
            if not ended:
                _to_wait_for.discard(self)
        return ended

    def _drop(self) -> None:
        for future, _ in self._queue:
            future.cancel()
        self._queue.clear()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.drain()
        elif self._grace or issubclass(kind, KeyboardInterrupt):
            self.drain(max(self._grace, _UNNOTICED))
        with self._lock:
            self._drop()
            self._closed = True
            self._wanted.notify_all()


def _run(future: Future[R], task: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task())
    except BaseException as error:
        future.set_exception(error)


# Workers that the interpreter waits for at its end: none that have used up their time.
_to_wait_for: WeakSet[Workers] = WeakSet()


@atexit.register
def _let_end() -> None:
    """Lets calls end that an error left behind, before the interpreter does.

    A thread that is stopped within an import or in compiled code would make the interpreter hang or abort.
    """
    left = list(_to_wait_for)
    with contextlib.suppress(KeyboardInterrupt):
        if not _all_end(left, _UNNOTICED):
            seconds = GRACE - _UNNOTICED
            sys.stderr.write(f"Waiting up to {seconds:.0f} s for calls under way; Ctrl-C ends at once.\n")
            _all_end(left, seconds)


def _all_end(left: Iterable[Workers], seconds: float) -> bool:
    until = time.monotonic() + seconds
    ended = [workers.drain(until - time.monotonic()) for workers in left]
    return all(ended)
