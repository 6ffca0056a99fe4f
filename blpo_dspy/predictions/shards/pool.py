"""Shards judged by processes of this machine, each of which is replaced if it dies.

A process is a new Python interpreter, which imports nothing of the caller's script: a script without
`if __name__ == "__main__"` does not run again in it. Each has a connection of its own, so that one that is killed
while it writes disturbs no other, and ends when it loses it: none outlives its parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from blpo_dspy.calls.leases import Grant
from blpo_dspy.calls.ledger import Ledger
from blpo_dspy.calls.meter import GRACE
from blpo_dspy.errors import BlpoError, BlpoWarning, ModelError, check_least, notice
from blpo_dspy.log import LOGGER, log_event
from blpo_dspy.predictions.shards.line import Desk, Remote, Report
from blpo_dspy.predictions.shards.shard import Shard

# How often a shard is given to another process after one has died without a new verdict.
_LIVES = 3
# Seconds between two reports of a process on the same shard.
_REPORTED = 0.25
# Seconds in which a process that was asked to end does.
_ENDING = 2.0

_OF_EVERY_RECORD = vars(logging.makeLogRecord({})).keys()

Judge = Callable[..., Report]
"""`judge_shard`, or another function of a shard and a `line` that can be pickled."""


@dataclass
class _Worker:
    """A process, and what it is at.

    Attributes:
        process: The process.
        connection: To it.
        threads: How many LM calls it may have under way.
        shard: What it judges; None if it has nothing to do.
        holder: As what it asks the office for calls: another one for each shard.
        stopped: Whether it was asked to end early.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    threads: int
    shard: Shard | None = None
    holder: object = field(default_factory=object)
    stopped: bool = False

    def send(self, *message: Any) -> None:
        """Sends a message; one that has died is noticed where its messages are read."""
        with contextlib.suppress(OSError):
            self.connection.send(message)


@dataclass(frozen=True)
class Pool:
    """Processes of this machine.

    Args:
        processes: How many.

    Raises:
        BlpoError: If that is not a whole number of at least 1.
    """

    processes: int

    def __post_init__(self) -> None:
        check_least("workers", self.processes, 1)

    def run(self, judge: Judge, shards: Sequence[Shard], desk: Desk, *, threads: Sequence[int]) -> None:
        """Judges shards, one at a time in each process, until all are or a cap is reached.

        Ctrl-C gives the calls under way ten seconds to end; a second one does not wait.

        Args:
            judge: Judges one.
            shards: What is to be judged.
            desk: Takes their reports and grants their calls.
            threads: How many LM calls each process may have under way; there are as many processes.

        Raises:
            BlpoError: What a process was stopped by.
            ModelError: If the process of a shard dies again and again.
        """
        run = _Run(judge, deque(shards), desk)
        try:
            for number in threads[: len(shards)]:
                run.start(number)
            run.until_done()
        except BaseException:
            run.stop()
            with contextlib.suppress(KeyboardInterrupt, BlpoError):
                run.until_done(GRACE)
            raise
        finally:
            run.end()


