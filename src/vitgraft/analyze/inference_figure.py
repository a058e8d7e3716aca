"""The table and the figure of what tuned models cost in use, beside the published table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vitgraft.analyze.inference import ALIKE, GIGA, PLAIN, Row, Setting, Spread, comparable, published
from vitgraft.report.figure import Figure
from vitgraft.report.style import MUTED, WIDE, canvas, look

COLUMNS = {
    "model": "",
    "method": "",
    "merged": "",
    "speed": "images/s",
    "speed, lower quartile": "images/s",
    "speed, upper quartile": "images/s",
    "speed / frozen model's": "in the same round, median",
    "lower quartile": "of these shares",
    "upper quartile": "of these shares",
    "peak growth": "MiB of a batch above the loaded model",
    "peak": "MiB",
    "FLOPs": "G an image, two a multiply-add",
    "layers": "G multiply-adds an image",
    "trained": "values",
    "published speed": "images/s on a V100",
    "published speed / BitFit's": "",
    "published memory": "GB on a V100",
    "published FLOPs": "G multiply-adds an image",
    "layers / published": "",
}
"""The columns of NAME.csv, and their units."""

DEFINITIONS = (
    "Layers are multiply-adds of linear maps and convolutions, of every token: the FLOPs of the published table.",
    "FLOPs are what is really computed, two a multiply-add: products of attention are in, and of the last block's "
    "tokens only those that something reads, which is why a model can have fewer than the frozen one.",
    f"The {PLAIN.title} and what is merged run by the library's own pass, which leaves out no token.",
)
APART = (
    "The published numbers are of ViT-B/16 at 224 pixels, whose layers cost another number of multiply-adds than "
    "these: they are left out."
)


def table(rows: Sequence[Row], setting: Setting) -> list[list[str | float | None]]:
    """Rows of `COLUMNS`; published numbers stand there if they are of such a model."""
    plain, beside = rows[0], comparable(rows)
    base = next((found["images/s"] for row in rows if (found := published(row.contender))), None)
    made = []
    for row in rows:
        theirs = published(row.contender) if beside else {}
        speed, share = Spread.of(row.rates(setting.batch)), Spread.of(row.relative(plain))
        layers, fps, flops = row.counts.layers / GIGA, theirs.get("images/s"), theirs.get("GFLOPs")
        ours: list[str | float | None] = [row.contender.title, row.contender.method, str(row.contender.merged)]
        ours += [speed.middle, speed.low, speed.high, share.middle, share.low, share.high]
        ours += [row.peak.growth, row.peak.most, row.counts.flops / GIGA, layers, row.counts.trained]
        ours += [fps, None if fps is None or base is None else fps / base, theirs.get("GB"), flops]
        made.append([*ours, None if flops is None else layers / flops])
    return made


def figure(rows: Sequence[Row], setting: Setting, told: Mapping[str, Any]) -> tuple[Figure, Any]:
    """Speed, layers' multiply-adds and memory of every contender; `told` is the rest of the card."""
    made, rounds = table(rows, setting), len(rows[0].seconds)
    notes = [*DEFINITIONS, *_against(made)]
    caption = (
        f"Cost of use of a frozen model and of tuned ones: median and quartiles of the speed in {rounds} rounds, "
        f"in which all take turns, as a share of the {PLAIN.title}'s in the same round (the median of that is "
        f"{Spread.of(rows[0].rates(setting.batch)).middle:,.1f} images/s); multiply-adds of layers an image; and "
        f"the peak of memory of a batch, each in a fresh process. Batch {setting.batch}, {setting.precision}, "
        f"{setting.classes} classes; n = {rounds} rounds, seed 0."
    )
    if comparable(rows):
        caption += " Hollow: as published for ViT-B/16, speed on a V100 as a share of BitFit's."
    card = Figure(
        title="Cost of inference",
        caption=caption,
        columns=tuple(COLUMNS),
        rows=made,
        units={name: unit for name, unit in COLUMNS.items() if unit},
        n=rounds,
        of="rounds",
        seeds=(0,),
        notes=notes,
        found={"layers / published": {row[0]: row[-1] for row in made if row[-1] is not None}},
        **told,
    )
    return card, _drawn(rows, made)


def _against(made: Sequence[Sequence[Any]]) -> list[str]:
    """How far layers' multiply-adds are from the published ones, in a line."""
    found = {row[0]: row[-1] - 1 for row in made if row[-1] is not None}
    if not found:
        return [APART]
    name = max(found, key=lambda one: abs(found[one]))
    held = "all within" if abs(found[name]) <= ALIKE else "not all within"
    return [f"Layers against the published FLOPs: {held} {ALIKE:.0%}, {name} furthest with {found[name]:+.1%}."]


def _drawn(rows: Sequence[Row], made: Sequence[Sequence[Any]]) -> Any:
    at = {name: index for index, name in enumerate(COLUMNS)}
    places = range(len(rows) - 1, -1, -1)
    drawn, axes = canvas(WIDE, 1.2 + 0.28 * len(rows), columns=3, sharey=True)
    own = {
        "speed / frozen model's": ("speed / frozen model's", "published speed / BitFit's"),
        "layers": ("layers, G multiply-adds", "published FLOPs"),
        "peak growth": ("peak of a batch, MiB", None),
    }
    for panel, (column, (title, theirs)) in zip(axes, own.items(), strict=True):
        for place, row, values in zip(places, rows, made, strict=True):
            look_of = look("frozen") if row.contender == PLAIN else look(row.contender.method)
            look_of = replace(look_of, hollow=row.contender.merged and row.contender != PLAIN)
            if values[at[column]] is not None:
                panel.plot(values[at[column]], place, **look_of.point(), zorder=3)
            if column == "speed / frozen model's":
                ends = [values[at["lower quartile"]], values[at["upper quartile"]]]
                panel.plot(ends, [place, place], color=look_of.colour, linewidth=1.2)
            if theirs and values[at[theirs]] is not None:
                point = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
                panel.plot(values[at[theirs]], place, color=MUTED, **point, label="published")
        panel.set_xlabel(title)
        panel.margins(x=0.12, y=0.06)
    for panel in axes[1:]:
        panel.set_xlim(0, 1.05 * panel.get_xlim()[1])
    axes[0].set_yticks(places, [row.contender.title for row in rows])
    labels = axes[0].get_legend_handles_labels()
    if labels[0]:
        axes[0].legend(labels[0][:1], labels[1][:1], loc="lower left", bbox_to_anchor=(0, 1))
    return drawn
