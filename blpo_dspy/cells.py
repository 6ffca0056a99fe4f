"""Values of others in tables that people open in a spreadsheet."""

from __future__ import annotations

import re

# A cell that begins so is run as a formula by spreadsheets.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def spreadsheet_cell(value: object) -> object:
    """Returns a value for a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    harmless = not isinstance(value, str) or not value.startswith(_FORMULA) or _NUMBER.fullmatch(value)
    return value if harmless else f"'{value}"
