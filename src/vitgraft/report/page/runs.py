"""The report of runs as a page: sections from the summary to each run's facts."""

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from itertools import chain
from textwrap import dedent

from vitgraft.report.page.comparison import accuracy, costs
from vitgraft.report.page.curves import curves
from vitgraft.report.page.document import Page, Section, section
from vitgraft.report.page.gather import Gathered, label
from vitgraft.report.page.grouping import mixed, rows
from vitgraft.report.page.images import figure
from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.page.material import Material, Run, seeds_of
from vitgraft.report.page.plane import plane
from vitgraft.report.page.records import listed, records, shared_settings
from vitgraft.report.page.shown import shown
from vitgraft.report.page.strips import strips
from vitgraft.report.page.tables import Column, Row, facts, table
from vitgraft.report.render import Part, legacy, origin
from vitgraft.report.summary import pareto

NAMED = 3
"""So many tasks are named in a title at most."""

NOTED = 8
"""So many notes are shown at once; more are behind a line that opens."""


def reported(gathered: Gathered, title: str | None = None) -> Material:
    """What was found on disk as a page tells it; without a title it is called by its data."""
    names = rows(list(gathered.records.values()))
    runs = [
        Run(record, label(path), name, gathered.logs.get(path, ()))
        for name, (path, record) in zip(names, gathered.records.items(), strict=True)
    ]
    tasks = dict.fromkeys(run.record.task.name for run in runs)
    named = ", ".join(tasks) if len(tasks) <= NAMED else _count(len(tasks), "task")
    made = Material.of(title or f"Runs on {named}", runs)
    return replace(made, figures=gathered.figures, skipped=gathered.skipped, notes=gathered.notes)


def page(material: Material) -> str:
    """The whole page as HTML."""
    made = Page(material.title, _about(material), f"Made by vitgraft {metadata.version('vitgraft')}.")
    made.add(section("summary", "Summary", _found(material), _facts(material), _notes(material)))
    if material.cells:
        made.add(section("accuracy", "Accuracy", accuracy(material)))
        made.add(section("costs", "Cost", costs(material)))
        if (chart := plane(material)) is not None:
            made.add(section("tradeoff", "Accuracy against cost", figure(chart, _of_plane(material))))
        made.add(section("seeds", "By task", h("p", _of_strips(material)), strips(material)))
        if (lines := curves(material)) is not None:
            made.add(section("curves", "Learning curves", h("p", _of_curves(material)), lines))
    made.add(*_parts(material), *shown(material.figures))
    made.add(section("runs", "Runs", listed(material), shared_settings(material)))
    made.add(section("records", "Records", records(material)))
    return made.text()


def _about(material: Material) -> Html:
    tasks = material.tasks[0] if len(material.tasks) == 1 else f"{len(material.tasks)} tasks"
    methods = material.rows[0] if len(material.rows) == 1 else f"{len(material.rows)} methods"
    said = h("p", f"{methods} on {tasks}: {_count(len(material.runs), 'run')}.")
    return together([said, *_paragraphs(material.about)])


def _paragraphs(text: str) -> Iterator[Html]:
    """A text's paragraphs; indented ones keep their lines, as commands do."""
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip("\n"))):
        lines = paragraph.splitlines()
        if any(line.startswith(" ") for line in lines):
            yield h("pre", h("code", dedent(paragraph)))
        else:
            yield h("p", " ".join(lines))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _found(material: Material) -> Html | None:
    """What the numbers say in a sentence or two."""
    complete = sorted(material.summary.complete, key=lambda row: -(row.mean_of_tasks or 0))
    if len(complete) < 2:
        return None
    best, kind = complete[0], f"{material.split} accuracy"
    over = f"mean of {len(material.tasks)} tasks" if len(material.tasks) > 1 else material.tasks[0]
    told = [f"{best.method} has the highest {kind}, {best.mean_of_tasks:.1f} % ({over})."]
    points = {
        row.method: (row.cost.trained + row.cost.head, row.mean_of_tasks)
        for row in complete
        if row.cost is not None and row.mean_of_tasks is not None
    }
    front = sorted(pareto(points), key=lambda name: points[name])
    if len(front) > 1:
        told.append(f"The best at their count of trained values, from few to many: {', '.join(front)}.")
    lacking = len(material.rows) - len(complete)
    if lacking:
        told.append(f"{_count(lacking, 'method')} of {len(material.rows)} lack tasks or seeds, and have no mean.")
    return h("p", " ".join(told), class_="lead")


