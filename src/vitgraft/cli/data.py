"""`vitgraft data`: the published benchmarks' tasks, and whether a copy of them is what it must be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli import show
from vitgraft.cli.guard import Commands

if TYPE_CHECKING:
    from vitgraft.data.benchmarks.check import Finding, Report
    from vitgraft.data.benchmarks.table import Benchmark, Part, TaskRow

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Copies of the benchmarks VTAB-1k and FGVC: what their tasks are, whether a copy is complete.",
)

NOT_RIGHT = 1
"""The exit code of a check that found something missing or wrong."""

SPLITS: "tuple[Part, ...]" = ("train", "val", "test")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("check")
def checked(
    path: Annotated[Path, typer.Argument(help="The folder that holds the tasks' folders.", show_default=False)],
    tasks: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks, groups or benchmarks that must be there; none: all of a benchmark found."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Open every picture, not a sample of each split.")] = False,
    as_json: Json = False,
) -> None:
    """Say which tasks of a VTAB-1k or FGVC copy are complete, what is wrong with the others, and what to fetch.

    Read are NOAH's lists with pictures, PNG with JSON lists, exports of TensorFlow Datasets (which need not be
    installed), VPT's splits of FGVC, and the FGVC data sets' own lists. Every listed file is looked for; split
    sizes, classes and labels are compared with the benchmark's. The exit status is 0 only if all is right, else 1.

    Examples:

      vitgraft data check vtab-1k/

      vitgraft data check vtab-1k/ natural kitti --deep

      vitgraft data check fgvc/ cub200 --json
    """
    from vitgraft.data.benchmarks.check import check

    report = check(path, tasks or (), deep=deep)
    if as_json:
        show.as_json(report.to_json())
    else:
        _print(report)
    if not report.right:
        raise typer.Exit(NOT_RIGHT)


@app.command("tasks")
def tasks(as_json: Json = False) -> None:
    """List the benchmarks' tasks. A name stands for DATA, and --root is the folder that holds the copy.

    Other spellings in use are understood, too: vtab1k:dSpr-Ori, vtab1k:oxford_iiit_pet. With :trainval behind it,
    train and val are trained on together, when all is chosen.

    Example: vitgraft fit vtab1k:cifar100 --root vtab-1k/ --preprocessing vtab
    """
    from vitgraft.data.benchmarks.names import TABLES

    rows = [row for table in TABLES.values() for row in table.rows]
    if as_json:
        show.as_json([_facts(row) for row in rows])
        return
    cells = [
        (row.name, row.group or "-", row.folder, str(row.classes), *(f"{row.counts[part]:,}" for part in SPLITS))
        for row in rows
    ]
    columns = ("task", "group", "folder", "classes", *SPLITS)
    show.table("Tasks of benchmarks", columns, cells, right=("classes", *SPLITS))
    for table in TABLES.values():
        _advise(table)


def _facts(row: "TaskRow") -> dict[str, object]:
    return {
        "name": row.name,
        "group": row.group,
        "folder": row.folder,
        "aliases": list(row.aliases),
        "classes": row.classes,
        "images": dict(row.counts),
        "pixels": None if row.pixels is None else list(row.pixels),
        "tfds": None if row.export is None else row.export.spec,
        "notes": list(row.notes),
    }


def _advise(table: "Benchmark") -> None:
    for line in table.advice:
        typer.echo(f"{table.title}: {line}")


def _print(report: "Report") -> None:
    columns = ("task", "state", "layout", *SPLITS, "classes", "labels", "opened")
    right = (*SPLITS, "classes", "labels", "opened")
    cells = [_cells(finding) for finding in report.findings]
    show.table(f"Tasks in {report.root}", columns, cells, right=right, spare=("layout", "opened"))
    for finding in report.findings:
        if finding.copy.problems and finding.copy.folder is not None:
            typer.secho(f"{finding.copy.row.name} in {finding.copy.folder}", bold=True)
            for problem in finding.copy.problems:
                typer.echo(f"  {problem.what}")
    _print_notes(report)
    _print_fetch(report)
    good = sum(finding.right for finding in report.findings)
    typer.echo(f"{good} of {len(report.findings)} tasks are complete and right.")
    if report.right:
        for table in report.tables:
            _advise(table)


def _cells(finding: "Finding") -> tuple[str, ...]:
    row, copy = finding.copy.row, finding.copy
    counts = []
    for part in SPLITS:
        found, expected = finding.found(part), row.expected(part)
        counts.append("-" if not found else f"{found:,}" if found == expected else f"{found:,} of {expected:,}")
    labels = f"{finding.labels[0]} to {finding.labels[-1]}" if finding.labels else "-"
    classes = f"{len(finding.labels)} of {row.classes}" if finding.labels else "-"
    return (row.name, copy.state, copy.layout or "-", *counts, classes, labels, f"{finding.opened:,}")


def _print_notes(report: "Report") -> None:
    """What to know, each sentence once, with the tasks that it is about."""
    about: dict[str, list[str]] = {}
    for finding in report.findings:
        for note in finding.copy.notes if finding.copy.folder is not None else ():
            about.setdefault(note, []).append(finding.copy.row.key)
    if about:
        typer.secho("\nTo know", bold=True)
    for note, keys in about.items():
        whom = f"all {len(keys)}" if len(keys) == len(report.findings) > 1 else ", ".join(keys)
        typer.echo(f"  {whom}: {note}")


def _print_fetch(report: "Report") -> None:
    wanted = [finding.copy for finding in report.findings if not finding.right]
    if wanted:
        typer.secho("\nTo fetch", bold=True)
    for copy in wanted:
        pieces = list(dict.fromkeys(problem.fetch for problem in copy.problems if problem.fetch))
        spec = f" (TFDS: {copy.row.export.spec})" if copy.row.export and copy.folder is None else ""
        typer.echo(f"  {copy.row.key}: {'; '.join(pieces)}{spec}")
    lacking = {copy.row.benchmark for copy in wanted}
    for table in report.tables:
        for line in table.sources if table.name in lacking else ():
            typer.echo(f"  {line}")
    typer.echo()
