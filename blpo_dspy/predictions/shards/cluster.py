"""Shards judged by the workers of a Dask cluster.

A shard is one task, so that a worker that is lost repeats the calls that it had under way and no others: Dask gives
the task to another worker, which resumes from the shard's journal. Tasks say what they find, and ask for calls, by
events of the scheduler; answers reach them by `Client.run`, so that neither has to connect to the other directly.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from blpo_dspy.calls.journal_file import JournalInUseError
from blpo_dspy.calls.leases import Grant
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.errors import BlpoError, ModelError, cause
from blpo_dspy.predictions.shards.line import Desk, Remote, Report
from blpo_dspy.predictions.shards.shard import Shard

if TYPE_CHECKING:
    from distributed import Client, Future

# Shards that a worker has or waits for: with a second one it is not idle while its first report travels.
_EACH = 2
# How often a shard that a lost worker still writes is tried again, after a minute each.
_TRIES = 5
# Seconds between two reports of a task, and those after which one that asks for calls takes its planner for dead.
_REPORTED, _UNHEARD = 0.5, 60.0
# While it waits it checks this often, in seconds, whether it was cancelled.
_LOOK = 0.5
_CONNECTING = 30

Judge = Callable[..., Report]


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask cluster.

    Args:
        client: Connected to it.
    """

    client: Client

    @classmethod
    @contextlib.contextmanager
    def at(cls, cluster: Any) -> Iterator[Cluster]:
        """Yields the cluster of a client, of the address of a scheduler, or of one of Dask's cluster objects.

        Raises:
            BlpoError: If Dask is missing, no scheduler answers, or its workers lack this library.
        """
        try:
            import distributed  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise BlpoError('a cluster needs Dask: pip install "blpo-dspy[dask]"') from error
        with contextlib.ExitStack() as opened:
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
            found = cls(client)
            found._check_workers()
            yield found

    def _check_workers(self) -> None:
        import distributed  # noqa: PLC0415 - an extra

        try:
            self.client.wait_for_workers(1, timeout=_CONNECTING)
            self.client.run(_receive, "")
        except distributed.TimeoutError as error:
            raise BlpoError(f"{self.client.scheduler.address}: the cluster has no workers; start some") from error
        except (ImportError, AttributeError) as error:
            raise BlpoError(
                f"the cluster's workers cannot import blpo_dspy ({error}); install the same version there"
            ) from error

    @property
    def processes(self) -> int:
        """How many shards can be judged at once."""
        return sum(min(_EACH, threads) for threads in self.client.ncores().values())

    def run(self, judge: Judge, shards: Sequence[Shard], desk: Desk, *, threads: Sequence[int]) -> None:
        """Judges shards, at most two submitted for each worker, until all are or a cap is reached.

        Args:
            judge: Judges one; the workers import it.
            shards: What is to be judged.
            desk: Takes their reports and grants their calls.
            threads: How many LM calls each of the shards that are judged at once may have under way.

        Raises:
            BlpoError: What a shard was stopped by, or that the scheduler is gone.
            ModelError: If the workers of a shard are lost again and again.
        """
        run = _Run(self.client, judge, deque(shards), desk, min(threads))
        try:
            run.until_done()
        except (OSError, CancelledError) as error:
            raise BlpoError(
                f"the cluster's scheduler is gone ({cause(error)}); what is done stays, and the same call continues"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                run.end()


class _Run:
    def __init__(self, client: Client, judge: Judge, waiting: deque[Shard], desk: Desk, threads: int) -> None:
        self._client, self._judge, self._waiting, self._desk = client, judge, waiting, desk
        self._threads = threads
        self._topic = f"blpo-{secrets.token_hex(8)}"
        self._inbox: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._running: dict[int, Future[Report]] = {}
        # The task that judges each shard now, and the address of its worker.
        self._tasks: dict[int, tuple[str, str]] = {}
        self._tries: Counter[int] = Counter()
        client.subscribe_topic(self._topic, lambda event: self._inbox.put(("event", event[1])))

    def until_done(self) -> None:
        """Submits shards as there is room for them, and handles what their tasks say."""
        self._submit()
        while self._running:
            with contextlib.suppress(Empty):
                kind, content = self._inbox.get(timeout=1.0)
                if kind == "event":
                    name, number, *message = pickle.loads(content)
                    self._hear(name, number, *message)
                else:
                    self._close(content)
            self._submit()

    def end(self) -> None:
        """Cancels what is under way: the tasks end with the calls that they have made."""
        self._client.unsubscribe_topic(self._topic)
        self._client.cancel(list(self._running.values()))

    def _submit(self) -> None:
        if not self._waiting or self._desk.office.refused:
            return
        cores = self._client.ncores().values()
        most = _EACH * len(cores)
        if self._desk.max_in_flight is not None:  # workers may have joined
            at_once = self._desk.max_in_flight // self._threads
            most = most if sum(min(_EACH, threads) for threads in cores) <= at_once else at_once
        room = most - len(self._running)
        while room > 0 and self._waiting:
            shard = self._waiting.popleft()
            sent = replace(shard, num_threads=self._threads, answered=self._desk.answered)
            key = f"{self._topic}-{shard.number}-{self._tries[shard.number]}"
            future = self._client.submit(_judged, self._judge, sent, self._topic, key=key, pure=False)
            self._running[shard.number] = future
            future.add_done_callback(lambda _, shard=shard: self._inbox.put(("done", shard)))
            room -= 1

    def _hear(self, name: str, number: int, kind: str, *content: Any) -> None:
        if number not in self._running:
            return
        if kind == "begin":
            if number in self._tasks:  # another worker had it before
                self._desk.lost(number)
            self._tasks[number] = (name, content[0])
            for pause in self._desk.pauses.under_way():
                self._deliver(number, "pause", *pause)
        elif self._tasks.get(number, ("", ""))[0] != name:
            return  # of a worker that is taken for lost
        elif kind == "ask":
            self._deliver(number, "grant", self._desk.office.ask(name, *content))
        elif kind == "report":
            self._desk.hear(content[0])
        else:
            self._desk.pauses.add(*content)
            for other in self._tasks.keys() - {number}:
                self._deliver(other, "pause", *content)

    def _deliver(self, number: int, *message: Any) -> None:
        name, address = self._tasks[number]
        with contextlib.suppress(OSError, ValueError):  # the worker is gone
            self._client.run(_receive, name, *message, workers=[address], on_error="ignore")

    def _close(self, shard: Shard) -> None:
        import distributed  # noqa: PLC0415 - an extra

        future = self._running.pop(shard.number)
        try:
            report = future.result()
        except JournalInUseError:
            self._tries[shard.number] += 1
            if self._tries[shard.number] == _TRIES:
                raise
            self._waiting.append(shard)
            return
        except distributed.KilledWorker as error:
            raise ModelError(
                f"the workers that judged {shard.part.name} were lost again and again ({error}); what is done stays"
            ) from error
        name, _ = self._tasks.pop(shard.number, ("", ""))
        self._desk.office.end(name, report.ledger)
        self._desk.hear(report)


# On the workers


_lines: dict[str, _EventLine] = {}


class _EventLine(Remote):
    """The connection of a task to the process that planned the shards; see `Line`."""

    def __init__(self, topic: str, number: int) -> None:
        import distributed  # noqa: PLC0415 - an extra

        super().__init__(_REPORTED)
        self.name = secrets.token_hex(8)
        self._worker, self._topic, self._number = distributed.get_worker(), topic, number
        self._task = self._worker.get_current_task()

    def send(self, *message: Any) -> None:
        """Sends a message by way of the scheduler."""
        self._worker.log_event(self._topic, pickle.dumps((self.name, self._number, *message)))

    def receive(self, kind: str, *content: Any) -> None:
        """Takes a message."""
        if kind == "pause":
            self.take_pause(*content)
            return
        with self._changed:
            self._grants.append(content[0])
            self._changed.notify_all()

    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks the planner; the meter's lock is held, so that no other thread of this shard does."""
        self.send("ask", ledger, under_way)
        until = time.monotonic() + _UNHEARD
        with self._changed:
            while not self._changed.wait_for(lambda: self._grants, _LOOK):
                if reason := self.stopped():
                    return Grant(0, reason)
                if time.monotonic() > until:
                    return Grant(0, "the process that planned the shards does not answer")
            return self._grants.popleft()

    def stopped(self) -> str:
        """Returns why the task is to end early: Dask does not stop one that it has cancelled."""
        task = self._worker.state.tasks.get(self._task)
        return "the task was cancelled" if task is None or task.state == "cancelled" else ""


def _judged(judge: Judge, shard: Shard, topic: str) -> Report:
    """Judges a shard on a worker."""
    line = _EventLine(topic, shard.number)
    _lines[line.name] = line
    line.send("begin", line._worker.address)
    try:
        return judge(shard, line=line)
    finally:
        del _lines[line.name]


def _receive(name: str, *message: Any) -> None:
    line = _lines.get(name)
    if line is not None:
        line.receive(*message)
