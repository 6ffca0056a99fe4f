"""Child processes for tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
