"""How the command line ends: one message and an exit code for what a user can put right."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from blpo_dspy.cli.flags import with_flags
from blpo_dspy.errors import BlpoError, DataError, brief, gathered
from blpo_dspy.files import writing_output

_BAD_INPUT = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141  # as for a process that SIGPIPE ends
_CACHED = " DSPy's cache keeps answers unless --no-cache is given, and --run-dir does: the same command resumes."
_HOW_TO_RESUME = {
    "calibrate": _CACHED,
    "evaluate": _CACHED,
    "compile": " A run with --run-dir resumes from here when repeated.",
    "label": " Labels and verdicts are kept, and the same command resumes.",
    "judge": " With --out FILE verdicts are kept, and the same command resumes.",
}
_MOST_PROBLEMS = 1000


class Exits(TyperGroup):
    """Turns what a user can put right into one message; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            if sys.stdout is None:
                raise BlpoError("standard output is closed; redirect it to a file, or to /dev/null")
            result = super().invoke(ctx)
            with writing_output():
                sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader is gone, as after `| head`.
            _drop_output()
            raise typer.Exit(_BROKEN_PIPE) from None
        except BlpoError as error:
            typer.echo(f"Error: {with_flags(_message(error), error.options)}", err=True)
            _drop_output()
            raise typer.Exit(_BAD_INPUT) from None
        except OSError as error:
            if error.filename is None:
                raise
            typer.echo(f"Error: {brief(error.filename)}: {error.strerror}; give another path", err=True)
            raise typer.Exit(_BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo(f"Interrupted; no result was written.{_HOW_TO_RESUME.get(ctx.invoked_subcommand, '')}", err=True)
            raise typer.Exit(_INTERRUPTED) from None


def _drop_output() -> None:
    """Leaves nothing in the buffer of standard output, as it would fail once more at the end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _message(error: BlpoError) -> str:
    """The error in full: where the exception's own text names the first bad rows, a terminal has room for all."""
    if not isinstance(error, DataError) or not error.problems:
        return str(error)
    lines = gathered(error.problems, _MOST_PROBLEMS)
    more = len(lines) - _MOST_PROBLEMS
    shown = [f"  - {line}" for line in lines[:_MOST_PROBLEMS]]
    return "\n".join([error.summary, *shown, *([f"  … and {more} more"] if more > 0 else [])])
