"""`vitgraft analyze errors`: the truth about one run, as figures, tables and a page."""

from pathlib import Path
from typing import Annotated

import typer

from vitgraft.atomic import write_atomically
from vitgraft.cli import guard
from vitgraft.cli.analyze.asked import FOLDER
from vitgraft.cli.asking import Reads, RunsOn, list_given, reads, runs_on
from vitgraft.cli.evaluate import Loads, Wanted, loads, ready, wanted
from vitgraft.cli.options import given_by
from vitgraft.cli.truth import NEAR, Called, called, looked_at, write_page
from vitgraft.report.figure import check_free


@given_by(wanted, runs_on, reads, loads, called)
def errors(
    which: Wanted,
    on: RunsOn,
    how: Reads,
    load_as: Loads,
    call: Called,
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled images, by default those of the run; - for a list of them from standard input.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = FOLDER,
    name: Annotated[str, typer.Option(help="How the names of all files begin.")] = "errors",
    near: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The cosine from which pictures are near-duplicates.")
    ] = NEAR,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace figures that another command has made.")
    ] = False,
) -> None:
    """Look at one run's mistakes: what it takes for what, how reliable it is, and what may be the data's fault.

    Written are a confusion matrix, reliability diagrams and learning curves as figures (PNG, SVG, CSV and a card
    in JSON), and as CSV: scores class by class, every mistake, labels that are likely wrong, and near-duplicates,
    within and across splits. NAME.html shows all of it; `vitgraft eval RUN --report PAGE` writes that page alone.

    Labels and near-duplicates are found from the frozen backbone's features, which are cached. A temperature is
    fitted on validation images alone, and nothing that is found changes the run.

    Example:

      vitgraft analyze errors runs/photos --out figures
    """
    from vitgraft.analyze.errors.figures import NAMES, figures
    from vitgraft.analyze.errors.tables import tables
    from vitgraft.report.style import styled

    for title in NAMES:
        check_free(out, f"{name}-{title}", call.command, replace, option="--replace")
    with list_given(data) as source:
        now = ready(run, source, which, how, load_as, source is not data)
        truth = looked_at(now, run, on, own=data is None, near=near)
    with styled():
        for figure, drawing in figures(truth, name, call.command):
            figure.write(drawing, out)
    for title, table in tables(truth).items():
        write_atomically(out / f"{name}-{title}.csv", table.csv())
    write_page(truth, out / f"{name}.html", call)
    guard.note(f"Figures and tables are beside it: {name}-*.")
