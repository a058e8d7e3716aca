"""`vitgraft init`: look at a user's data and write a commented run of them, to be edited and given to fit."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.cli.fit import are_pictures
from vitgraft.cli.options import configured
from vitgraft.errors import ConfigError, command
from vitgraft.runs.config import RunConfig

if TYPE_CHECKING:
    from vitgraft.data.task import Task

FILE = Path("vitgraft.toml")


@configured
def init(
    given: dict[str, Any],
    to: Annotated[Path, typer.Option(help="The file to write.", rich_help_panel="Run")] = FILE,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.", rich_help_panel="Run")] = False,
) -> None:
    """Look at data, and write a run of them as a TOML file that explains every key.

    What is found in the data (classes, images a split, what was cut or left out) stands at its top. Every option
    of vitgraft fit may be given; where no backbone is named, photographs get one for photographs. Other files can
    extend it: extends = "vitgraft.toml", and the keys that differ.

    Examples:

      vitgraft init photos/

      vitgraft init labels.csv --method vqt --epochs 30 --to quick.toml

      vitgraft fit --config vitgraft.toml --lr 0.002
    """
    from vitgraft.atomic import write_atomically
    from vitgraft.backbones import catalogue
    from vitgraft.runs.kept_split import load_task
    from vitgraft.runs.run import tell_of

    if to.exists() and not force:
        raise ConfigError(f"'{to}' is there already. Name another file (--to), or replace it (--force).")
    chosen = RunConfig.of(given)
    if not {"backbone", "start_from"} & given.keys() and are_pictures(chosen.data):
        chosen = RunConfig.of({**given, "backbone": catalogue.SUGGESTED})
    task = load_task(chosen)
    tell_of(task, guard.note)
    text = "".join(f"# {line}\n" for line in _found(chosen, task)) + "\n" + chosen.toml()
    write_atomically(to, text.encode())
    typer.echo(f"Written: {to}. Next: {command('fit', '--config', to)}")


def _found(config: RunConfig, task: "Task") -> Iterator[str]:
    """What was found in the data, a line each."""
    counts = ", ".join(f"{len(split):,} {name}" for name, split in task.splits.items())
    yield f"{os.fspath(config.data)}: {len(task.classes)} classes; images: {counts}."
    for note in task.notes:
        yield " ".join(note.split())
    if task.skipped:
        yield f"Unreadable images left out: {len(task.skipped)}."
    yield "Keys that begin with # are left open; what follows from the others stands beside them."
