"""The progress of a job: a live line on a terminal or in a notebook, a function's calls, or nothing."""

from __future__ import annotations

import contextlib
import html
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from blpo_dspy.errors import BlpoWarning, counted, notice, shown
from blpo_dspy.workspace.workspace import OnStep, Step, current_workspace

# Libraries that log or warn about single calls; what matters of it is counted or raised.
_CHATTY = (
    *("dspy", "LiteLLM", "LiteLLM Proxy", "LiteLLM Router", "asyncio", "httpcore", "httpx", "openai", "urllib3"),
    "huggingface_hub.utils._http",
)

_REDRAW = 0.25  # seconds between two drawings in a notebook
_LINES_KEPT = 4


class Watch:
    """The live line of one command; use it as a context.

    Args:
        console: Where it is drawn, if that is a terminal.
        shown: Whether it is drawn at all.
        lines: Whether what is said is written elsewhere than on a terminal, too.

    Attributes:
        warnings: The warnings that were issued meanwhile.
    """

    def __init__(self, console: Console, *, shown: bool = True, lines: bool = False) -> None:
        self.warnings: list[str] = []
        self._console = console
        self._says = console.is_terminal or lines
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[status]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._progress.add_task("starting", total=None, status="")

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def keep(self, warning: Warning | str) -> bool:
        """Keeps the text of a warning, and returns whether it is a new one."""
        new = str(warning) not in self.warnings
        self.warnings += [str(warning)] * new
        return new

    def say(self, text: str) -> None:
        """Leaves a line above the live one, on a terminal."""
        if self._says:
            self._progress.console.print(shown(text, lines=True), markup=False, highlight=False)

    def begin(self, what: str, steps: int | None = None) -> None:
        """Turns to a new piece of work."""
        self._progress.reset(self._task, description=what, status="")
        self._progress.tasks[0].total = steps  # which None would leave as it is
        self._changed(at_once=True)

    def advance(self, *_: Any) -> None:
        """One step of it is done."""
        self._progress.advance(self._task)
        self._changed()

    def show(self, what: str, done: int, status: str) -> None:
        """Says where the work stands."""
        self._progress.update(self._task, description=what, completed=done, status=status)
        self._changed()

    def found(self, record: object) -> None:
        """Takes what a job found, for who wants more than the line."""

    def _changed(self, *, at_once: bool = False) -> None:
        """Is called with each change; the line on a terminal draws itself."""


class NotebookWatch(Watch):
    """The live line in a notebook: a bar that is drawn in place, and what is said below the last of it."""

    def __init__(self) -> None:
        super().__init__(Console(stderr=True), shown=False)
        self._lock = threading.Lock()
        self._drawn = 0.0
        self._said: list[str] = []
        self._shown: Any = None
        self._ipython: Any = None
        self._began = time.monotonic()

    def __enter__(self) -> NotebookWatch:
        self._ipython = import_module("IPython.display")  # only there in a notebook
        self._shown = self._ipython.display(self._ipython.HTML(self._page()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = self._progress.tasks[0]
        self.show(
            "done" if kind is None else f"ended by {kind.__name__}",
            int(task.total or 0),
            f"{time.monotonic() - self._began:.0f} s",
        )
        self._changed(at_once=True)

    def say(self, text: str) -> None:
        """Adds a line below the bar; the last few stay."""
        self._said = [*self._said, text][-_LINES_KEPT:]
        self._changed(at_once=True)

    def _page(self) -> str:
        task = self._progress.tasks[0]
        done, total = int(task.completed), int(task.total or 0)
        bar = f'<progress value="{min(done, total)}" max="{total}"></progress>' if total else ""
        lines = "".join(f"<br>{html.escape(line)}" for line in self._said)
        return f"<div>{html.escape(task.description)} {bar} {html.escape(task.fields['status'])}{lines}</div>"

    def _changed(self, *, at_once: bool = False) -> None:
        with self._lock:
            now = time.monotonic()
            if self._shown is None or (not at_once and now - self._drawn < _REDRAW):
                return
            self._drawn = now
            self._shown.update(self._ipython.HTML(self._page()))


class ReportedWatch(Watch):
    """Progress that a function is called with, instead of a live line."""

    def __init__(self, on_step: OnStep) -> None:
        super().__init__(Console(stderr=True), shown=False)
        self._on_step = on_step

    def say(self, text: str) -> None:
        """Reports a line."""
        self._report(status=text)

    def found(self, record: object) -> None:
        """Reports a record."""
        self._report(record=record)

    def _report(self, **more: Any) -> None:
        task = self._progress.tasks[0]
        total = None if task.total is None else int(task.total)
        step = Step(task.description, int(task.completed), total, task.fields["status"])
        self._on_step(replace(step, **more))

    def _changed(self, *, at_once: bool = False) -> None:
        self._report()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@contextlib.contextmanager
def watching(*, resumes: Path | None) -> Iterator[Watch]:
    """Yields the live line of a call from Python, as far as the workspace wants it; the libraries are quiet.

    Warnings are kept in `watch.warnings`, and issued at the end.

    Args:
        resumes: The folder that the same call resumes from when it is interrupted, None if there is none.
    """
    console = Console(stderr=True, highlight=False)
    notebook, progress = in_notebook(), current_workspace().progress
    if callable(progress):
        watch: Watch = ReportedWatch(progress)
    else:
        drawn = (notebook or console.is_terminal) if progress is None else progress
        watch = NotebookWatch() if notebook and drawn else Watch(console, shown=drawn, lines=drawn)
    try:
        with quiet_libraries(watch.keep), watch:
            yield watch
    except KeyboardInterrupt:
        kept = f"the same call or command resumes from {resumes}"
        if resumes is None:
            kept = "nothing was kept, as there is no run_dir"
        console.print(f"Interrupted: {kept}.", markup=False, soft_wrap=True)
        raise
    finally:
        for warning in watch.warnings:
            notice(warning)


class Quiet(logging.Handler):
    """Counts the libraries' messages that are kept quiet."""

    def __init__(self) -> None:
        super().__init__()
        self.truncated = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a message."""
        self.truncated += "LM response was truncated" in str(record.msg)

    def notes(self) -> list[str]:
        """Returns remarks on them for the user."""
        were = "was" if self.truncated == 1 else "were"
        line = f"{counted(self.truncated, 'answer')} {were} cut off by the token limit of the model"
        return [line] if self.truncated else []


@contextlib.contextmanager
def quiet_libraries(on_warning: Callable[[Warning | str], object] = lambda warning: None) -> Iterator[Quiet]:
    """Keeps the libraries' logs and warnings off the terminal while the block runs.

    Args:
        on_warning: Called with each warning of this library, as it is issued.
    """
    quiet = Quiet()
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [quiet], False

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        on_warning(message)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", BlpoWarning)
        warnings.showwarning = show
        try:
            yield quiet
        finally:
            for logger, (handlers, propagate) in zip(loggers, before, strict=True):
                logger.handlers, logger.propagate = handlers, propagate
