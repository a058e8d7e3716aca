"""Plots of a comparison: mean ranks, and accuracy against cost with the Pareto front marked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vitgraft.errors import ConfigError
from vitgraft.report.summary import Cost, Row, Summary, pareto

AGAINST: dict[str, tuple[str, Callable[[Cost], float]]] = {
    "trained": ("trained values, classifier included", lambda cost: cost.trained + cost.head),
    "kept": ("bytes kept an image in training", lambda cost: cost.kept_bytes),
    "flops": ("FLOPs of an image's forward pass", lambda cost: cost.flops),
    "seconds": ("seconds of training", lambda cost: cost.seconds),
}
"""What accuracy is drawn against: a title, and the cost."""

PLACES = (
    (6, 3, "left"),
    (6, -10, "left"),
    (-6, 3, "right"),
    (-6, -10, "right"),
    (6, 14, "left"),
    (6, -21, "left"),
)
"""Where a point's name may stand: its offset in typographic points, and the side that is there."""


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Write `ranks.png` and one `accuracy-<cost>.png` for each cost into a folder; returns their paths.

    Raises:
        ConfigError: fewer than two methods are complete.
    """
    rows = summary.complete
    if len(rows) < 2:
        raise ConfigError(f"{len(rows)} methods are complete; a plot compares at least two.")
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_ranks(rows, folder / "ranks.png")]
    for key, (title, cost) in AGAINST.items():
        paths.append(_against(rows, title, cost, folder / f"accuracy-{key}.png"))
    return paths


def _ranks(rows: tuple[Row, ...], path: Path) -> Path:
    """Mean rank over tasks, the best on top."""
    import matplotlib.pyplot as plt

    ordered = sorted(rows, key=lambda row: row.rank or 0.0, reverse=True)
    figure, axes = plt.subplots(figsize=(6, 0.6 + 0.3 * len(rows)), layout="constrained")
    axes.plot([row.rank for row in ordered], [row.method for row in ordered], "o", color="tab:blue")
    axes.set_xlabel("mean rank over tasks (1 is best)")
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    return _saved(figure, path)


def _against(rows: tuple[Row, ...], title: str, cost: Callable[[Cost], float], path: Path) -> Path:
    """Mean accuracy over tasks against a cost; methods that no other beats at no more cost are joined."""
    import matplotlib.pyplot as plt

    points = {row.method: (cost(row.cost), row.mean_of_tasks) for row in rows if row.cost and row.mean_of_tasks}
    front = pareto(points)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    best = sorted(points[name] for name in front)
    axes.plot(*zip(*best, strict=True), "-", color="tab:orange", label="Pareto front")
    for name, (x, y) in points.items():
        axes.plot(x, y, "o", color="tab:orange" if name in front else "tab:blue")
    axes.margins(0.12)
    axes.set_xscale("symlog" if min(x for x, _ in points.values()) <= 0 else "log")
    axes.set_xlabel(title)
    axes.set_ylabel("mean test accuracy over tasks (%)")
    axes.legend(loc="best")
    axes.grid(alpha=0.3)
    figure.canvas.draw()  # where points are on the page is known from here on
    _name(axes, points)
    return _saved(figure, path)


def _name(axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each point's name beside it, where no other name or point is if there is such a place."""
    from matplotlib.transforms import Bbox

    pixel = axes.figure.dpi / 72
    at = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [Bbox.from_bounds(x - 4 * pixel, y - 4 * pixel, 8 * pixel, 8 * pixel) for x, y in at.values()]
    for name in at:
        for dx, dy, side in PLACES:
            text = axes.annotate(
                name, points[name], xytext=(dx, dy), textcoords="offset points", fontsize=8, ha=side
            )
            box = text.get_window_extent()
            last = (dx, dy, side) == PLACES[-1]
            if last or (axes.bbox.containsx(box.x1) and not any(box.overlaps(other) for other in taken)):
                taken.append(box)
                break
            text.remove()


def _saved(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
