"""Plots of a comparison: mean ranks, and accuracy against cost with the Pareto front marked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitgraft.atomic import write_atomically
from vitgraft.errors import ConfigError
from vitgraft.report.labels import name_points
from vitgraft.report.style import MUTED, WIDE, canvas, looks, rendered, styled
from vitgraft.report.summary import Cost, Row, Summary, pareto

AGAINST: dict[str, tuple[str, Callable[[Cost], float]]] = {
    "trained": ("trained values, classifier included", lambda cost: cost.trained + cost.head),
    "kept": ("bytes kept an image in training", lambda cost: cost.kept_bytes),
    "flops": ("FLOPs of an image's forward pass", lambda cost: cost.flops),
    "seconds": ("seconds, with the frozen part where computed", lambda cost: cost.seconds),
}
"""What accuracy is drawn against: a title, and the cost."""


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Write `ranks.png` and one `accuracy-<cost>.png` for each cost into a folder; returns their paths.

    Raises:
        ConfigError: fewer than two methods are complete.
    """
    rows = summary.complete
    if len(rows) < 2:
        raise ConfigError(f"{len(rows)} methods are complete; a plot compares at least two.")
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        drawn = {"ranks": _ranks(rows)}
        drawn |= {f"accuracy-{key}": _against(rows, title, cost) for key, (title, cost) in AGAINST.items()}
        paths = {name: folder / f"{name}.png" for name in drawn}
        for name, figure in drawn.items():
            write_atomically(paths[name], rendered(figure, "png"))
    return list(paths.values())


def _ranks(rows: tuple[Row, ...]) -> Any:
    """Mean rank over tasks, the best on top."""
    ordered = sorted(rows, key=lambda row: row.rank or 0.0, reverse=True)
    looks_of = looks([row.method for row in rows])
    figure, axes = canvas(6, 0.6 + 0.3 * len(rows))
    for place, row in enumerate(ordered):
        axes.plot(row.rank, place, **looks_of[row.method].point())
    axes.set_yticks(range(len(ordered)), [row.method for row in ordered])
    axes.set_xlabel("mean rank over tasks (1 is best)")
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    return figure


def _against(rows: tuple[Row, ...], title: str, cost: Callable[[Cost], float]) -> Any:
    """Mean accuracy over tasks against a cost; methods that no other beats at no more cost are joined."""
    points = {row.method: (cost(row.cost), row.mean_of_tasks) for row in rows if row.cost and row.mean_of_tasks}
    front = pareto(points)
    looks_of = looks([row.method for row in rows])
    figure, axes = canvas(WIDE, 5)
    best = sorted(points[name] for name in front)
    axes.plot(*zip(*best, strict=True), "-", color=MUTED, linewidth=1, label="Pareto front", zorder=1)
    for name, (x, y) in points.items():
        axes.plot(x, y, **looks_of[name].point())
    axes.margins(0.12)
    axes.set_xscale("symlog" if min(x for x, _ in points.values()) <= 0 else "log")
    axes.set_xlabel(title)
    axes.set_ylabel("mean test accuracy over tasks (%)")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1))
    name_points(axes, points)
    return figure