def _facts(material: Material) -> Html:
    counted = list(chain.from_iterable(material.cells.values()))
    tried = len(material.runs) - len(counted)
    others = f"; {tried:,} more were only tried, and count in no mean" if tried else ""
    told = {
        "runs": f"{_count(len(counted), 'run')} with {material.split} accuracy{others}",
        "tasks": ", ".join(material.tasks),
        "seeds": seeds_of(counted or material.runs).partition(" ")[2],
        "dates": " to ".join(
            sorted({ends(run.record.ended for run in material.runs)[:10] for ends in (min, max)})
        ),
        "from": origin(material.summary.origin) if counted else None,
    }
    return facts(told)


def _notes(material: Material) -> Html | None:
    """What a reader must know: what was skipped, which cells mix settings, what runs were told of their data."""
    told = [*material.notes, *(f"{name} was skipped: {reason}" for name, reason in material.skipped.items())]
    if material.split == "val":
        told.insert(
            0, "No run has read a test split: accuracies are of validation, on which epochs may be chosen."
        )
    if other := material.summary.origin.other:
        told.append(f"Not accuracies, but in percent, too: {'; '.join(other)}.")
    if copies := material.summary.origin.mixed:
        told.append(f"Runs had different images of: {', '.join(copies)}. Their numbers are not to be compared.")
    for (row, task), runs in material.cells.items():
        if keys := mixed([run.record for run in runs]):
            told.append(f"Runs of {row} on {task} differ in more than their seeds: {', '.join(keys)}.")
    if not told:
        return None
    first, rest = told[:NOTED], told[NOTED:]
    more = h("details", h("summary", f"{len(rest):,} more"), h("ul", *(h("li", one) for one in rest)))
    notes = h("ul", *(h("li", one) for one in first), class_="notes")
    return together([h("h3", "Beware"), notes, more if rest else None])


def _of_plane(material: Material) -> str:
    return (
        f"{_of(material)} Costs are medians over a method's runs. Joined by a line: what no other method beats at "
        "no more cost. A name or point leads to its runs."
    )


def _of_strips(material: Material) -> str:
    return f"A dot is a run of one seed and leads to its facts; the line is the mean. {_of(material)}"


def _of_curves(material: Material) -> str:
    return f"By epoch; a line is the median over a method's runs. {_of(material)}"


def _of(material: Material) -> str:
    """How many runs and seeds numbers are of, in a sentence."""
    counted = list(chain.from_iterable(material.cells.values()))
    least, most = (ends(map(len, material.cells.values())) for ends in (min, max))
    each = f"{least}" if least == most else f"{least} to {most}"
    return f"n = {_count(len(counted), 'run')}, {each} a method and task ({seeds_of(counted)})."


def _legacy(material: Material) -> list[Part]:
    """Accuracies of epochs that were chosen on test, where runs were asked for them."""
    found = legacy(material.summary)
    said = "Best on test: percent, of the epoch that was best on test, beside papers that did so. No result."
    return [] if found is None else [Part(said, *found)]


def _parts(material: Material) -> list[Section]:
    """Further tables, as published numbers beside ours."""
    made = []
    for index, part in enumerate([*_legacy(material), *material.parts]):
        columns = [Column(name, number=index > 0) for index, name in enumerate(part.columns)]
        name = f"more-{index}"
        made.append(table(f"{name}-table", part.said or part.columns[0], columns, [Row(row) for row in part.rows]))
    return [section("more", "More tables", *made)] if made else []
