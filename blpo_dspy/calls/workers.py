"""Threads for the LM calls of a run: those of the search, and those in the background, which fill its waiting time."""

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

from blpo_dspy.calls.gate import as_background
from blpo_dspy.calls.meter import GRACE
from blpo_dspy.errors import check_least

T = TypeVar("T")
R = TypeVar("R")

# Seconds of waiting without a message.
_UNNOTICED = 1.0

_own = threading.local()


def thread_count(num_threads: int | None) -> int:
    """Returns how many LM calls may be under way at once: DSPy's setting unless given.

    Raises:
        BlpoError: If that is not a whole number of at least 1.
    """
    count = (dspy.settings.num_threads or 8) if num_threads is None else num_threads
    check_least("num_threads", count, 1)
    return int(count)


class Workers:
    """The threads of a whole run; every task sees the DSPy context of the thread that submitted it.

    Tasks in the background have threads of their own, so that the search never waits for one of them to end. How many
    LM calls are under way at once, and which go first, is up to the `Meter`.

    Args:
        num_threads: The most tasks of the search under way at once; DSPy's setting where None.
        grace: Seconds that tasks under way get to end when an error ends the run, so that what they cost is kept.
    """

    def __init__(self, num_threads: int | None, *, grace: float = 0.0) -> None:
        self.num_threads, self._grace = thread_count(num_threads), grace
        self._search = _Pool(self.num_threads)
        self._background = _Pool(self.num_threads)

    def submit(self, function: Callable[[T], R], items: Iterable[T], *, background: bool = False) -> list[Future[R]]:
        """Starts one task per item; a task that submits others runs them itself, one by one."""
        if background:
            return [self._background.start(partial(as_background, function, item)) for item in items]
        return [self._search.start(partial(function, item)) for item in items]

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

    def demand(self) -> int:
        """Returns how many tasks of the search are under way or waiting."""
        return self._search.load

    def end_search(self) -> None:
        """Drops tasks of the search that have not begun, and waits for the others."""
        self._search.drop()
        self._search.wait(threading.TIMEOUT_MAX)

    def drain(self, seconds: float) -> bool:
        """Drops what has not begun and gives the rest some time to end; returns whether all of it did."""
        pools, ended = (self._search, self._background), False
        try:
            ended = _wait_for(pools, seconds)
        finally:
            if not ended:
                _to_wait_for.difference_update(pools)
        return ended

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.drain(threading.TIMEOUT_MAX)
        elif self._grace or issubclass(kind, KeyboardInterrupt):
            self.drain(max(self._grace, _UNNOTICED))
        for pool in (self._search, self._background):
            pool.drop()
            pool.close()


class _Pool:
    """A pool of daemon threads: unlike those of `concurrent.futures`, none that hangs keeps the interpreter forever."""

    def __init__(self, size: int) -> None:
        self._size, self._threads, self._busy = size, 0, 0
        self._closed = False
        self._queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        lock = threading.Lock()
        self._wanted, self._ended = threading.Condition(lock), threading.Condition(lock)
        _to_wait_for.add(self)

    def start(self, task: Callable[[], R]) -> Future[R]:
        future: Future[R] = Future()
        work = partial(contextvars.copy_context().run, task)
        if getattr(_own, "pool", None) is self:
            _run(future, work)
            return future
        with self._wanted:
            assert not self._closed, "a task for threads that have ended"
            self._queue.append((future, work))
            self._staff()
            self._wanted.notify()
        return future

    @property
    def load(self) -> int:
        return self._busy + len(self._queue)

    def _staff(self) -> None:
        wanted = min(self._size, self.load)
        for _ in range(wanted - self._threads):
            self._threads += 1
            threading.Thread(target=self._work, name="blpo", daemon=True).start()

    def _work(self) -> None:
        _own.pool = self
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                future, task = self._queue.popleft()
                self._busy += 1
            _run(future, task)
            del future, task  # no image of a task that ended is kept until the next begins
            with self._ended:
                self._busy -= 1
                self._ended.notify_all()

    def drop(self) -> None:
        with self._wanted:
            for future, _ in self._queue:
                future.cancel()
            self._queue.clear()

    def wait(self, seconds: float) -> bool:
        with self._ended:
            return self._ended.wait_for(lambda: not self._busy, max(0.0, seconds))

    def close(self) -> None:
        with self._wanted:
            self._closed = True
            self._wanted.notify_all()


def _run(future: Future[R], task: Callable[[], R]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(task())
    except BaseException as error:
        future.set_exception(error)


# Pools that the interpreter waits for at its end: none that has used up its time.
_to_wait_for: WeakSet[_Pool] = WeakSet()


def _wait_for(pools: Iterable[_Pool], seconds: float) -> bool:
    """Drops what has not begun and gives the rest some time to end; returns whether all of it did."""
    until = time.monotonic() + seconds
    for pool in pools:
        pool.drop()
    return all(pool.wait(until - time.monotonic()) for pool in pools)


@atexit.register
def _let_end() -> None:
    """Lets calls end that an error left behind, before the interpreter does.

    A thread that is stopped within an import or in compiled code would make the interpreter hang or abort.
    """
    pools = list(_to_wait_for)
    with contextlib.suppress(KeyboardInterrupt):
        if not _wait_for(pools, _UNNOTICED):
            left = GRACE - _UNNOTICED
            sys.stderr.write(f"Waiting up to {left:.0f} s for calls under way; Ctrl-C ends at once.\n")
            _wait_for(pools, left)
