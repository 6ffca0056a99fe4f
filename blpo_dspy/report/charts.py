"""A line chart as coordinates; the page draws them as SVG in its own colours, light or dark.

A plotting library would write fixed colours and fonts, ten times the bytes, and no line that a style can reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blpo_dspy.statistics import Interval

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 12, 10, 30


@dataclass(frozen=True)
class Point:
    """One measured figure: where it stands, what a reader is told about it, and whether it is the one returned."""

    x: float
    y: float
    interval: Interval | None
    text: str
    returned: bool = False


@dataclass(frozen=True)
class Mark:
    """A point in the drawing's coordinates; `low` and `high` are the ends of its interval."""

    x: float
    y: float
    low: float
    high: float
    text: str
    returned: bool


@dataclass(frozen=True)
class Chart:
    """A drawing of `WIDTH` × `HEIGHT` units.

    Attributes:
        marks: The points from left to right.
        rows: Height and text of each horizontal grid line.
        columns: Position and text of each tick below.
    """

    marks: tuple[Mark, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM

    @property
    def line(self) -> str:
        """The points of a polyline."""
        return " ".join(f"{mark.x},{mark.y}" for mark in self.marks)


def line_chart(points: Sequence[Point]) -> Chart:
    """Returns the chart of points, of which there must be at least one, ordered by x; y is at most 1."""
    lows = [point.y if point.interval is None else point.interval.low for point in points]
    lowest = min(0.8, *(int(low * 5 - (low < 0)) / 5 for low in lows))
    farthest = max(point.x for point in points) or 1

    def across(x: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * x / farthest, 1)

    def up(y: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - y) / (1 - lowest), 1)

    marks = tuple(
        Mark(
            across(p.x),
            up(p.y),
            up(p.y if p.interval is None else p.interval.low),
            up(p.y if p.interval is None else p.interval.high),
            p.text,
            p.returned,
        )
        for p in points
    )
    levels = [lowest + 0.2 * step for step in range(round((1 - lowest) / 0.2) + 1)]
    step = _tick(farthest)
    ticks = [step * i for i in range(int(farthest // step) + 1)]
    return Chart(marks, tuple((up(y), f"{y:.1f}") for y in levels), tuple((across(x), f"{x:,}") for x in ticks))


def _tick(farthest: float) -> int:
    """A round distance between ticks, so that there are three to six of them."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if farthest / (factor * scale) <= 5:
                return factor * scale
        scale *= 10
