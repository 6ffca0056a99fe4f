"""Charts by matplotlib: inline SVG in the page's own font and colours, light or dark, or a picture."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In pixels: each chart is drawn twice, for a desk and for a phone, so that its text is of one size on both.
WIDTHS = {"wide": 984, "narrow": 326}
# The light scheme's colours, by which a picture is drawn, and the style variables that stand for them on a page.
_INK, _QUIET, _LINE, _CARD = "#1c2230", "#5c6577", "#dfe3ea", "#ffffff"
_SERIES = ("#2f5fd0", "#c2571a", "#1b8a5a", "#9a3fb5", "#b8860b", "#c22f5b", "#16818f", "#6b6f7b")
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _LINE: "--line", _CARD: "--card", _SERIES[0]: "--accent"}
_VARIABLES |= {colour: f"--c{i}" for i, colour in enumerate(_SERIES) if i}
_STYLE = {
    "axes.facecolor": "none",
    "axes.autolimit_mode": "round_numbers",
    "axes.xmargin": 0,
    "axes.ymargin": 0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": _QUIET,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.1,  # inches, of 72 pixels each: room for a dot at the edge
    "figure.constrained_layout.w_pad": 0.1,
    "figure.facecolor": "none",
    "font.size": 12.5,  # points; one is a pixel
    "grid.color": _LINE,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "legend.labelcolor": _INK,
    "lines.linewidth": 2.25,
    "lines.markersize": 9,
    "lines.markeredgewidth": 2.25,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "xtick.labelcolor": _QUIET,
    "ytick.labelcolor": _QUIET,
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.major.pad": 10,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
}
_TIP = "tip "
_FREE: dict[str, Any] = {"clip_on": False, "in_layout": False}  # whole at the edge, which it does not move
_MOST_LETTERS, _MOST_PAIRS = 28, 250


@dataclass(frozen=True)
class Point:
    """One measured figure.

    Attributes:
        value: The figure.
        ends: The ends of its interval, if it has one.
        text: Its description for a reader.
        spent: LM calls until then.
        filled: Whether its dot is.
    """

    value: float
    ends: tuple[float, float] | None
    text: str
    spent: float = 0
    filled: bool = True


@dataclass(frozen=True)
class Series:
    """Points that belong together, and the corners (calls, value) of the line drawn through or near them."""

    name: str
    points: tuple[Point, ...]
    corners: tuple[tuple[float, float], ...] = ()
    stepped: bool = False


def line_chart(series: Sequence[Series], what: str) -> str:
    """Returns a figure against the calls spent, with a legend of the series that have names."""
    rows = sum(bool(one.name) for one in series)
    heights = {"wide": max(300, 50 + 23 * rows), "narrow": 240 + 23 * rows}
    return _inline(lambda figure, wide: _lines(figure, series, wide), heights, f"{what} against LM calls", series)


def save_line_chart(series: Sequence[Series], what: str, path: Path) -> None:
    """Writes the same as a picture.

    Raises:
        OSError: If it cannot be written.
    """
    with _drawing() as new_figure:
        figure = new_figure(WIDTHS["wide"], max(480, 50 + 23 * len(series)))
        _lines(figure, series, True).set_ylabel(what)
        figure.savefig(path, dpi=144, facecolor="white")


def dot_chart(series: Sequence[Series], what: str, base: float | None) -> str:
    """Returns each series as a row with a dot and interval for each point, their mean, and a line at `base`."""
    dots = sum(len(one.points) for one in series)
    heights = {"wide": 40 + 16 * len(series) + 11 * dots, "narrow": 40 + 36 * len(series) + 11 * dots}
    return _inline(lambda figure, wide: _dots(figure, series, base, wide), heights, what, series)


@dataclass(frozen=True)
class Plane:
    """Pairs of numbers of the same range, people's and a judge's, under a title."""

    title: str
    pairs: tuple[tuple[float, float], ...]


def scatter_chart(planes: Sequence[Plane], low: float, high: float, tolerance: float, text: str) -> str:
    """Returns people's scores against a judge's, a square for each judge, with a band where the two count as the same.

    Args:
        planes: What the squares show; of many pairs evenly picked ones.
        low: The lowest score.
        high: The highest score.
        tolerance: How wide the band is to each side.
        text: What there is to see, for a reader who can't.
    """
    heights = {"wide": 430, "narrow": 330 * len(planes)}
    described = [Series("", (Point(0.0, None, text),))]
    return _inline(lambda f, wide: _squares(f, planes, (low, high), tolerance, wide), heights, "Scores", described)


def _squares(figure: Figure, planes: Sequence[Plane], ends: tuple[float, float], tolerance: float, wide: bool) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see _drawing

    shape = (1, len(planes)) if wide else (len(planes), 1)
    for axes, plane in zip(figure.subplots(*shape, squeeze=False).flat, planes, strict=True):
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_box_aspect(1)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        (low, high), corners = ends, sorted({*ends, ends[0] + tolerance, ends[1] - tolerance})
        lower, upper = ([min(high, max(low, x + side)) for x in corners] for side in (-tolerance, tolerance))
        axes.fill_between(corners, lower, upper, color=_SERIES[2], alpha=0.14, linewidth=0)
        axes.plot(ends, ends, color=_QUIET, linestyle="--", linewidth=1.5)
        shown = plane.pairs[:: -(-len(plane.pairs) // _MOST_PAIRS) or 1]
        look: dict[str, Any] = {"color": _SERIES[0], "alpha": 0.5, "markeredgewidth": 0, **_FREE}
        axes.plot([x for x, _ in shown], [y for _, y in shown], "o", markersize=7, **look)
        axes.set_title(_plain(plane.title), color=_INK, loc="left")
        axes.set_xlabel("People’s score", loc="right")
        axes.set_ylabel("Judge’s score", loc="top")


def _lines(figure: Figure, series: Sequence[Series], wide: bool) -> Axes:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see _drawing

    axes = figure.subplots()
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(8 if wide else 4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.ticklabel_format(axis="y", useOffset=False)
    if _alone(series):
        axes.set_ylim(0, 1)
    for place, one in enumerate(series):
        look: dict[str, Any] = {"color": _SERIES[place % len(_SERIES)], **_FREE}
        cycle = place // len(_SERIES) % 3
        dash, marker = ("-", "--", ":")[cycle], "osD"[cycle]
        for point in one.points:
            if point.ends:
                axes.plot([point.spent] * 2, point.ends, linewidth=6, alpha=0.22, **look)
        look["drawstyle"] = "steps-post" if one.stepped else "default"
        axes.plot([x for x, _ in one.corners], [y for _, y in one.corners], linestyle=dash, **look)
        for point in one.points:
            dot = {"marker": marker, "linestyle": "none", "gid": _TIP + _plain(point.text), **look}
            if one.name and point.filled:  # with a rim, so that dots that overlap are distinguishable
                dot |= {"markeredgecolor": _CARD, "markeredgewidth": 1.25}
            axes.plot([point.spent], [point.value], markerfacecolor=None if point.filled else _CARD, **dot)
        if one.name:
            label = f"{one.points[-1].value:.2f}  {_short(one.name)}"
            axes.plot([], [], linestyle=dash if one.corners else "none", marker=marker, label=label, **look)
    spent = [point.spent for one in series for point in one.points] + [x for one in series for x, _ in one.corners]
    axes.set_xlim(0, max(spent, default=0) or 1)
    axes.set_xlabel("LM calls", loc="right")
    if any(one.name for one in series):
        figure.legend(loc="outside right upper" if wide else "outside lower left")
    return axes


def _alone(series: Sequence[Series]) -> bool:
    """Whether nothing says which part of the axis matters: one method of a comparison, or a lone figure, in [0, 1]."""
    heights = {y for one in series for point in one.points for y in (point.value, *(point.ends or ()))}
    heights |= {y for one in series for _, y in one.corners}
    return len(series) == 1 and (bool(series[0].name) or len(heights) == 1) and all(0 <= y <= 1 for y in heights)


def _dots(figure: Figure, series: Sequence[Series], base: float | None, wide: bool) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - see _drawing

    axes = figure.subplots()
    axes.grid(visible=False, axis="y")
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 6, steps=[1, 2, 5, 10]))
    y, names = 0.0, []
    for one in series:
        y += 8 if wide else 28
        middle, mean = y + 11 * (len(one.points) - 1) / 2, fmean(point.value for point in one.points)
        names.append((middle if wide else y - 18, _short(one.name), f"{mean:.2f}"))
        if len(one.points) > 1:
            axes.plot([mean] * 2, [y - 6, y + 11 * len(one.points) - 5], color=_INK, linewidth=3, **_FREE)
        for point in one.points:
            look: dict[str, Any] = {"color": _SERIES[0], **_FREE, "gid": _TIP + _plain(point.text)}
            axes.plot(point.ends or (point.value,) * 2, [y, y], linewidth=5, alpha=0.3, **look)
            axes.plot([point.value], [y], marker="o", markeredgewidth=0, linestyle="none", **look)
            y += 11
        y += 8
    if base is not None:
        axes.axvline(base, color=_QUIET, linestyle="--", linewidth=2, zorder=1)
    axes.set_ylim(y, 0)
    for height, name, mean_text in names:
        look = {"transform": axes.get_yaxis_transform(), "va": "center", "color": _INK}
        look["bbox"] = {"facecolor": _CARD, "edgecolor": "none", "pad": 2}  # over the lines behind
        axes.text(-0.015 if wide else 0, height, name, ha="right" if wide else "left", **look)
        axes.text(1.015 if wide else 1, height, mean_text, ha="left" if wide else "right", **look)


def _plain(text: str) -> str:
    """On one line, without what XML cannot hold."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _short(name: str) -> str:
    name = _plain(name)
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"


