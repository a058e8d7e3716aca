"""`vitgraft bench report`: what a suite has found so far, as tables or as a page."""

from dataclasses import replace
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli.asked import Asked, asked_of
from vitgraft.cli.guard import note
from vitgraft.cli.options import given_by
from vitgraft.errors import ConfigError, unknown

if TYPE_CHECKING:
    from vitgraft.bench.cell import Cell
    from vitgraft.report.page.material import Material
    from vitgraft.report.render import Part
    from vitgraft.results.record import Record

Names = Annotated[str | None, typer.Option("--methods", help="Some of the methods, with commas.")]
FORMS = ("md", "csv", "html")


@given_by(asked_of)
def report(
    asked: Asked,
    names: Names = None,
    form: Annotated[str, typer.Option("--format", help="md, csv or html, which is a page.")] = "md",
    to: Annotated[Path | None, typer.Option(help="A file to write instead of printing.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Published numbers beside ours: paper for all tables, or one's name.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="A folder for plots: ranks, and accuracy by cost.")] = None,
) -> None:
    """Tables of what a suite has found so far: accuracy by task and group with its spread over seeds, and cost.

    Means over tasks are given for methods that are complete. Two kinds are told apart, as papers mix them: the
    mean of the tasks, and the mean of the groups' means. Trained values are given without and with the classifier.

    Examples:

      vitgraft bench report builtin

      vitgraft bench report vtab.toml --against spt-t2

      vitgraft bench report builtin --format html --to report.html --plots plots
    """
    from vitgraft.atomic import write_atomically
    from vitgraft.report import plots as drawing
    from vitgraft.report import render
    from vitgraft.report.against import chosen
    from vitgraft.report.beside import lines, parts
    from vitgraft.report.page.runs import page
    from vitgraft.report.summary import summarise

    if form not in FORMS:
        raise ConfigError(unknown("format", form, FORMS))
    cells = asked.cells(names)
    found = tested(cells)
    if not any(records for one in found.values() for records in one.values()):
        raise ConfigError(
            f"There are no tested runs of {asked.name} in {asked.out} yet, with these options (--tune, --halving "
            f"and --set choose them, too). Make some: {asked.command('run', names)}"
        )
    summary = summarise(found, asked.tasks, len(asked.suite.seeds))
    kinds = {cell.name: cell.entry.method for cell in cells}
    tables = chosen(against) if against is not None else []
    published = parts(summary, kinds, tables)
    if against is not None and not published:
        raise ConfigError(
            f"{against} has no number to put beside these: no method in common, or none is complete."
        )
    if form == "csv":
        text = render.table(summary, lines(summary, kinds, tables))
    elif form == "html":
        text = page(_material(asked, cells, [*_shares(cells), *published]))
    else:
        text = render.markdown(summary, [*_shares(cells), *published])
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(to, text.encode())
    for path in drawing.draw(summary, plots) if plots is not None else ():
        note(f"Drawn: {path}")


def tested(cells: "list[Cell]") -> "dict[str, dict[str, list[Record]]]":
    """Tested records by method and task."""
    found: dict[str, dict[str, list[Record]]] = {}
    for cell in cells:
        found.setdefault(cell.name, {})[cell.task] = cell.tested()
    return found


def _material(asked: Asked, cells: "list[Cell]", parts: "list[Part]") -> "Material":
    """What a page tells of a suite: all of its runs, of which those that were tried count in no number."""
    from vitgraft.report.page.material import Material, Run
    from vitgraft.results.store import file_name

    runs = []
    for cell in cells:
        counted = cell.tested()
        runs += [
            Run(record, file_name(record.config), cell.name, tried=record not in counted)
            for record in {file_name(record.config): record for record in cell.records()}.values()
        ]
    made = Material.of(asked.suite.name, runs, asked.tasks, len(asked.suite.seeds))
    return replace(made, parts=parts, about=cleandoc(asked.suite.about))


def _shares(cells: "list[Cell]") -> "list[Part]":
    """Where the values of methods that choose them went, if there are any."""
    from vitgraft.methods.spt import FILE
    from vitgraft.report import patterns, render

    found: dict[str, list[list[Path]]] = {}
    for cell in cells:
        found.setdefault(cell.name, []).append(cell.found(FILE))
    shares = patterns.shares(found)
    return [render.shares(shares)] if shares else []
