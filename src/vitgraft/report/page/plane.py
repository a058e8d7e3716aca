"""Points of accuracy against a cost, on axes that are chosen in the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vitgraft.report.page import axes, scales
from vitgraft.report.page.markup import Html, h
from vitgraft.report.page.material import Material, median
from vitgraft.report.page.scales import Scale
from vitgraft.report.summary import pareto
from vitgraft.results.record import Expense

Values = Mapping[str, float]
"""A number of each row that has one, by its name."""


@dataclass(frozen=True)
class Cost:
    """A cost: its title with the unit, how a value is written, and the base of its round values."""

    name: str
    title: str
    of: Callable[[Expense], float | None]
    told: scales.Format
    base: int = 10


COSTS = (
    Cost(
        "trained values",
        "trained values, classifier included",
        lambda cost: cost.trained_method + cost.trained_head,
        scales.counted,
    ),
    Cost(
        "method's values", "trained values, classifier excluded", lambda cost: cost.trained_method, scales.counted
    ),
    Cost("kept bytes", "bytes kept an image in training", lambda cost: cost.kept_bytes_per_image, scales.sized, 2),
    Cost("FLOPs", "FLOPs of an image's forward pass", lambda cost: cost.flops_per_image, scales.counted),
    Cost("step FLOPs", "FLOPs of an image in training", lambda cost: cost.step_flops_per_image, scales.counted),
    Cost(
        "training time",
        "time of training, frozen part included",
        lambda cost: cost.train_seconds + cost.cache_seconds,
        scales.timed,
    ),
    Cost(
        "peak memory",
        "peak memory of the process",
        lambda cost: None if cost.peak_memory_mib is None else cost.peak_memory_mib * 2**20,
        scales.sized,
        2,
    ),
    Cost("bytes on disk", "bytes of the trained values on disk", lambda cost: cost.graft_bytes, scales.sized, 2),
)
"""What accuracy can be drawn against: medians over a row's runs."""

APART = 30.0
"""The highest of costs over the lowest from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """One choice for an axis: its name, the axis as it is drawn, and where each row stands on it."""

    name: str
    drawn: Html
    places: Values


def plane(material: Material) -> Html | None:
    """The chart with its choices; None where fewer than two rows have a point."""
    x, y = _costs(material), _accuracies(material)
    if not x or not y:
        return None
    rows = [row for row in material.rows if any(row in axis.places for axis in y)]
    told = {row: _told(material, row) for row in rows}
    first = {
        row: (x[0].places[row], y[0].places[row]) for row in rows if row in y[0].places and row in x[0].places
    }
    front = pareto(first)
    best = axes.line(sorted(first[row] for row in front), class_="front")
    points = [_point(material, row, x, y, row in front, told[row]) for row in rows]
    drawn = h(
        "svg",
        *(axis.drawn for axis in (*x, *y)),
        axes.stretched([best]),
        *points,
        class_="axes",
        role="group",
        aria_label="A point for each row: accuracy against cost",
    )
    chosen = h("p", _choice("Cost", "x", x), " ", _choice("Accuracy", "y", y), class_="needs-script choices")
    return h("div", chosen, h("div", drawn, class_="plot roves"), class_="plane")


def values(material: Material, cost: Cost) -> Values:
    """Medians over the runs of each row that numbers are of."""
    found = {}
    for row in material.rows:
        runs = [run for task in material.tasks for run in material.cells.get((row, task), ())]
        value = median([cost.of(run.record.cost) for run in runs])
        if value is not None:
            found[row] = float(value)
    return found


def _costs(material: Material) -> list[Axis]:
    found: list[Axis] = []
    for cost in COSTS:
        own = values(material, cost)
        if len(own) > 1:
            above = [value for value in own.values() if value > 0]
            scale = Scale.of(list(own.values()), bool(above) and max(above) > APART * min(above), 0.08)
            drawn = axes.across(scale, cost.told, cost.title, cost.base, data_axis="x", hidden=bool(found))
            found.append(Axis(cost.name, drawn, {row: scale.at(value) for row, value in own.items()}))
    return found


def _accuracies(material: Material) -> list[Axis]:
    """Means, then groups, then tasks, of those that have at least two rows."""
    rows = material.summary.rows
    of: dict[str, Values] = {
        f"mean of {len(material.tasks)} tasks": {
            row.method: row.mean_of_tasks for row in rows if row.mean_of_tasks is not None
        }
    }
    if len(material.tasks) == 1:
        of.clear()
    if len(material.summary.groups) > 1:
        of["mean of groups"] = {row.method: row.mean_of_groups for row in rows if row.mean_of_groups is not None}
        for group in material.summary.groups:
            of[group] = {row.method: row.groups[group] for row in rows if group in row.groups}
    of |= {
        task: {row.method: row.tasks[task].mean for row in rows if task in row.tasks} for task in material.tasks
    }
    found: list[Axis] = []
    for name, own in of.items():
        if len(own) > 1:
            scale = Scale.of(list(own.values()), room=0.08)
            drawn = axes.up(
                scale, scales.plain, f"{material.split} accuracy, {name} (%)", data_axis="y", hidden=bool(found)
            )
            found.append(Axis(name, drawn, {row: scale.at(value) for row, value in own.items()}))
    return found


def _choice(title: str, way: str, of: Sequence[Axis]) -> Html:
    options = (h("option", axis.name, value=index) for index, axis in enumerate(of))
    return h("label", f"{title} ", h("select", *options, data_axis=way))


def _told(material: Material, row: str) -> str:
    """What a point tells of itself."""
    own = next(one for one in material.summary.rows if one.method == row)
    lines = [row]
    if own.mean_of_tasks is not None:
        lines.append(f"{own.mean_of_tasks:.1f} % {material.split} accuracy, mean of {len(own.tasks)} tasks")
    for cost in COSTS:
        found = values(material, cost)
        if row in found:
            lines.append(f"{cost.name}: {cost.told(found[row])}")
    return "\n".join(lines)


def _point(material: Material, row: str, x: Sequence[Axis], y: Sequence[Axis], best: bool, told: str) -> Html:
    """A mark with its name; `data-x` and `data-y` have its place on every axis that can be chosen."""
    here = row in x[0].places and row in y[0].places
    at = (axes.percent(x[0].places.get(row, 0)), axes.percent(1 - y[0].places.get(row, 0)))
    mark = h("svg", axes.marker(material.looks[row]), h("text", row, x=9, y=-5), x=at[0], y=at[1])
    kinds = "point front" if best else "point"
    ways = {"data_x": _places(x, row), "data_y": _places(y, row), "data_key": material.key(row)}
    link = {"href": f"#{material.anchor(row)}", "aria_label": told.replace("\n", "; "), "data_tip": told}
    return h("a", mark, class_=kinds, hidden=not here, **ways, **link)


def _places(of: Sequence[Axis], row: str) -> str:
    return " ".join(f"{axis.places[row]:.4f}" if row in axis.places else "-" for axis in of)
