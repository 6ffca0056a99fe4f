"""Child processes for tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, TypeVar

Found = TypeVar("Found")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([
    "blpo_dspy.cli.app", "blpo_dspy.runs.align", "blpo_dspy.comparison.compare", "blpo_dspy.predictions.predict",
    "blpo_dspy.labelling.server.app", "sklearn.metrics", "uvicorn",
])  # fmt: skip


class Command:
    """`blpo` in a process of its own, forked from one that has imported the library, which takes more than a second.

    It has no cache on disk. What it prints goes to files, so that it never waits for a reader.
    """

    def __init__(self, *words: object, cwd: Path) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - as long as it is
        streams = [Connection(os.dup(file.fileno()), readable=False) for file in (self._out, self._err)]
        given = list(map(str, words)), str(cwd), dict(os.environ)
        # One that hangs ends with the tests; a daemon may not start processes of its own.
        self._process = _FORKS.Process(target=_run, args=(*given, *streams), daemon="--workers" not in words)
        self._process.start()
        for stream in streams:
            stream.close()

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return _text(self._out)

    @property
    def stderr(self) -> str:
        """What it has printed on standard error."""
        return _text(self._err)

    def until(self, happened: Callable[[], Found | None], seconds: float = 60) -> Found:
        """Waits while it runs until something has happened, and returns that."""
        latest = time.monotonic() + seconds
        while not (found := happened()):
            assert self._process.is_alive(), f"it has ended: {self.stderr}"
            assert time.monotonic() < latest, f"it still runs: {self.stderr}"
            time.sleep(0.01)
        return found

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        if self._process.is_alive() and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def wait(self, seconds: float = 60) -> int:
        """Waits until it has ended; returns its exit code, of a signal the negative number."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it still runs: {self.stderr}"
        return self._process.exitcode

    def kill(self) -> None:
        """Ends it, if it still runs."""
        self.send_signal(signal.SIGKILL)
        self.wait()


def _run(words: list[str], cwd: str, environment: dict[str, str], out: Connection, err: Connection) -> None:
    import dspy

    from blpo_dspy.cli.app import app

    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["blpo", *words]
    dspy.configure_cache(enable_disk_cache=False)
    app(words)


def _text(file: IO[bytes]) -> str:
    """What a file holds; the process writes where this handle is, which must not move."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def interruptible(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Starts a process that Ctrl-C ends, also where the tests themselves run in the background and ignore it."""
    inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, inherited)


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Within it Ctrl-C raises `KeyboardInterrupt`, also where the tests themselves run in the background."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, inherited)
