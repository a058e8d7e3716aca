"""How patterns of sensitivity are drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vitgraft.analyze.sensitivity import NAMES, OPERATIONS, Pattern
from vitgraft.report.labels import legend_below
from vitgraft.report.style import INK, MARKERS, MUTED, PALETTE, WIDE, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

ROW = 2.0
"""Inches of a backbone's row."""

ROOM = 1.08
"""An axis goes so far beyond the highest point."""

BAR = {"marker": "_", "markersize": 15, "markeredgewidth": 1.6, "linestyle": "none", "color": MUTED}
"""How the share of all values looks."""


def draw(patterns: Sequence[Pattern], what: str) -> "Drawing":
    """A row a backbone: shares by block and by operation, a colour and marker a task. Call it within `styled`."""
    backbones = list(dict.fromkeys(one.backbone for one in patterns))
    tasks = list(dict.fromkeys(one.task for one in patterns))
    drawn = blank(WIDE, ROW * len(backbones) + 0.5)
    axes = drawn.subplots(len(backbones), 2, squeeze=False, width_ratios=[1.25, 1], sharey="col")
    axes[0][0].set_ylim(0, ROOM * max(float(one.by_block.max()) for one in patterns))
    highest = [max(float(one.by_operation.max()), float(_all(one, 0).max())) for one in patterns]
    axes[0][1].set_ylim(0, ROOM * max(highest))
    for line, backbone in zip(axes, backbones, strict=True):
        own = [one for one in patterns if one.backbone == backbone]
        looks = [_look(tasks.index(one.task)) for one in own]
        _by_block(line[0], own, looks)
        _by_operation(line[1], own, looks)
        line[0].set_title(backbone)
        line[0].set_ylabel(f"% of {what} values")
    axes[-1][0].set_xlabel("block")
    axes[-1][1].set_xlabel("operation")
    handles = [drawn_line(task, _look(number)) for number, task in enumerate(tasks)]
    handles.append(drawn_line("share of all values", BAR))
    legend_below(drawn, handles, 4)
    return drawn  # type: ignore[no-any-return]


def _all(one: Pattern, axis: int) -> Any:
    """Percent of all values by operation (axis 0) or block (1)."""
    sizes = one.sizes.sum(axis=axis)
    return 100 * sizes / sizes.sum()


def _look(number: int) -> dict[str, Any]:
    return {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "markersize": 5}


def drawn_line(label: str, look: dict[str, Any]) -> Any:
    """An entry of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{**look, "markersize": min(look["markersize"], 8)})


def _by_block(axes: Any, patterns: Sequence[Pattern], looks: Sequence[dict[str, Any]]) -> None:
    depth = len(patterns[0].counts) - 1
    places = np.arange(depth + 1)
    axes.plot(places, _all(patterns[0], 1), zorder=1, **{**BAR, "markersize": min(15, 150 / (depth + 1))})
    for one, look in zip(patterns, looks, strict=True):
        axes.plot(places[:-1], one.by_block[:-1], linewidth=1.2, **look)
        axes.plot(places[-1:], one.by_block[-1:], linestyle="none", **look)
    step = -(-depth // 14)
    ticks = [*range(0, depth, step), depth]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), "norm"])


def _by_operation(axes: Any, patterns: Sequence[Pattern], looks: Sequence[dict[str, Any]]) -> None:
    places = np.arange(len(OPERATIONS))
    axes.plot(places, _all(patterns[0], 0), zorder=1, **{**BAR, "markersize": 22})
    width = 0.5 / max(len(patterns) - 1, 1)
    for number, (one, look) in enumerate(zip(patterns, looks, strict=True)):
        shift = (number - (len(patterns) - 1) / 2) * width
        axes.plot(places + shift, one.by_operation, linestyle="none", **look)
    axes.set_xticks(places, [NAMES.get(name, name) for name in OPERATIONS])
    axes.set_xlim(-0.6, len(OPERATIONS) - 0.4)


def draw_spread(patterns: Sequence[Pattern]) -> "Drawing":
    """The relative variance of each task's sensitivities, a column a backbone. Call it within `styled`."""
    from matplotlib.ticker import LogLocator, NullFormatter

    known = [(one, one.spread.relative) for one in patterns if one.spread is not None]
    backbones = list(dict.fromkeys(one.backbone for one, _ in known))
    tasks = list(dict.fromkeys(one.task for one, _ in known))
    drawn = blank(min(WIDE, 2.2 + 1.1 * len(backbones)), 3.4)
    axes = drawn.subplots()
    for place, backbone in enumerate(backbones):
        own = [(one, value) for one, value in known if one.backbone == backbone]
        axes.plot([place], [np.median([value for _, value in own])], **{**BAR, "markersize": 42, "color": INK})
        for number, (one, value) in enumerate(own):
            shift = 0.3 * (number - (len(own) - 1) / 2) / max(len(own) - 1, 1)
            axes.plot([place + shift], [value], linestyle="none", **_look(tasks.index(one.task)))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.4g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("variance over squared mean")
    axes.set_xticks(range(len(backbones)), [name.replace(", ", "\n") for name in backbones])
    axes.set_xlim(-0.6, len(backbones) - 0.4)
    axes.grid(axis="x", visible=False)
    handles = [drawn_line(task, {**_look(number), "linestyle": "none"}) for number, task in enumerate(tasks)]
    legend_below(drawn, handles, 3)
    return drawn  # type: ignore[no-any-return]
