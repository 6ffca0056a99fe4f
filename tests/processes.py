"""Child processes for tests."""

from __future__ import annotations

import signal
import subprocess
from typing import Any


def interruptible(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Starts a process that Ctrl-C ends, also where the tests themselves run in the background and ignore it."""
    inherited = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, inherited)
