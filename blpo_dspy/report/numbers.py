"""Numbers as a page writes them."""

from __future__ import annotations

from collections.abc import Iterable

_NOTHING = 1e-9  # a rounding error of binary fractions, not a change
_MOST_MORE = 2


def figure(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Returns a number with the minus of print and no sign before a zero; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return (text if text.strip("+-0.,") else text.lstrip("+-")).replace("-", "−")


def enough_digits(values: Iterable[float], least: int) -> int:
    """Returns the digits, at most two more than the least, that write no number as zero that isn't."""
    given = [value for value in values if abs(value) > _NOTHING]
    for digits in range(least, least + _MOST_MORE):
        if all(round(value, digits) for value in given):
            return digits
    return least + _MOST_MORE if given else least


def p_value(value: float) -> str:
    """Returns a p-value with its relation, such as "p = 0.02", on one line."""
    return "p\N{NO-BREAK SPACE}" + ("< 0.001" if value < 0.001 else f"= {value:.2g}").replace(" ", "\N{NO-BREAK SPACE}")


def amount(value: float | None) -> str:
    """Returns a count, or a price, of the ledger."""
    return figure(value, 4 if isinstance(value, float) else 0)
