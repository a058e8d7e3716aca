"""Names beside points: inside the axes, over no other name, no point and no line."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from vitgraft.report.style import MUTED

DIRECTIONS = (20, -20, 160, 200, 90, -90, 50, -50, 130, 230)
"""Degrees from the point at which its name may stand, the best first."""

DISTANCES = (7, 12, 18, 26, 36, 48, 62, 80, 100, 125, 155)
"""Typographic points between a point and its name, the best first."""

LED = 12
"""A name that is further away has a line to its point."""

POINT, GAP = 4, 1.5
"""Half a marker, and the room around a name, in typographic points."""

STEP = 4
"""Typographic points between two places at which a line is looked at."""

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""


def name_points(axes: Any, points: Mapping[str, tuple[float, float]], size: float = 8) -> None:
    """Write each point's name beside it; points (x, y) are in the axes' units, `size` is that of the type.

    Call it last: the layout is settled by it, so that names stay where there was room. A name stands where it
    covers nothing and leaves nothing; where there is no such place, where it covers least.
    """
    axes.figure.draw_without_rendering()  # where points are on the page is known from here on
    pixel = axes.figure.dpi / 72
    at = {name: tuple(axes.transData.transform(point)) for name, point in points.items()}
    reach = POINT * pixel
    taken = [(x - reach, y - reach, x + reach, y + reach) for x, y in at.values()]
    taken += _along(axes, pixel)
    legend = axes.get_legend()
    taken += [] if legend is None else [legend.get_window_extent().extents]
    bounds = axes.bbox.extents
    for name, point in at.items():
        width, height = _extent(axes, name, size)
        room = (width + 2 * GAP * pixel, height + 2 * GAP * pixel)
        found = [(_covered(box, taken, bounds), far, box) for far, box in _boxes(point, room, pixel)]
        _, far, box = min(found, key=lambda one: one[0])  # of equals, the first
        box = _within(box, bounds)
        taken.append(box)
        _write(axes, name, size, point, box, far > LED)
    axes.figure.set_layout_engine("none")


def _along(axes: Any, pixel: float) -> list[Box]:
    """Small boxes along every line that is drawn."""
    found: list[Box] = []
    for line in axes.get_lines():
        if line.get_linestyle() in ("None", "none", ""):
            continue
        ends = [tuple(one) for one in line.get_transform().transform(line.get_xydata())]
        for (x, y), (to_x, to_y) in pairwise(ends):
            if not all(map(math.isfinite, (x, y, to_x, to_y))):
                continue
            steps = max(1, math.ceil(math.hypot(to_x - x, to_y - y) / (STEP * pixel)))
            for step in range(steps + 1):
                at_x, at_y = x + (to_x - x) * step / steps, y + (to_y - y) * step / steps
                found.append((at_x - pixel, at_y - pixel, at_x + pixel, at_y + pixel))
    return found


def _extent(axes: Any, name: str, size: float) -> tuple[float, float]:
    """Width and height of a name in pixels."""
    text = axes.text(0, 0, name, fontsize=size)
    box = text.get_window_extent()
    text.remove()
    return box.width, box.height


def _boxes(point: tuple[float, float], room: tuple[float, float], pixel: float) -> Iterator[tuple[float, Box]]:
    """Where a name may stand, and how far from its point in typographic points: the best first."""
    (x, y), (width, height) = point, room
    for far in DISTANCES:
        for degrees in DIRECTIONS:
            across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            side = 0.5 if abs(across) < 0.1 else float(across < 0)
            left = x + far * pixel * across - width * side
            bottom = y + far * pixel * up - height * (1 - up) / 2
            yield far, (left, bottom, left + width, bottom + height)


def _covered(box: Box, taken: list[Any], bounds: Any) -> int:
    """Square pixels that a box covers of what is taken, or has outside."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return round(area - _common(box, bounds) + sum(_common(box, other) for other in taken))


def _common(one: Any, other: Any) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return float(max(wide, 0) * max(high, 0))


def _within(box: Box, bounds: Any) -> Box:
    """A box moved into the bounds, if it is not there; one that is too wide begins at their left."""
    right = min(0, bounds[2] - box[2])
    across = max(right, bounds[0] - box[0])
    up = max(min(0, bounds[3] - box[3]), bounds[1] - box[1])
    return box[0] + across, box[1] + up, box[2] + across, box[3] + up


def _write(axes: Any, name: str, size: float, point: tuple[float, float], box: Box, led: bool) -> None:
    """A name in its box, with a line to its point if that is far."""
    where = axes.transAxes.inverted().transform(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    axes.text(*where, name, transform=axes.transAxes, fontsize=size, ha="center", va="center", in_layout=False)
    if led:
        nearest = (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3]))
        ends = axes.transAxes.inverted().transform((point, nearest))
        axes.plot(*zip(*ends, strict=True), transform=axes.transAxes, color=MUTED, linewidth=0.6, zorder=1)


LINE = 0.2
"""Inches that a row of a legend takes."""


def legend_below(drawn: Any, handles: Sequence[Any], most: int) -> None:
    """A legend below all axes of a figure, in at most so many columns and as many as it has room for.

    The figure grows by the rows above two, so that its axes keep their size.
    """
    for columns in range(min(most, len(handles)), 0, -1):
        legend = drawn.legend(handles=list(handles), loc="outside lower center", ncols=columns)
        wide = legend.get_window_extent(drawn.canvas.get_renderer()).width
        if columns == 1 or wide <= drawn.bbox.width:
            rows = -(-len(handles) // columns)
            drawn.set_figheight(drawn.get_figheight() + LINE * max(0, rows - 2))
            return
        legend.remove()
