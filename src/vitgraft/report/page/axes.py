"""What every chart has: axes with ticks, grids and titles, which fill whatever width a page has.

A chart is an SVG without a view box: places are percentages, text keeps its size. Lines of many points stand in an
SVG within, which is stretched.
"""

from collections.abc import Iterable, Sequence

from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.page.scales import Format, Scale
from vitgraft.report.style import MARKERS, PALETTE, Look

DASHES = 8
"""Ways in which the page's style draws lines."""

SHAPES = {
    "o": "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0z",
    "s": "M-5-5h10v10h-10z",
    "^": "M0-6.5l6 11h-12z",
    "D": "M0-7l7 7l-7 7l-7-7z",
    "v": "M0 6.5l6-11h-12z",
    "P": "M-2.2-6h4.4v3.8h3.8v4.4h-3.8v3.8h-4.4v-3.8h-3.8v-4.4h3.8z",
    "X": "M-3.5-6l3.5 3.5l3.5-3.5l2.5 2.5l-3.5 3.5l3.5 3.5l-2.5 2.5l-3.5-3.5l-3.5 3.5l-2.5-2.5l3.5-3.5l-3.5-3.5z",
    "<": "M-6.5 0l11-6v12z",
}
"""The markers of the project's figures as paths about their middle."""


def across(scale: Scale, told: Format, title: str, base: int = 10, **attributes: object) -> Html:
    """The horizontal axis."""
    marks = []
    for value in scale.ticks(base=base):
        x = percent(scale.at(value))
        marks.append(h("line", x1=x, x2=x, y1=0, y2="100%", class_="grid"))
        marks.append(h("text", told(value), x=x, y="100%", dy="1.4em", class_="tick middle"))
    marks.append(h("text", title, x="50%", y="100%", dy="3em", class_="title middle"))
    return h("g", *marks, **attributes)


def up(scale: Scale, told: Format, title: str, base: int = 10, **attributes: object) -> Html:
    """The vertical axis; its title stands above it."""
    marks = []
    for value in scale.ticks(about=5, base=base):
        y = percent(1 - scale.at(value))
        marks.append(h("line", x1=0, x2="100%", y1=y, y2=y, class_="grid"))
        marks.append(h("text", told(value), x=0, y=y, dx="-.6em", dy=".35em", class_="tick end"))
    marks.append(h("text", title, x=0, y=0, dx="-3em", dy="-1em", class_="title"))
    return h("g", *marks, **attributes)


def stretched(lines: Iterable[Html]) -> Html:
    """Lines whose points are percentages of the chart."""
    size = {"width": "100%", "height": "100%", "viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
    return h("svg", together(lines), **size, aria_hidden="true")


def line(points: Sequence[tuple[float, float]], **attributes: object) -> Html:
    """A line through points, each from (0, 0) at the lower left to (1, 1)."""
    told = " ".join(f"{_short(100 * x)},{_short(100 - 100 * y)}" for x, y in points)
    return h("polyline", points=told, **attributes)


def dashed(look: Look) -> str:
    """The classes of a method's line: its colour, and dashes where others have the same."""
    return f"line k{PALETTE.index(look.colour)} d{(MARKERS.index(look.marker) + 4 * look.hollow) % DASHES}"


def marker(look: Look) -> Html:
    """A method's mark about its middle."""
    kind = f"k{PALETTE.index(look.colour)}"
    return h("path", d=SHAPES[look.marker], class_=f"mark hollow {kind}" if look.hollow else f"mark {kind}")


def percent(part: float) -> str:
    """A place from 0 to 1."""
    return f"{_short(100 * part)}%"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
