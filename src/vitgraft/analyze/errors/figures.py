"""The figures of `vitgraft analyze errors`, each with its numbers and a caption that tells n and split."""

from collections.abc import Iterator
from typing import Any

from vitgraft.analyze.errors import drawings, tables
from vitgraft.analyze.errors.truth import Truth
from vitgraft.report.figure import Figure

NAMES = ("confusion", "reliability", "learning")


def figures(truth: Truth, name: str, command: str) -> Iterator[tuple[Figure, Any]]:
    """Every figure there is, `name`-confusion and so on, with its drawing. Call it within `style.styled`."""
    for title, (caption, table, drawing, found) in _all(truth).items():
        figure = Figure(
            name=f"{name}-{title}",
            title=f"{truth.run.name}: {title}",
            caption=caption,
            command=command,
            columns=table.columns,
            rows=table.rows,
            n=truth.metrics.n,
            seeds=() if truth.record is None else (truth.record.seed,),
            backbone=dict(truth.facts),
            device=None if truth.record is None else truth.record.device,
            notes=truth.notes,
            found=found,
        )
        yield figure, drawing


def _all(truth: Truth) -> dict[str, tuple[str, tables.Table, Any, dict[str, Any]]]:
    """Caption, numbers, drawing and what the caption tells, by the figure's name."""
    of = f"{truth.data}, {truth.split}, n = {truth.metrics.n:,} images"
    shown = drawings.chosen(truth.confused, len(truth.images.names))
    names = [truth.images.names[label] for label in shown]
    counts = drawings.matrix(truth.measured.labels, truth.answers, shown)
    support = [truth.classes[label].support for label in shown]
    part = (
        "" if len(shown) == len(truth.classes) else f", of the {len(shown)} classes that most mistakes are about"
    )
    diagrams = [("as trained", truth.before)]
    found: dict[str, Any] = {"ece": truth.before.ece}
    if truth.calibrated is not None:
        temperature = truth.calibrated.temperature
        diagrams.append((f"temperature {temperature.value:.3g}", truth.calibrated.after))
        found |= {"temperature": temperature.value, "ece_calibrated": truth.calibrated.after.ece}
    known = {
        "confusion": (
            f"What is taken for what{part} ({of}): a row is a label, a column an answer.",
            tables.confusion(truth),
            drawings.confusion(counts, support, names),
            {"top1": truth.metrics.top1},
        ),
        "reliability": (
            f"The share of right answers among those of a probability ({of}). Where bars meet the line, "
            "probabilities mean what they say; hatched is the gap. A temperature is fitted on validation "
            "images.",
            tables.reliability(truth),
            drawings.reliable(diagrams),
            found,
        ),
    }
    if truth.curves is not None:
        best = None if truth.record is None else truth.record.history.best_epoch
        caption = f"How the run learnt, over {len(truth.curves.epochs)} epochs."
        known["learning"] = (caption, tables.learning(truth), drawings.learnt(truth.curves, best), {"best": best})
    return known