@contextmanager
def _drawing() -> Iterator[Callable[[float, float], Figure]]:
    """Gives a maker of figures of so many pixels, in our style and not in that of the user's own plots.

    matplotlib is slow to import, so only what draws does. It logs the font cache it builds, and letters that
    its font lacks; the reader's browser has them.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib.style  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415

        with warnings.catch_warnings(), matplotlib.style.context(["default", _STYLE]):
            warnings.simplefilter("ignore")
            yield lambda width, height: Figure(figsize=(width / 72, height / 72))
    finally:
        logger.setLevel(level)


def _inline(
    draw: Callable[[Figure, bool], object], heights: dict[str, int], what: str, series: Sequence[Series]
) -> str:
    points = "; ".join(point.text for one in series for point in one.points)
    made = []
    with _drawing() as new_figure:
        for size, width in WIDTHS.items():
            figure = new_figure(width, heights[size])
            draw(figure, size == "wide")
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg")
            attributes = {"class": size, "width": str(width), "height": str(heights[size]), "role": "img"}
            made.append(_for_page(buffer.getvalue(), {**attributes, "aria-label": _plain(f"{what}: {points}")}))
    return "\n".join(made)


def _for_page(svg: str, attributes: dict[str, str]) -> str:
    """Returns matplotlib's SVG as part of a page: no style, font or name that another part could meet."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    markers = {f"#{path.get('id')}": path for path in root.iter("path")}
    for parent in root.iter():
        parent[:] = [child for child in parent if child.tag not in ("metadata", "defs")]
    for element in list(root.iter()):
        if element.tag == "use":
            _mark(element, markers)
        name = element.get("id", "")
        element.attrib = {key: _on_page(value) for key, value in element.items() if key not in ("id", "clip-path")}
        if element.tag == "text":
            element.set("style", "; ".join(re.findall(r"(?:fill|text-anchor): [^;]+", element.get("style", ""))))
        else:
            element.text = None
        element.tail = None
        if name.startswith(_TIP):
            ElementTree.SubElement(element, "title").text = name.removeprefix(_TIP)
    root.attrib = {"viewBox": root.get("viewBox", ""), **attributes}
    return ElementTree.tostring(root, encoding="unicode")


def _mark(use: ElementTree.Element, markers: dict[str, ElementTree.Element]) -> None:
    """Makes a marker drawn by reference the marker itself."""
    marker = markers[use.attrib.pop("{http://www.w3.org/1999/xlink}href")]
    x, y = use.attrib.pop("x"), use.attrib.pop("y")
    use.tag = "path"
    use.attrib |= {"d": marker.get("d", ""), "transform": f"translate({x} {y})"}


def _on_page(value: str) -> str:
    """An attribute on one line, to a hundredth of a pixel, in the page's colours."""
    value = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", " ".join(value.split()))
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: f"var({_VARIABLES.get(colour[0], '--ink')})", value)
