"""Each task as a strip of dots: a row of a method, a dot of a run, and its mean."""

from collections.abc import Sequence

from vitgraft.report.page import axes, scales
from vitgraft.report.page.markup import Html, h
from vitgraft.report.page.material import Material, Run, seeds_of
from vitgraft.report.page.scales import Scale
from vitgraft.report.page.tables import MISSING
from vitgraft.report.summary import Spread


def strips(material: Material) -> Html:
    """A strip for each task, side by side where there is room."""
    spreads = {row.method: row.tasks for row in material.summary.rows}
    made = []
    for index, task in enumerate(material.tasks):
        found = {row: material.cells.get((row, task), ()) for row in material.rows}
        if any(found.values()):
            means = {row: own[task] for row, own in spreads.items() if task in own}
            made.append(_strip(material, task, f"strip-{index}", found, means))
    return h("div", *made, class_="panels strips")


def _strip(
    material: Material, task: str, name: str, found: dict[str, Sequence[Run]], means: dict[str, Spread]
) -> Html:
    """A table, so that its numbers can be read where its dots cannot be seen."""
    runs = [run for own in found.values() for run in own]
    scale = Scale.of([_top1(material, run) for run in runs], room=0.06)
    ticks = scale.ticks(about=4)
    record = runs[0].record
    size = next(scores.n for run in runs if (scores := material.scores(run)) is not None)
    said = f"{record.task.classes} classes, {size:,} images of {material.split}, {seeds_of(runs)}"
    head = h(
        "tr",
        h("th", "method", scope="col"),
        h("th", f"{material.split} accuracy (%)", scope="col"),
        h("th", "mean", scope="col", class_="number"),
    )
    body = [_row(material, row, own, scale, ticks, means.get(row)) for row, own in found.items() if own]
    labels = (h("text", scales.plain(tick), x=axes.percent(scale.at(tick)), y="1em") for tick in ticks)
    axis = h("svg", *labels, class_="track axis", aria_hidden="true")
    return h(
        "table",
        h("caption", h("b", task), " ", said),
        h("thead", head),
        h("tbody", *body),
        h("tfoot", h("tr", h("td"), h("td", axis), h("td"))),
        id=name,
        class_="strip roves",
    )


def _row(
    material: Material, row: str, runs: Sequence[Run], scale: Scale, ticks: Sequence[float], mean: Spread | None
) -> Html:
    marks = [_upright(scale.at(tick), "grid") for tick in ticks]
    if mean is not None:
        marks.append(_upright(scale.at(mean.mean), "mean"))
    for run in runs:
        reached = _top1(material, run)
        told = f"{row}, {run.record.task.name}, seed {run.record.seed}: {reached:.1f} %"
        dot = h("circle", cx=axes.percent(scale.at(reached)), cy="50%", r=4.5)
        marks.append(h("a", dot, href=f"#{material.number(run)}", aria_label=told, data_tip=told))
    spread = MISSING if mean is None else f"{mean.mean:.1f}"
    cells = h("td", h("svg", *marks, class_="track")), h("td", spread, class_="number")
    return h("tr", h("th", row, scope="row", title=row), *cells, data_key=material.key(row))


def _upright(place: float, kind: str) -> Html:
    x = axes.percent(place)
    return h("line", x1=x, x2=x, y1=0, y2="100%", class_=kind)


def _top1(material: Material, run: Run) -> float:
    scores = material.scores(run)
    assert scores is not None, "only runs that have the split are in cells"
    return scores.main
