"""What commands of `vitgraft analyze` share that take several tasks."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard

if TYPE_CHECKING:
    from vitgraft.data.task import Split, Task

Tasks = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Built-in tasks, image folders, CSV files or lists, as fit takes them.",
        show_default=False,
    ),
]


def loaded(data: Sequence[str], how: Mapping[str, Any], *, of_classes: bool = False) -> "list[Task]":
    """The tasks that are named, all read in the same way; what was guessed is told.

    Raises:
        TaskError: data that cannot be used.
        ConfigError: they are to be `of_classes`, one a picture, and are not.
    """
    from vitgraft.data.labelling import need_classes
    from vitgraft.runs.config import RunConfig
    from vitgraft.runs.kept_split import load_task
    from vitgraft.runs.run import tell_of

    tasks = []
    for one in data:
        tasks.append(load_task(RunConfig.of({"data": one, **how})))
        tell_of(tasks[-1], guard.note)
        if of_classes:
            need_classes(tasks[-1].kind, "This analysis")
    return tasks


def titles(data: Sequence[str]) -> list[str]:
    """Short names of data: the last part of a path without its suffix, as much of it as tells two apart."""
    parts = [os.path.splitext(os.path.normpath(one))[0].split(os.sep) for one in data]
    short: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        short = [os.sep.join(part[-length:]) for part in parts]
        if len(set(short)) == len(set(data)):
            break
    return short


def part(task: "Task", name: str) -> "Split":
    """A split of a task, or all of it. Raises DataError with those that there are."""
    from vitgraft.data.measured import part_of

    return part_of(task, name).split
