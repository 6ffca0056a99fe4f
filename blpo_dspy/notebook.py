"""How objects show in a notebook: short tables, every cell escaped."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Sequence

LONGEST = 200
"""Characters of what an object shows in an interactive session."""
_NUMBER = re.compile(r"[–\d][\d.,]*")


def html_table(rows: Sequence[Sequence[object]]) -> str:
    """Returns rows of cells, the first of them the header, as an HTML table that loads nothing; text stands left."""
    tags = ["th", *["td"] * (len(rows) - 1)]
    return f"<table>{''.join(map(_row, tags, rows))}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(_cell(tag, str(cell)) for cell in cells) + "</tr>"


def _cell(tag: str, text: str) -> str:
    style = "" if tag == "th" or _NUMBER.fullmatch(text) else ' style="text-align:left"'
    return f"<{tag}{style}>{html.escape(text)}</{tag}>"


def one_line(thing: object, text: str) -> str:
    """Returns the `repr` of an object: its type and a text about it, on one line of at most `LONGEST` characters."""
    name = type(thing).__name__
    return f"{name}({textwrap.shorten(text, LONGEST - len(name) - 2, placeholder=' …')})"


def share(value: float | None) -> str:
    """Returns a figure with two digits, or a dash for one that is undefined."""
    return "–" if value is None else f"{value:.2f}"