class _Run:
    def __init__(self, judge: Judge, waiting: deque[Shard], desk: Desk) -> None:
        self._judge, self._waiting, self._desk = judge, waiting, desk
        self._workers: dict[Connection, _Worker] = {}
        self._deaths: Counter[int] = Counter()
        self._stopping = False

    def start(self, threads: int) -> None:
        """Starts a process."""
        ours, theirs = Pipe()
        code = f"from blpo_dspy.predictions.shards.pool import serve; serve({theirs.fileno()})"
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them in an orderly way
        )
        theirs.close()
        worker = self._workers[ours] = _Worker(process, ours, threads)
        worker.send(self._judge)
        for pause in self._desk.pauses.under_way():
            worker.send("pause", *pause)
        self._assign(worker)

    def until_done(self, seconds: float | None = None) -> None:
        """Handles what the processes say until none has a shard left, or for so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while any(worker.shard is not None for worker in self._workers.values()):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            for connection in wait(list(self._workers), left):
                assert isinstance(connection, Connection)
                self._hear(self._workers[connection])

    def stop(self) -> None:
        """Asks all processes to end their shards early, and gives out no more."""
        self._stopping = True
        for worker in self._workers.values():
            worker.send("stop", "the run was stopped")

    def end(self) -> None:
        """Ends all processes: those without a shard by themselves, others at once."""
        for worker in self._workers.values():
            if worker.shard is None:
                worker.send("end")
            else:
                worker.process.kill()
        for worker in self._workers.values():
            try:
                worker.process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.connection.close()

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        getattr(self, f"_on_{kind}")(worker, *content)

    def _on_ask(self, worker: _Worker, ledger: Ledger, under_way: int) -> None:
        worker.send("grant", self._desk.office.ask(worker.holder, ledger, under_way))

    def _on_report(self, worker: _Worker, report: Report) -> None:
        if report.judged:
            del self._deaths[report.number]
        self._desk.hear(report)

    def _on_pause(self, worker: _Worker, quota: str, seconds: float) -> None:
        self._desk.pauses.add(quota, seconds)
        for other in self._workers.values():
            if other is not worker:
                other.send("pause", quota, seconds)

    def _on_notice(self, worker: _Worker, text: str, options: Sequence[str]) -> None:
        notice(text, option=options)

    def _on_log(self, worker: _Worker, text: str, figures: Mapping[str, Any]) -> None:
        log_event(text=text, **figures)

    def _on_done(self, worker: _Worker, report: Report) -> None:
        self._desk.office.end(worker.holder, report.ledger)
        self._desk.hear(report)
        self._assign(worker)

    def _on_error(self, worker: _Worker, error: BlpoError) -> None:
        worker.shard = None
        raise error

    def _assign(self, worker: _Worker) -> None:
        worker.shard = None
        if self._waiting and not self._stopping and not self._desk.office.refused:
            worker.shard, worker.holder = self._waiting.popleft(), object()
            worker.send("shard", replace(worker.shard, num_threads=worker.threads, answered=self._desk.answered))

    def _bury(self, worker: _Worker) -> None:
        """Gives the shard of a process that has died to a new one."""
        code, shard = worker.process.wait(), worker.shard
        del self._workers[worker.connection]
        worker.connection.close()
        if shard is None or self._stopping:
            return
        self._deaths[shard.number] += 1
        if self._deaths[shard.number] > _LIVES:
            raise ModelError(
                f"the process that judged {shard.part.name} has died {_LIVES + 1} times in a row, the last time with "
                f"exit code {code}{' (killed, perhaps for want of memory)' if code == -9 else ''}; what is done stays"
            )
        self._desk.lost(shard.number)
        self._waiting.appendleft(shard)
        self.start(worker.threads)


class _PipeLine(Remote):
    """The end of the connection in a process that judges; see `Line`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(_REPORTED)
        self._connection, self._sending = connection, threading.Lock()
        self._shards: deque[Shard | None] = deque()
        self._stopped = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                kind, *content = self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone, and the lock of the shard has to be
            if kind == "pause":
                self.take_pause(*content)
                continue
            with self._changed:
                if kind == "shard":
                    self._shards.append(content[0])
                elif kind == "grant":
                    self._grants.append(content[0])
                elif kind == "stop":
                    self._stopped = content[0]
                else:
                    self._shards.append(None)
                self._changed.notify_all()

    def send(self, *message: Any) -> None:
        """Sends a message; that the parent is gone is noticed by `_listen`."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send(message)

    def next(self) -> Shard | None:
        """Waits for a shard; None says that there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._shards)
            return self._shards.popleft()

    def ask(self, ledger: Ledger, under_way: int) -> Grant:
        """Asks the parent; the meter's lock is held, so that no other thread does."""
        self.send("ask", ledger, under_way)
        with self._changed:
            self._changed.wait_for(lambda: self._grants)
            return self._grants.popleft()

    def stopped(self) -> str:
        """Returns why the process is to end early."""
        return self._stopped


class _Events(logging.Handler):
    """Sends the events of a process to the parent, which logs them as its own."""

    def __init__(self, line: _PipeLine) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        figures = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        self._line.send("log", record.getMessage(), figures)


def serve(descriptor: int) -> None:
    """Judges shards as the parent says; the work of a process of the pool.

    Args:
        descriptor: Of the connection to the parent.
    """
    for library in ("dspy", "LiteLLM"):  # what they say of single calls; what matters is counted or raised
        logging.getLogger(library).setLevel(logging.ERROR)
    connection = Connection(descriptor)
    (judge,) = connection.recv()
    line = _PipeLine(connection)
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(_Events(line))
    warnings.showwarning = lambda message, *_, **__: (
        line.send("notice", str(message), message.options) if isinstance(message, BlpoWarning) else None
    )
    while (shard := line.next()) is not None:
        try:
            report = judge(shard, line=line)
        except BlpoError as error:
            line.send("error", error)
        else:
            line.send("done", report)
