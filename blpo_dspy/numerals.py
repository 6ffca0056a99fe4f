"""Numbers in an answer on a scale: which of them name a level, and which state the scale or count things."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blpo_dspy.labels import Label, LabelSpace

NUMERAL = r"(?P<number>\+?(?:0|[1-9][0-9]*)|-[1-9][0-9]*)(?:\.0+)?(?!\d| ?[-–—] ?\d)"
"""The pattern of a whole number, its digits as `number`, as an answer writes it; the end of a range is none."""

_MARKS = "[*_`]*"
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?!\w)")
# "has 2 dogs", "in 2 places": a number of things, no level.
_COUNT = re.compile(
    r"\b(?:has|have|had|having|shows?|showing|contains?|containing|with|in|on|at|by|are|were|because|since|for|of|about"
    r"|only|over|least|most|and|the|these|all) \d+"
    r" (?!(?:is|was|has|does|seems|looks|means|appears|feels|fits|suits)\b)"
    r"(?!(?:stars|points|levels|grades|scores|ratings|labels)\b)"
    r"(?:[a-z]+s|people|men|women|children)\b"
)
_BEFORE = 40
_HEDGED = re.compile(
    r"(?:\b(?:or|not|than|maybe|perhaps|possibly|rather|almost|nearly|to)|[(/–—-]) ?(?:an? )?(?:[a-z]+ )?$"
)


def out_of(space: LabelSpace) -> str:
    """Returns the pattern of what may follow a level: "/5", "out of 5", "of 5"; one that never matches off a scale."""
    low, high = space.labels[0], space.labels[-1]
    on_scale = space.ordered and isinstance(low, int) and low >= 0
    return rf"{_MARKS} ?(?:/|\(?(?:out )?of) ?{_MARKS}{high}(?:\.0+)?\b\)?" if on_scale else r"(?!)"


def without_scale(labels: tuple[Label, ...], line: str) -> str:
    """Returns a line without words that state the scale: "(on a scale of 1-5)", "(1 to 5)"."""
    span = rf"{labels[0]} ?(?:-|–|—|to) ?{labels[-1]}"
    stated = rf"\(?\b(?:on )?(?:a |the )?(?:scale (?:of |from )?{span}|{span} scale)\b\)?,?|\((?:from )?{span}\)"
    return " ".join(re.sub(stated, " ", line).split())


def named_numbers(space: LabelSpace, text: str) -> set[Label]:
    """Returns the levels that a text names, and numbers between two levels as text ("4.5"), which are no level.

    Beside a level that is named with its scale ("4/5") other numbers name none, unless they are put as an alternative.
    """
    scored = re.compile(rf"({_NUMBER.pattern}){out_of(space)}")
    text = _COUNT.sub(" ", text)
    on_scale = [match[1] for match in scored.finditer(text)]
    rest = scored.sub(" ", text)
    bare = [m[0] for m in _NUMBER.finditer(rest) if not on_scale or _HEDGED.search(rest[: m.start()][-_BEFORE:])]
    values = {float(number) for number in [*on_scale, *bare]}
    low, high = (float(f(int(label) for label in space.labels)) for f in (min, max))
    return {int(value) if value.is_integer() else str(value) for value in values if low <= value <= high}
