"""The two figures of what training holds: by the block that is tuned, and by method."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitgraft.analyze.memory import Held, Setting, stages
from vitgraft.report.figure import Figure
from vitgraft.report.style import FAINT, MUTED, PAPER, PURPLE, SEQUENTIAL, VERMILION, WIDE, canvas, looks, shades

UNITS = {"kept": "MiB an image", "peak growth": "MiB", "peak": "MiB", "trained": "values"}
"""Units of columns by how their names begin."""

SHOWN = 14
"""So many bars side by side have room for their numbers."""


def by_block(found: Sequence[Held], settings: Sequence[Setting], told: Mapping[str, Any]) -> tuple[Figure, Any]:
    """Kept bytes and peaks by tuned block, from the lowest to the highest; `told` is the rest of the card."""
    depth, one = len(found), settings[0]
    blocks = range(depth)
    figure, axes = canvas(WIDE, 3.4, columns=2, width_ratios=(3, 2))
    _stacked(figure, axes[0], blocks, found, vertical=True)
    axes[0].set(xlabel="the tuned block", ylabel="kept MiB an image", title="What autograd keeps")
    growth = [(block, held.growth) for block, held in zip(blocks, found, strict=True) if held.growth is not None]
    axes[1].plot(*zip(*growth, strict=True) if growth else ((), ()), "o-", color=VERMILION)
    axes[1].set(xlabel="the tuned block", ylabel="MiB above the loaded model", title="Peak of a step")
    axes[1].set_ylim(bottom=0)
    for panel in axes:
        panel.set_xticks([block for block in blocks if depth <= 12 or block % (depth // 8) == 0])
        panel.grid(axis="x", visible=False)
    order = {
        "kept": rank_correlation([held.total for held in found]),
        "peak": rank_correlation([held.growth for held in found]),
    }
    first, last = found[0].total, found[-1].total
    peaks = "" if order["peak"] is None else f", of the peaks {order['peak']:.2f}"
    caption = (
        f"Each bar is a model in which {one.method} trains one block alone, beside the classifier; colours say in "
        f"which block autograd keeps what: {first:.1f} MiB an image if block 0 is tuned, {last:.1f} if it is "
        f"block {depth - 1}. Spearman's rank correlation of kept bytes with the number of blocks above the tuned "
        f"one is {_number(order['kept'])}{peaks}. {_circumstances(one, found)}"
    )
    card = {"title": "Memory of training by the block that is tuned", "caption": caption, "n": depth, **told}
    figures = Figure(
        columns=("tuned block", *_columns(depth)),
        rows=[(block, *_row(held)) for block, held in zip(blocks, found, strict=True)],
        units=_units(depth),
        of="models",
        seeds=(0,),
        found={"spearman": order},
        **card,
    )
    return figures, figure


def by_method(found: Sequence[Held], settings: Sequence[Setting], told: Mapping[str, Any]) -> tuple[Figure, Any]:
    """Kept bytes and peaks by method, the one that keeps least on top."""
    pairs = sorted(zip(settings, found, strict=True), key=lambda pair: -pair[1].total)
    names, held = [setting.method for setting, _ in pairs], [one for _, one in pairs]
    places, look = range(len(pairs)), looks(names)
    figure, axes = canvas(WIDE, 1.1 + 0.27 * len(pairs), columns=2, width_ratios=(3, 2), sharey=True)
    _stacked(figure, axes[0], places, held, vertical=False)
    axes[0].set_yticks(places, names)
    axes[0].set(xlabel="kept MiB an image", title="What autograd keeps")
    for place, name, one in zip(places, names, held, strict=True):
        if one.growth is not None:
            axes[1].plot(one.growth, place, **look[name].point())
    axes[1].set(xlabel="MiB above the loaded model", title="Peak of a step")
    axes[1].set_xlim(left=0)
    axes[0].grid(axis="y", visible=False)
    least, most = pairs[-1], pairs[0]
    caption = (
        f"What training holds, by method: {most[0].method} keeps {most[1].total:.1f} MiB an image, "
        f"{least[0].method} {least[1].total:.2f}. Colours say in which block. {_circumstances(settings[0], held)}"
    )
    figures = Figure(
        title="Memory of training by method",
        caption=caption,
        columns=("method", *_columns(len(held[0].kept) - 3)),
        rows=[(name, *_row(one)) for name, one in zip(reversed(names), reversed(held), strict=True)],
        units=_units(len(held[0].kept) - 3),
        n=len(pairs),
        of="models",
        seeds=(0,),
        **told,
    )
    return figures, figure


def rank_correlation(values: Sequence[float | None]) -> float | None:
    """Spearman's, of values by tuned block with the number of blocks above; None where it is not defined."""
    there = [(len(values) - block, value) for block, value in enumerate(values) if value is not None]
    if len(there) < 2 or len({value for _, value in there}) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*there, strict=True)).statistic)


