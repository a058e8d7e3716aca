"""`vitgraft report`: runs as one page to read and to share."""

from pathlib import Path
from typing import Annotated

import typer

from vitgraft.cli.guard import check_free, note


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, records, folders of either, or of figures.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its title; none: of the data.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Published numbers beside ours: paper for all tables, or one's name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is no report.")] = False,
) -> None:
    """Write one page on runs: accuracy and cost of methods side by side, charts, and every run's facts.

    The page is one file that needs no network: send it to somebody, or open it on a telephone. Its tables sort and
    filter, its charts have a choice of axes, and each number leads to the runs that it is of: their settings,
    versions and learning curves. Runs of one method with several seeds are one row. Runs that have not read their
    test split, as those that were tried to choose a learning rate, are listed and count in no mean.

    What cannot be read is skipped and told, here and in the page. Figures of vitgraft analyze are shown, too.

    Examples:

      vitgraft report runs/*

      vitgraft report bench/records figures/ --out report.html --title "LoRA on our photographs"
    """
    from vitgraft.atomic import write_atomically
    from vitgraft.cli import show
    from vitgraft.errors import ConfigError
    from vitgraft.report.against import chosen
    from vitgraft.report.beside import parts
    from vitgraft.report.page.document import is_page
    from vitgraft.report.page.gather import gather
    from vitgraft.report.page.runs import page, reported

    check_free(out, force or is_page(out))
    tables = chosen(against) if against is not None else []
    material = reported(gather(runs), title)
    kinds = {run.row: run.record.method.spec for run in material.runs}
    published = parts(material.summary, kinds, tables)
    if against is not None and not published:
        raise ConfigError(
            f"{against} has no number to put beside these: no method in common, or none is complete."
        )
    text = page(material.beside(published)).encode()
    write_atomically(out, text)
    note(f"{len(material.runs):,} runs are in {out}, {show.size(len(text))}.")
