"""A range of scores, of which labels are numbers rather than members of a closed set."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from types import MappingProxyType
from typing import Any, ClassVar

from blpo_dspy.data.labels.normalize import Label, as_text, normal
from blpo_dspy.errors import BlpoError, brief

BINS = 5
"""So many bins of equal size scores are put into where labels of a closed set would stand for themselves."""

_TOLERANCE = 0.1
_EXAMPLE = "LabelSpace.scores(0, 100)"
_CELL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")
_ANSWER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?")
_ROUNDING, _DIGITS = 1e-9, 9


def plain(number: float) -> int | float:
    """Returns a number as people write it: a whole one without a decimal point."""
    return int(number) if float(number).is_integer() else float(number)


@dataclass(frozen=True)
class ScoreRange:
    """The numbers from `low` to `high`, all of them or those in steps.

    Args:
        low: The lowest score.
        high: The highest score.
        step: How far neighbouring scores are apart; None if any decimal is a score.
        tolerance: Up to this distance, in points, two scores count as the same.
    """

    low: float
    high: float
    step: float | None
    tolerance: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "step":
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
                raise BlpoError(f"{field.name}={brief(repr(value))} is not a number; write {_EXAMPLE}")
            object.__setattr__(self, field.name, plain(float(value)))
        if not self.low < self.high:
            raise BlpoError(f"scores range from a lower to a higher number, got {self.low} to {self.high}")
        if self.step is not None and not self._fits(self.step):
            raise BlpoError(
                f"step={self.step} does not divide the range from {self.low} to {self.high} into equal parts; give a "
                "positive step that does, or none to allow any decimal"
            )
        if not 0 <= self.tolerance < self.span:
            raise BlpoError(
                f"tolerance={self.tolerance} is not a distance from 0 to below {self.span}, the width of the range; "
                "it is how far an answer may be off and still count as right"
            )

    @classmethod
    def of(cls, low: float, high: float, step: float | None, tolerance: float | None) -> ScoreRange:
        """Returns a range; without a tolerance a tenth of its width."""
        if tolerance is None:
            tolerance = plain(round(_TOLERANCE * (cls(low, high, step, 0).span), _DIGITS))
        return cls(low, high, step, tolerance)

    def _fits(self, step: float) -> bool:
        steps = self.span / step if step > 0 else 0.0
        return round(steps) >= 1 and abs(steps - round(steps)) < _ROUNDING * max(1.0, steps)

    @property
    def span(self) -> float:
        """The distance from the lowest to the highest score."""
        return plain(self.high - self.low)

    def __contains__(self, value: object) -> bool:
        """Whether a value is a number of the range, in its steps."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < _ROUNDING * max(1.0, steps)

    def right(self, label: float, predicted: float) -> bool:
        """Whether two scores count as the same."""
        return abs(label - predicted) / self.span <= self.tolerated

    @property
    def tolerated(self) -> float:
        """The tolerance as a part of the range, and as little more as rounding may add."""
        return self.tolerance / self.span + _ROUNDING

    def part(self, score: float) -> float:
        """Returns where in the range a score lies, from 0 to 1."""
        return (score - self.low) / self.span

    def at(self, part: float) -> float:
        """Returns the score, to the nearest step or thousandth of the range, at a part of it; its ends are kept to."""
        within = min(1.0, max(0.0, part))
        return self.nearest(self.low + (within if self.step is not None else round(within, 3)) * self.span)

    def nearest(self, number: float) -> float:
        """Returns the score that is nearest to a number within the range, the lower of two equally near."""
        if self.step is None:
            return plain(round(number, _DIGITS))
        steps = math.ceil((number - self.low) / self.step - 0.5 - _ROUNDING)
        return plain(round(self.low + steps * self.step, _DIGITS))

    def direction(self, label: float, predicted: float) -> str:
        """Returns how a predicted score misses the human one, in words; "" if they are equal."""
        off = round(predicted - label, _DIGITS)
        if not off:
            return ""
        remark = f" (within the tolerance of {self.tolerance})" if self.right(label, predicted) else ""
        return f"judge {plain(abs(off))} too {'high' if off > 0 else 'low'}{remark}"

    def describe(self) -> str:
        """Returns the range in words, as a prompt or an error message states it."""
        steps = "decimals are allowed" if self.step is None else f"in steps of {self.step}"
        return f"a number from {self.low} to {self.high} ({steps})"

    def coerce(self, value: object) -> Label:
        """Returns the score that a cell of a dataset stands for, a whole number without a decimal point."""
        text = "" if isinstance(value, bool) else normal(as_text(value))
        if _CELL.fullmatch(text):
            score = plain(float(text)) if math.isfinite(float(text)) else math.inf
            if score in self:
                return score
        comma = "; write decimals with a point" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise BlpoError(f"{brief(repr(value))} is not {self.describe()}{comma}")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {"kind": "scores", **{field.name: getattr(self, field.name) for field in fields(self)}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScoreRange:
        """Returns the range that `to_dict` wrote."""
        names = [field.name for field in fields(cls)]
        if set(data) != {"kind", *names}:
            raise BlpoError(
                f"not a range of scores: {brief(dict(data))}; expected the entries kind, {', '.join(names)}"
            )
        return cls(**{name: data[name] for name in names})

    # What parsing an answer needs, as of a closed set of labels.

    numeric = ordered = decimals = True
    by_name: ClassVar[Mapping[str, Label]] = MappingProxyType({})
    characters: ClassVar[frozenset[str]] = frozenset("+-.0123456789")

    @property
    def ends(self) -> tuple[Label, Label]:
        """The lowest and the highest score."""
        return plain(self.low), plain(self.high)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest score."""
        return self.low, self.high

    def named(self, text: str) -> Label | None:
        """Returns the score that a numeral in normal form is, None if it is none of the range."""
        if not _ANSWER.fullmatch(text) or not math.isfinite(float(text)):
            return None
        score = plain(float(text))
        return score if score in self else None


def quantile_bins(scores: Sequence[float], least: int = 1) -> tuple[tuple[str, ...], list[str]]:
    """Puts scores into at most five bins of equal size, as far as equal scores, which stay together, allow.

    Returns the names of the bins, lowest first ("0–17.5"), and for each score that of its bin, which has about `least`
    scores at the least.
    """
    bins = max(1, min(BINS, len(scores) // max(1, least)))
    order = sorted(scores)
    edges = [order[len(order) * i // bins] for i in range(1, bins)]
    places = [sum(score >= edge for edge in edges) for score in scores]
    members: dict[int, list[float]] = {}
    for place, score in zip(places, scores, strict=True):
        members.setdefault(place, []).append(score)
    names = {place: _span_of(found) for place, found in sorted(members.items())}
    return tuple(names.values()), [names[place] for place in places]


def _span_of(scores: Sequence[float]) -> str:
    low, high = plain(min(scores)), plain(max(scores))
    return str(low) if low == high else f"{low}–{high}"