def _stacked(figure: Any, axes: Any, places: Sequence[int], found: Sequence[Held], vertical: bool) -> None:
    """Bars of kept bytes, from the lowest stage to the head, with what colours mean and the sums."""
    depth = len(found[0].kept) - 3
    draw, base = (axes.bar, "bottom") if vertical else (axes.barh, "left")
    below, most = [0.0] * len(found), max(held.total for held in found)
    for stage, (name, colour) in enumerate(
        zip(stages(depth), (FAINT, *shades(depth), MUTED, PURPLE), strict=True)
    ):
        sizes = [held.kept[stage] for held in found]
        seen = max(sizes) > 0.005 * most and not 0 < stage <= depth
        bars = {base: below, "color": colour, "edgecolor": PAPER, "linewidth": 0.3}
        draw(places, sizes, 0.8, label=name if seen else None, **bars)
        below = [sum(pair) for pair in zip(below, sizes, strict=True)]
    for place, size in zip(places, below, strict=True):
        text = f"{size:.2f}" if most < 10 else f"{size:.1f}"
        if not vertical:
            axes.text(size, place, f" {text}", fontsize=7, va="center")
        elif len(places) <= SHOWN:
            axes.text(place, size, text, fontsize=7, ha="center", va="bottom")
    axes.margins(**({"y": 0.08} if vertical else {"x": 0.12}))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3)
    _key(figure, axes, depth)


def _key(figure: Any, axes: Any, depth: int) -> None:
    """Which colour is which block."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    norm = BoundaryNorm([block - 0.5 for block in range(depth + 1)], depth)
    mappable = ScalarMappable(norm, ListedColormap(shades(depth), SEQUENTIAL))
    bar = figure.colorbar(mappable, ax=axes, ticks=range(0, depth, max(1, depth // 4)), pad=0.02, aspect=30)
    bar.set_label("kept in block")
    bar.ax.grid(visible=False)


def _columns(depth: int) -> tuple[str, ...]:
    kept = (f"kept in {stage}" for stage in stages(depth))
    return ("kept", "peak growth", "peak", "trained", *kept)


def _units(depth: int) -> dict[str, str]:
    return {
        name: unit for name in _columns(depth) for start, unit in UNITS.items() if name.startswith(start + " in")
    } | UNITS


def _row(held: Held) -> tuple[float | None, ...]:
    return (held.total, held.growth, held.peak, held.trained, *held.kept)


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


def _circumstances(one: Setting, found: Sequence[Held]) -> str:
    """What a peak and a kept byte depend on, in a sentence or two."""
    twice = "" if one.recompute == "none" else f", recompute={one.recompute}"
    peaks = "" if any(held.growth is not None for held in found) else " This system does not tell peaks."
    return (
        f"Kept bytes are counted by saved-tensor hooks, peaks are those of a fresh process each, in two steps "
        f"with AdamW, batch {one.batch}, {one.precision}{twice}, {one.classes} classes; n = {len(found)} models, "
        f"seed 0.{peaks}"
    )
