"""A hostile case and what holds for each: one clear error or the right result, in time, nothing half-written."""

from __future__ import annotations

import csv
import json
import re
import signal
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from blpo_dspy.errors import BlpoError, BlpoWarning
from blpo_dspy.models.seams import litellm_module

Given = TypeVar("Given")

# Seconds; far more than any case takes, as this is about hangs and not about speed.
BOUND = 20.0
_LONGEST_LINE, _LONGEST_TEXT = 1500, 12_000
_CONTROLS = {"Cc", "Zl", "Zp", "Cs"}


class HangError(BaseException):
    """A case that took longer than it may; no handler of ours or of a library takes it for an error of its own."""


@dataclass(frozen=True)
class Case:
    """Something that is done with hostile input.

    Attributes:
        recipe: How the input is made, as the name of the test.
        make: Writes what it needs into an empty folder and returns what `act` takes.
        act: What a user would do.
        right: Asserts that a result is right; None where only an error is.
        error: A pattern of the error's text; None where only a result is right.
        keeps: Patterns of files that may have grown when an error came: what was paid for.
    """

    recipe: str
    make: Callable[[Path], Any]
    act: Callable[[Any], Any]
    right: Callable[[Any], object] | None = None
    error: str | None = ""
    keeps: tuple[str, ...] = ()


def cases(family: Iterable[Case]) -> pytest.MarkDecorator:
    """Returns the parametrization of a test over a family of cases, named by their recipes."""
    found = list(family)
    names = [case.recipe.encode("ascii", "backslashreplace").decode() for case in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"recipes that don't tell cases apart: {twice}"
    assert not any(" at 0x" in name for name in names), "a recipe that no other process would write"
    params = [pytest.param(case, id=name) for case, name in zip(found, names, strict=True)]
    return pytest.mark.parametrize("case", params)


def hold(case: Case, folder: Path, bound: float = BOUND) -> None:
    """Does what a case says and asserts what holds for all of them."""
    given = case.make(folder)
    before = _files(folder)
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        try:
            with _in_time(bound):
                result = case.act(given)
        except BlpoError as error:
            _check_error(case, str(error))
            _check_kept(case, before, _files(folder))
        else:
            assert case.right is not None, f"taken without a word: {result!r:.300}"
            case.right(result)
            _check_whole({path: data for path, data in _files(folder).items() if before.get(path) != data})
    for warning in noticed:
        if issubclass(warning.category, BlpoWarning):
            check_text(str(warning.message))


def _check_error(case: Case, text: str) -> None:
    shown = text[:1000]
    assert case.error is not None, f"refused what is right: {shown}"
    check_text(text)
    assert re.search(case.error, text), f"{case.error!r} is not said by: {shown}"


def _check_kept(case: Case, before: dict[Path, bytes], after: dict[Path, bytes]) -> None:
    """After an error every file is as it was, but for what was paid for, which is whole."""
    kept = {path: data for path, data in after.items() if any(path.match(pattern) for pattern in case.keeps)}
    changed = [path.name for path in before if path not in kept and after.get(path) != before[path]]
    left = [path.name for path in after if path not in kept and path not in before]
    assert not changed, f"an error changed or removed {changed}"
    assert not left, f"an error left {left} behind"
    _check_whole(kept)


def check_text(text: str) -> None:
    """A text for people: said in full, in a few lines, without a stack, an address in memory or a forged line."""
    assert text.strip(), "an error without a word"
    assert len(text) <= _LONGEST_TEXT, f"a text of {len(text)} characters"
    for line in text.split("\n"):
        assert len(line) <= _LONGEST_LINE, f"a line of {len(line)} characters: {line[:200]!r}"
    assert "Traceback (most recent" not in text, text
    assert " object at 0x" not in text, text
    raw = sorted({c for c in text if c != "\n" and unicodedata.category(c) in _CONTROLS})
    assert not raw, f"raw control characters {raw!r} in {text!r}"


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _check_whole(files: dict[Path, bytes]) -> None:
    """Every file that was written is one that others can read to its end."""
    for path, data in files.items():
        if path.suffix == ".json":
            json.loads(data)
        elif path.suffix == ".jsonl":
            assert not data or data.endswith(b"\n"), f"{path.name} ends within a line"
            for line in data.splitlines():
                json.loads(line)
        elif path.suffix == ".csv":
            rows = list(csv.reader(data.decode().splitlines(keepends=True), strict=True))
            assert len({len(row) for row in rows}) == 1, f"{path.name} has rows of different lengths"
        else:
            assert data.startswith(b"SQLite format 3"), f"{path.name} was left behind"


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """Ends what takes too long, and again each second where a thread is still waited for."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise HangError(f"no end after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def import_litellm() -> None:
    """Imports what DSPy imports late: it takes seconds the first time, which no case is to be blamed for."""
    litellm_module()


def in_folder(given: Given) -> Callable[[Path], Given]:
    """Returns a `make` that needs no folder."""
    return lambda folder: given
