"""Numbers as a page writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from blpo_dspy.agreement.intervals import Interval, mean_sd

_NOTHING = 1e-9  # a rounding error of binary fractions, not a change
_MOST_MORE = 2


def figure(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Returns a number with the minus of print and no sign before a zero; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return (text if text.strip("+-0.,") else text.lstrip("+-")).replace("-", "−")


def ends(interval: Interval | Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """Returns the ends of an interval, which may be plain data; "" if there is none."""
    if interval is None:
        return ""
    plain = interval if isinstance(interval, Mapping) else asdict(interval)
    return f"{figure(plain['low'], signed=signed)} to {figure(plain['high'], signed=signed)}"


def spread(values: Iterable[float | None], digits: int = 2) -> str:
    """Returns mean ± standard deviation of the values that are defined, a dash if none is."""
    defined = [value for value in values if value is not None]
    if not defined:
        return "–"
    found = mean_sd(defined)
    deviation = "" if found.sd is None else figure(found.sd, digits)
    return figure(found.mean, digits) + (f" ± {deviation}" if deviation.strip("0.") else "")


def enough_digits(values: Iterable[float], least: int) -> int:
    """Returns the digits, at most two more than the least, that write no number as zero that isn't."""
    given = [value for value in values if abs(value) > _NOTHING]
    for digits in range(least, least + _MOST_MORE):
        if all(round(value, digits) for value in given):
            return digits
    return least + _MOST_MORE if given else least


def p_cell(value: float | None) -> str:
    """Returns a p-value for a table, a dash for None."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.2g}"


def p_value(value: float) -> str:
    """Returns a p-value with its relation, such as "p = 0.02", on one line."""
    cell = p_cell(value)
    return f"p {cell if cell.startswith('<') else f'= {cell}'}".replace(" ", "\N{NO-BREAK SPACE}")


def amount(value: float | None) -> str:
    """Returns a count, or a price, of the ledger."""
    return figure(value, 4 if isinstance(value, float) else 0)
