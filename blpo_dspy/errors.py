"""The errors that this library raises for what a user can put right."""

from __future__ import annotations

import inspect
import re
import reprlib
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

# Control characters, line and paragraph separators, what turns the direction of writing, and halves of surrogates,
# which no stream can encode.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


_SHOWN = 20
# From so many places with the same problem on, one line lists them.
_ALIKE = 4


class BlpoError(ValueError):
    """A problem with input, configuration or models; its text says what, why and what to do instead.

    Characters that could reach a terminal as commands are escaped in it.

    Args:
        text: What, why and what to do instead.
        *more: Further arguments of the exception.
        option: The option that it is about, or several, by the names in Python that the text has, such as
            `allow_outside` where it says `allow_outside=True`; an interface with other names shows its own instead.

    Attributes:
        options: These names.
    """

    def __init__(self, text: object = "", *more: object, option: str | Sequence[str] = ()) -> None:
        self.options = _names(option)
        super().__init__(shown(text, lines=True), *more)


class DataError(BlpoError):
    """Rows or files of a dataset that cannot be used; all of them are named at once.

    Attributes:
        summary: One sentence: what is wrong and what to do instead.
        problems: One line per bad row or file.
    """

    def __init__(self, summary: str, problems: Sequence[str] = (), *, option: str | Sequence[str] = ()) -> None:
        self.summary = shown(summary, lines=True)
        self.problems = tuple(map(shown, problems))
        lines = gathered(self.problems, _SHOWN)
        listed = [f"  - {line}" for line in lines[:_SHOWN]]
        if len(lines) > _SHOWN:
            listed.append(f"  … and {len(lines) - _SHOWN} more (all of them in .problems)")
        super().__init__("\n".join([summary, *listed]), option=option)


def gathered(problems: Sequence[str], most: int) -> list[str]:
    """Returns a line for each problem ("where: what"), and one alone for all places with the same.

    Args:
        problems: The problems.
        most: How many places a line names.
    """
    places: dict[str, list[str]] = {}
    for problem in problems:
        where, _, what = problem.partition(": ")
        places.setdefault(what or where, []).append(where)
    lines = []
    for what, found in places.items():
        if len(found) < _ALIKE:
            lines += [where if where == what else f"{where}: {what}" for where in found]
        else:
            more = f" and {len(found) - most} more" if len(found) > most else ""
            lines.append(f"{len(found)} rows: {what} ({', '.join(found[:most])}{more})")
    return lines


class ArtifactError(BlpoError):
    """A file that is not a judge this version can load."""


class ModelError(BlpoError):
    """A model that cannot be reached, refuses the call, or never gives a usable answer."""


def cause(error: BaseException, longest: int = 200) -> str:
    """Returns kind and text of an error in one line, as `brief` does."""
    return brief(" ".join(f"{type(error).__name__}: {error}".split()), longest)


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], called: str, instead: str) -> None:
    """Refuses a value of another type.

    Raises:
        BlpoError: Naming the argument, its value, what that is not and what to write instead.
    """
    if not isinstance(value, kind):
        raise BlpoError(f"{name}={shown(reprlib.repr(value))} is not a {called}; write {instead}", option=name)


def check_least(name: str, value: Any, minimum: float) -> None:
    """Refuses a value below its least one; that being an int, it has to be a whole number.

    Raises:
        BlpoError: Naming the option and its value.
    """
    kind, called = (Integral, "a whole number") if isinstance(minimum, int) else (Real, "a number")
    if not isinstance(value, kind):
        raise BlpoError(f"{name}={value!r} is not {called}", option=name)
    number: Any = value  # compared as it is: a whole number may exceed any float
    if not number >= minimum:
        raise BlpoError(f"{name}={value!r} is too small; it must be at least {minimum}", option=name)


class BlpoWarning(UserWarning):
    """A warning of this library, as opposed to those of the libraries below it; `options` as in `BlpoError`."""

    def __init__(self, text: str, *, option: str | Sequence[str] = ()) -> None:
        self.options = _names(option)
        super().__init__(text)


def _names(option: str | Sequence[str]) -> tuple[str, ...]:
    return (option,) if isinstance(option, str) else tuple(option)


_INSIDE = ("blpo_dspy", "dspy", "contextlib", "functools")


def notice(text: str, *, option: str | Sequence[str] = ()) -> None:
    """Warns of something at the line that called into this library, however deep below it this is."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _INSIDE:
        level, frame = level + 1, frame.f_back
    warnings.warn(BlpoWarning(shown(text, lines=True), option=option), stacklevel=level)


def shown(text: object, *, lines: bool = False) -> str:
    """Returns text of others as one line of a terminal, table or message holds it.

    Characters that would end the line, move the cursor or turn the direction of writing become escapes as in Python's
    `repr`, so that a name can neither forge a line nor reach the terminal as a command.

    Args:
        text: The text, such as a file name.
        lines: Whether it has lines of its own, which stay.
    """
    return _UNSAFE.sub(lambda found: _kept(found[0], lines), str(text))


def _kept(character: str, lines: bool) -> str:
    return character if lines and character == "\n" else repr(character)[1:-1]


def in_json(text: str) -> str:
    """Returns JSON in which such characters, but for the line breaks between its values, are escapes."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def counted(count: int, what: str) -> str:
    """Returns a number of things in words."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def brief(text: object, longest: int = 200) -> str:
    """Returns text of others as `shown` does, with its middle left out if it is long."""
    text = str(text)
    return shown(text if len(text) <= longest else f"{text[:60]}…{text[-100:]}")
