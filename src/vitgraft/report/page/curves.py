"""How training went: accuracy on validation and loss by epoch, of rows by task, and of one run."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitgraft.report.page import axes, scales
from vitgraft.report.page.markup import Html, h
from vitgraft.report.page.material import Material, Run
from vitgraft.report.page.scales import Scale

KINDS = {
    "val_top1": ("validation accuracy", "validation accuracy (%)"),
    "train_loss": ("training loss", "training loss (nats)"),
    "val_main": ("what decides on validation", "mAP or R² on validation (%)"),
    "val_loss": ("validation loss", "validation loss (nats)"),
    "train_top1": ("training accuracy", "training accuracy (%)"),
}
"""What is drawn by epoch: its name, and an axis' title with the unit. The last two are in a run's log alone."""

MOST = 60
"""Points of a run's own curve; of more epochs, every other is left out, or two of three, and so on."""

Curve = Mapping[int, float]
"""What was measured, by epoch; epochs that were not evaluated lack."""


def curve(run: Run, kind: str) -> Curve:
    """A run's, of its record or else of its log."""
    told = getattr(run.record.history, kind, None)
    if told is None:
        told = [entry.get(kind) for entry in run.log]
    found = enumerate(told, start=1)
    return {epoch: float(one) for epoch, one in found if isinstance(one, int | float) and math.isfinite(one)}


def curves(material: Material) -> Html | None:
    """A panel for each task, of one kind at a time, and the key to its lines; None where no epoch was told."""
    made: dict[str, Html] = {}
    for kind, (_, title) in KINDS.items():
        panels = [_panel(material, task, kind, title) for task in material.tasks]
        if any(panels):
            hidden = bool(made)
            made[kind] = h("div", *panels, class_="panels", data_kind=kind, hidden=hidden)
    if not made:
        return None
    options = (h("option", KINDS[kind][0], value=kind) for kind in made)
    chosen = h("p", h("label", "Show ", h("select", *options, data_shows="kinds")), class_="needs-script choices")
    return h("div", chosen, _key(material), *made.values(), id="kinds")


def _key(material: Material) -> Html:
    """Which line is which; a name that is pointed at lights its lines."""
    entries = []
    for row in material.rows:
        if any((row, task) in material.cells for task in material.tasks):
            swatch = h(
                "svg", h("line", x1=0, x2="100%", y1="50%", y2="50%", class_=axes.dashed(material.looks[row]))
            )
            entries.append(
                h("li", h("a", swatch, row, href=f"#{material.anchor(row)}"), data_key=material.key(row))
            )
    return h("ul", *entries, class_="key", aria_label="Lines")


def _panel(material: Material, task: str, kind: str, title: str) -> Html | None:
    lines = {
        row: _median([curve(run, kind) for run in material.cells.get((row, task), ())]) for row in material.rows
    }
    points = [(epoch, value) for own in lines.values() for epoch, value in own.items()]
    if not points:
        return None
    loss = kind.endswith("loss")
    x = replace(Scale.of([epoch for epoch, _ in points], room=0.0), whole=True)
    y = Scale.of([value for _, value in points], loss and all(value > 0 for _, value in points))
    drawn, last = [], []
    for row, own in lines.items():
        if own:
            at = [(x.at(epoch), y.at(value)) for epoch, value in own.items()]
            end = list(own.values())[-1]
            last.append(f"{row} {end:.3g}")
            drawn.append(_line(material, row, at, f"{row}, {task}: {end:.3g} in the last epoch"))
    chart = h(
        "svg",
        axes.across(x, scales.plain, "epoch"),
        axes.up(y, scales.plain, title),
        axes.stretched(drawn),
        class_="axes",
        role="img",
        aria_label=f"{title} by epoch on {task}; in the last epoch: {', '.join(last)}",
    )
    return h("figure", h("figcaption", h("b", task)), h("div", chart, class_="plot small"))


def _line(material: Material, row: str, at: Sequence[tuple[float, float]], told: str) -> Html:
    more = {"data_key": material.key(row), "data_tip": told}
    if len(at) == 1:
        at = [at[0], at[0]]
    return axes.line(at, class_=axes.dashed(material.looks[row]), **more)


def _median(own: Sequence[Curve]) -> Curve:
    """Over runs, of each epoch that any has."""
    epochs = sorted({epoch for one in own for epoch in one})
    return {epoch: statistics.median(one[epoch] for one in own if epoch in one) for epoch in epochs}


def small(run: Run) -> Html | None:
    """A run's own: validation accuracy and training loss, each on its own scale, told in words beside."""
    drawn, told = [], []
    decides = "val_main" if run.record.history.val_main else "val_top1"
    for index, kind in enumerate((decides, "train_loss")):
        own = curve(run, kind)
        if len(own) > 1:
            x, y = Scale.of(list(own), room=0.0), Scale.of(list(own.values()))
            step = math.ceil(len(own) / MOST)
            drawn.append(
                axes.line(
                    [(x.at(e), y.at(v)) for e, v in list(own.items())[::step]], class_=f"line k{index} d{index}"
                )
            )
            unit = " %" if kind == decides else ""
            first, *_, last = own.values()
            told.append(h("span", f"{KINDS[kind][0]} {first:.3g} to {last:.3g}{unit}", class_=f"k{index}"))
    if not drawn:
        return None
    return h(
        "figure",
        axes.stretched(drawn),
        h("figcaption", *(piece for one in told for piece in (one, " "))),
        class_="small",
    )
