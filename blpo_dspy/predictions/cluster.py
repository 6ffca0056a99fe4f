"""Judging on the workers of Dask, started here or on a given cluster.

Workers get chunks of a few rows and return what they found; this process alone reserves calls and writes. A chunk whose
worker has died is sent again, under a new reservation: the calls that it had reserved count as made.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from blpo_dspy.errors import BlpoError, ModelError, cause
from blpo_dspy.predictions.chunk import Chunk, ChunkReport, judge_chunk
from blpo_dspy.predictions.session import Session
from blpo_dspy.workspace.cap import Cap
from blpo_dspy.workspace.ledger import Ledger, Usage
from blpo_dspy.workspace.meter import GRACE
from blpo_dspy.workspace.outages import Outages

if TYPE_CHECKING:
    from distributed import Client, Future

# Chunks that a worker has or waits for: with a second one it is not idle while its first report travels.
_EACH = 2
# The most contents of a chunk: few enough to lose with a worker, enough that its threads are busy.
_CONTENTS, _FOR_EACH_THREAD = 32, 2
# The most contents of which it is remembered what was answered without a verdict.
_REMEMBERED = 256
# How often a chunk is sent whose workers die.
_TRIES = 5
_CONNECTING = 30


@contextlib.contextmanager
def connected(workers: int | None, cluster: Any) -> Iterator[Client]:
    """Yields a client of so many processes started here, or of a given cluster.

    Args:
        workers: How many processes are started.
        cluster: A `distributed.Client`, the address of a scheduler, or one of Dask's cluster objects.

    Raises:
        BlpoError: If Dask is missing, no scheduler answers, or its workers lack this library.
    """
    try:
        import distributed  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BlpoError('other processes need Dask: pip install "blpo-dspy[dask]"', option="workers") from error
    with contextlib.ExitStack() as opened:
        if workers is not None:
            local = {
                "n_workers": workers,
                "threads_per_worker": 1,
                "host": "127.0.0.1",
                "dashboard_address": "127.0.0.1:0",
            }
            cluster = opened.enter_context(distributed.LocalCluster(silence_logs="CRITICAL", **local))
        client = cluster
        if not isinstance(cluster, distributed.Client):
            try:
                # A client that refuses an address waits a minute to close itself, so that it is read before.
                if isinstance(cluster, str) and not cluster.startswith("inproc:"):
                    distributed.comm.get_address_host_port(cluster)
                client = distributed.Client(cluster, timeout=_CONNECTING, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:  # a time-out is an OSError
                raise BlpoError(
                    f"cluster={cluster!r}: no Dask scheduler answers there ({error}); write its address, such as "
                    "tcp://10.0.0.5:8786, or give a distributed.Client",
                    option="cluster",
                ) from error
            opened.enter_context(client)
        if client.asynchronous:
            raise BlpoError("cluster= is an asynchronous client; give the scheduler's address, or another one")
        _check_workers(client)
        yield client


def _check_workers(client: Client) -> None:
    import distributed  # noqa: PLC0415 - an extra

    try:
        client.wait_for_workers(1, timeout=_CONNECTING)
        client.run(_hear, "", 0.0)
    except distributed.TimeoutError as error:
        raise BlpoError(f"{client.scheduler.address}: the cluster has no workers; start some") from error
    except (ImportError, AttributeError) as error:
        raise BlpoError(
            f"the cluster's workers cannot import blpo_dspy ({error}); install the same version there"
        ) from error


class ClusterRun:
    """What is missing of a prediction, judged on a cluster.

    Args:
        client: Connected to it.
        session: Says what is missing, and notes verdicts.
        cap: The caps of the session.
        chunk: What all chunks have in common; its `num_threads` is that of a worker.
        calls: LM calls that a content takes where none fails.
        max_in_flight: The most LM calls at once over all workers; None for no such bound.
    """

    def __init__(
        self,
        client: Client,
        session: Session,
        cap: Cap,
        chunk: Chunk,
        calls: int,
        max_in_flight: int | None,
    ) -> None:
        self._client, self._session, self._job, self._cap = client, session, session.job, cap
        self._chunk, self._calls, self._most = chunk, calls, max_in_flight
        self._topic = f"blpo-{secrets.token_hex(8)}"
        self._inbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._left = session.left()
        self._waiting = deque(self._left)
        self._running: dict[str, tuple[Future[ChunkReport], Chunk]] = {}
        self._tries: dict[str, int] = {}
        self._lost = Ledger({})
        # By content the requests that an attempt at it was answered without a verdict.
        self._unfinished: dict[str, list[str]] = session.job.recorded("unfinished", 0) or {}
        self._number = itertools.count()
        self._ending = False
        self._tasks = 0  # with `max_in_flight` the most chunks at once

    def until_done(self) -> None:
        """Has everything judged, until a cap or an error stops it.

        Raises:
            BlpoError: What a chunk was stopped by, or that the scheduler is gone.
            ModelError: If the workers of a chunk die again and again.
        """
        self._client.subscribe_topic(self._topic, lambda event: self._inbox.put(("pause", event[1])))
        try:
            self._submit()
            while self._running:
                self._next(1.0)
                self._submit()
        except (OSError, RuntimeError, CancelledError) as error:
            if isinstance(error, BlpoError):
                raise
            raise BlpoError(
                f"the cluster's scheduler is gone ({cause(error)}); what is done stays, and the same call continues"
            ) from error
        finally:
            with contextlib.suppress(OSError, RuntimeError, CancelledError):
                self._end()

    def _next(self, seconds: float) -> None:
        with contextlib.suppress(Empty):
            kind, content = self._inbox.get(timeout=seconds)
            if kind == "pause":
                self._client.run(_hear, *content, on_error="ignore")
            else:
                self._close(content)

    def _submit(self) -> None:
        each, slots = self._chunk.num_threads or 1, max(1, sum(self._client.ncores().values()))
        if self._most is not None:
            if not self._tasks:  # fixed from then on: workers come and go, and chunks may start at once on all of them
                each = min(each, max(1, self._most // slots))
                self._chunk, self._tasks = replace(self._chunk, num_threads=each), self._most // each
            slots = min(slots, self._tasks)
        most = min(_EACH * slots, self._tasks or _EACH * slots)
        while self._waiting and not self._ending and len(self._running) < most:
            chunk = self._taken(slots, each)
            if chunk is None:
                return
            name = f"{self._topic}-{next(self._number)}"
            future = self._client.submit(_judged, chunk, self._topic, name, key=name, pure=False)
            self._running[name] = future, chunk
            future.add_done_callback(lambda _, name=name: self._inbox.put(("done", name)))

    def _taken(self, slots: int, threads: int) -> Chunk | None:
        """The next chunk, with the calls that are reserved for it; None if the caps pay for none."""
        spent, reserved = self._spent(), sum(chunk.max_calls or 0 for _, chunk in self._running.values())
        if self._cap.refusal(spent, reserved):
            return None
        most = max(_CONTENTS, _FOR_EACH_THREAD * threads)
        count = min(most, max(1, len(self._waiting) // (_EACH * slots)))
        if self._cap.max_calls is not None:
            count = min(count, (self._cap.max_calls - spent.total.calls - reserved) // self._calls)
        if self._cap.max_usd is not None:
            if not spent.total.usd:  # until the first answers say what they cost
                count = min(count, threads) if not reserved else 0
            while count and self._cap.refusal(spent, reserved + count * self._calls - 1):
                count -= 1
        if count < 1:
            return None
        keys = [self._waiting.popleft() for _ in range(count)]
        known = dict.fromkeys(request for key in keys for request in self._unfinished.get(key, ()))
        inputs, contents = self._session.subset({key: self._left[key] for key in keys})
        return replace(
            self._chunk,
            inputs=inputs,
            keys=contents,
            max_calls=count * self._calls if self._cap.max_calls is not None or self._cap.max_usd is not None else None,
            answered=self._chunk.answered or spent.total.calls > spent.total.failed,
            known=tuple(self._job.answers(known)),
        )

    def _spent(self) -> Ledger:
        return self._session.ledger + self._lost

    def _close(self, name: str) -> None:
        import distributed  # noqa: PLC0415 - an extra

        future, chunk = self._running.pop(name)
        try:
            report = future.result()
        except distributed.KilledWorker:
            report = ChunkReport(begun=True)
        if report.begun:
            lost = Usage(calls=chunk.max_calls or 0, failed=chunk.max_calls or 0)
            self._lost += Ledger({"judge": lost})
        self._job.take(report.answers, report.failures)
        self._session.take(report.rows, report.ledger)
        self._again(chunk, report)
        if report.error is not None:
            raise report.error

    def _again(self, chunk: Chunk, report: ChunkReport) -> None:
        """Puts contents without a verdict back, and notes what was answered of them."""
        contents = dict.fromkeys(chunk.keys)
        left = [key for key in contents if key not in report.rows]
        failed = [key for key, row in report.rows.items() if row["error"] is not None]
        before = dict(self._unfinished)
        for key in contents:
            self._unfinished.pop(key, None)
        answered = [row[0] for row in (*chunk.known, *report.answers)]
        if answered:
            room = max(0, _REMEMBERED - len(self._unfinished))
            self._unfinished.update(dict.fromkeys((*left, *failed)[:room], answered))
        if self._unfinished != before:
            self._job.record("unfinished", 0, self._unfinished)
        for key in left:
            self._tries[key] = self._tries.get(key, 0) + 1
            if report.begun and self._tries[key] >= _TRIES:
                raise ModelError(f"the workers that judged {key} died {_TRIES} times; what is done stays")
        if left and not report.begun and not report.rows and not report.ledger.total.calls:
            self._ending = True  # a cap or a stop refuses every call
        self._waiting.extend(left)

    def _end(self) -> None:
        """Has the chunks that are under way return what they have, and cancels the others."""
        self._client.unsubscribe_topic(self._topic)
        self._ending = True
        if not self._running:
            return
        self._client.run(_stop, self._topic, on_error="ignore")
        until = time.monotonic() + GRACE
        while self._running and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(BlpoError):
                self._next(left)
        self._client.cancel([future for future, _ in self._running.values()])


# On the workers

_outages: dict[str, Outages] = {}
_stopped: set[str] = set()


def _judged(chunk: Chunk, topic: str, name: str) -> ChunkReport:
    """Judges a chunk on a worker, unless an earlier attempt has begun, whose worker has died."""
    import distributed  # noqa: PLC0415 - an extra

    worker = distributed.get_worker()
    # Not distributed.Event: its client may be one of the user's, which is closed by now.
    if distributed.utils.sync(worker.loop, worker.scheduler.event_is_set, name=name):
        return ChunkReport(begun=True)
    distributed.utils.sync(worker.loop, worker.scheduler.event_set, name=name)

    def pause(quota: str, seconds: float) -> None:
        worker.log_event(topic, (quota, seconds))

    outages = Outages(chunk.max_outage, known=chunk.answered, paces=True, on_pause=pause)
    _outages[name] = outages
    try:
        return judge_chunk(chunk, outages=outages, stopped=lambda: "the run was stopped" if topic in _stopped else "")
    finally:
        del _outages[name]


def _hear(quota: str, seconds: float) -> None:
    """Holds calls back here, as another worker met a rate limit."""
    for outages in list(_outages.values()):
        outages.pause(quota, seconds, tell=False)


def _stop(topic: str) -> None:
    _stopped.add(topic)
