"""A line chart as coordinates; the page draws them as SVG in its own colours, light or dark.

A plotting library would write fixed colours and fonts, ten times the bytes, and no line that a style can reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from blpo_dspy.statistics import Interval

# In pixels: each chart is drawn twice, for a desk and for a phone, so that its text is of one size on both.
SIZES = {"wide": (984, 300), "narrow": (326, 240)}
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 16, 12, 38
_MOST_ROWS = 6


@dataclass(frozen=True)
class Point:
    """One measured figure: where it stands, what a reader is told about it, and whether it is the one returned."""

    x: float
    y: float
    interval: Interval | None
    text: str
    returned: bool = False


@dataclass(frozen=True)
class Series:
    """Points that belong together, from left to right, and the corners of the line drawn through or beside them."""

    points: tuple[Point, ...]
    corners: tuple[tuple[float, float], ...]
    name: str = ""

    @classmethod
    def through(cls, points: Sequence[Point]) -> Series:
        """Returns points joined by straight lines."""
        return cls(tuple(points), tuple((point.x, point.y) for point in points))


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
class Line:
    """A series in the drawing's coordinates; `path` holds the points of a polyline."""

    name: str
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        size: Its name among `SIZES`.
        lines: What is drawn, in order.
        rows: Height and text of each horizontal grid line.
        columns: Position and text of each tick below.
        width: In pixels.
        height: Likewise.
    """

    size: str
    lines: tuple[Line, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    width: int
    height: int
    left: int = _LEFT

    @property
    def right(self) -> int:
        """Where the frame ends."""
        return self.width - _RIGHT

    @property
    def bottom(self) -> int:
        """Where the lower axis is."""
        return self.height - _BOTTOM


def line_charts(series: Sequence[Series]) -> tuple[Chart, ...]:
    """Returns the chart of at least one series in each size; no figure is above 1."""
    return tuple(_chart(series, size) for size in SIZES)


def stepped(corners: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Returns the corners of a line that keeps each value up to the next one."""
    found = [*corners[:1]]
    for (_, before), (x, after) in pairwise(corners):
        found += [(x, before), (x, after)]
    return tuple(found)


def _chart(series: Sequence[Series], size: str) -> Chart:
    width, height = SIZES[size]
    levels = _levels(series)
    lowest, highest = levels[0], levels[-1]
    xs = [x for one in series for x in (*(p.x for p in one.points), *(x for x, _ in one.corners))]
    farthest = max(xs, default=1) or 1

    def across(x: float) -> float:
        return round(_LEFT + (width - _LEFT - _RIGHT) * x / farthest, 1)

    def up(y: float) -> float:
        return round(_TOP + (height - _TOP - _BOTTOM) * (highest - y) / (highest - lowest), 1)

    def mark(p: Point) -> Mark:
        low, high = (p.y, p.y) if p.interval is None else (p.interval.low, p.interval.high)
        return Mark(across(p.x), up(p.y), up(low), up(high), p.text, p.returned)

    lines = tuple(
        Line(one.name, " ".join(f"{across(x)},{up(y)}" for x, y in one.corners), tuple(map(mark, one.points)))
        for one in series
    )
    step = _tick(farthest, 8 if size == "wide" else 4)
    columns = tuple((across(step * i), f"{step * i:,}") for i in range(int(farthest // step) + 1))
    return Chart(
        size,
        lines,
        tuple((up(y), f"{y:.2f}".removesuffix("0").replace("-", "−")) for y in levels),
        columns,
        width,
        height,
    )


def _levels(series: Sequence[Series]) -> list[float]:
    """Round levels from below the lowest figure or interval to above the highest."""
    ends = [y for one in series for _, y in one.corners]
    for point in (point for one in series for point in one.points):
        ends += [point.y] if point.interval is None else [point.interval.low, point.interval.high]
    for step in (5, 10, 20, 50):  # hundredths
        lowest, highest = math.floor(min(ends) * 100 / step), math.ceil(min(max(ends), 1) * 100 / step)
        lowest = min(lowest, highest - 2)
        if highest - lowest < _MOST_ROWS:
            break
    return [level * step / 100 for level in range(lowest, highest + 1)]


def _tick(farthest: float, most: int) -> int:
    """A round distance between ticks, so that there are no more of them than that beside the one at zero."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if farthest / (factor * scale) <= most:
                return factor * scale
        scale *= 10
