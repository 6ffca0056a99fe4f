"""Pages of this package, rendered by Jinja with every text escaped, and written complete or not at all."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path

import jinja2

from blpo_dspy.errors import BlpoError
from blpo_dspy.files import replacing
from blpo_dspy.report.numbers import amount, ends, figure

REPORT_DATA, THUMBNAILS = "report.json", "thumbnails"


_ADDRESSES = ("--api-base",)
_ABSOLUTE = re.compile(r"""(?:^|(?<=[\s'"=(]))(?:[A-Za-z]:)?[/\\][^\s;,'"():]+""")


def today() -> str:
    """Returns the day, as a report names it."""
    return datetime.now(timezone.utc).date().isoformat()


def relative_paths(text: str, folder: Path) -> str:
    """Returns a text whose absolute paths are relative to a folder: a page is passed on, and with it a user's name.

    What only looks like a path, as no file or folder at the top has its name, stays.
    """

    def relative(found: re.Match[str]) -> str:
        path = Path(found[0])
        if not (path.is_absolute() and Path(*path.parts[:2]).exists()):
            return found[0]
        try:
            return Path(os.path.relpath(path, folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return path.name

    return _ABSOLUTE.sub(relative, text)


def command_line(words: Sequence[str], folder: Path) -> str:
    """Returns a command line to show with a folder: quoted where need be, without addresses and absolute paths."""
    shown_words = (_without_address(word, previous) for previous, word in zip(["", *words], words, strict=False))
    return relative_paths(shlex.join(shown_words), folder)


def _without_address(word: str, previous: str) -> str:
    """A word of the command line; an address may hold a key."""
    option, equals, _ = word.partition("=")
    if previous in _ADDRESSES:
        return "URL"
    return f"{option}=URL" if equals and option in _ADDRESSES else word


def fill(template: str, page: object, package: str = "blpo_dspy.report", folder: str = ".") -> str:
    """Returns a page of this package with every text escaped; its template is in a folder of one of our rooms."""
    return _templates(package, folder).get_template(template).render(page=page, version=metadata.version("blpo-dspy"))


@cache
def _templates(package: str, folder: str) -> jinja2.Environment:
    """The templates of a folder, which are compiled once in a process."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, amount=amount, ends=ends)
    return environment


def write_page(file: Path, text: str) -> Path:
    """Writes a page to a file, complete or not at all, and returns its path.

    Raises:
        BlpoError: If the file cannot be written.
    """
    try:
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise BlpoError(f"{file}: cannot be written ({error.strerror or error})") from error
    return file
