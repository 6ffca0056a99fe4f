"""Pages of this package, rendered by Jinja with every text escaped, and written complete or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jinja2

from blpo_dspy.errors import BlpoError
from blpo_dspy.files import replacing
from blpo_dspy.report.numbers import amount, figure
from blpo_dspy.report.run.record import relative_paths

REPORT_DATA, THUMBNAILS = "report.json", "thumbnails"


_ADDRESSES = ("--api-base",)


def command_line(words: Sequence[str], folder: Path) -> str:
    """Returns a command line to show beside a folder: quoted where need be, without addresses and absolute paths."""
    told = (_without_address(word, previous) for previous, word in zip(["", *words], words, strict=False))
    return relative_paths(shlex.join(told), folder)


def _without_address(word: str, previous: str) -> str:
    """A word of the command line; an address may hold a key."""
    option, equals, _ = word.partition("=")
    if previous in _ADDRESSES:
        return "URL"
    return f"{option}=URL" if equals and option in _ADDRESSES else word


def fill(template: str, page: object) -> str:
    """Returns a page of this package with every text escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("blpo_dspy.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(figure=figure, amount=amount)
    return environment.get_template(template).render(page=page, version=metadata.version("blpo-dspy"))


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
