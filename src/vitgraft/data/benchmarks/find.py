"""Where a task lies below a folder, and in which layout."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vitgraft.data.benchmarks.export import find_export
from vitgraft.data.benchmarks.lists import JSON, TEXT, Layout, list_files
from vitgraft.data.benchmarks.names import TABLES, Mention, Tables, row_called
from vitgraft.data.benchmarks.official import is_official
from vitgraft.data.benchmarks.table import Benchmark, Part, TaskRow
from vitgraft.errors import DataError

OFFICIAL, TFDS = "official", "TFDS"


class Place(NamedTuple):
    """A folder that holds a task: `layout` is "lists", "JSON", "TFDS" or "official", `files` are its lists."""

    folder: Path
    layout: str
    base: str = ""
    files: dict[Part, Path] | None = None


def find(row: TaskRow, table: Benchmark, root: Path) -> Place | None:
    """The place of a task in `root`: a folder of one of its names, or `root` itself if no other task's name.

    Of several the one with the most lists is taken, then the one that is called as usual.
    """
    places = [place for folder in candidates(row, table, root) for place in _places(row, table, folder)]
    if row.export and (folder := find_export(root, row.export)) is not None:
        places.append(Place(folder, TFDS))
    return max(places, key=lambda place: (len(place.files or ()), place.folder.name == row.folder), default=None)


def candidates(row: TaskRow, table: Benchmark, root: Path) -> list[Path]:
    """Folders that a task is called, and `root` if it is called so or like no task."""
    found = [folder for folder, called in named_folders(root, table) if called.key == row.key]
    own = row_called(root.resolve().name, table)
    return [*found, root] if own is None or own.key == row.key else found


def has_lists(folder: Path, table: Benchmark) -> bool:
    """Whether a folder holds lists as they are called in copies of a benchmark, and in no other folder.

    VTAB-1k's names are unmistakable; of FGVC, a folder must have train and test.
    """
    for layout in _layouts(table):
        files = list_files(folder, table.lists, layout)
        if {"train", "test"} <= files.keys() or (table.joint and files.keys() - {"test"}):
            return True
    return False


def recognised(folder: Path, tables: Tables = TABLES) -> Mention | None:
    """The task whose copy a folder is, by its lists and its name; None if it is no benchmark's.

    Raises:
        DataError: a folder with VTAB-1k's lists but no task's name, or one of several tasks, not classes.
    """
    for table in tables.values():
        if has_lists(folder, table):
            row = row_called(folder.resolve().name, table)
            if row is not None:
                return Mention(row)
            if table.joint:
                what = f"'{folder}' holds lists of {table.title}, but its name is no task's"
                raise DataError(f"{what}. Say which task it is: {_rooted(table.rows[0], folder)}.")
        inner = [row for one, row in named_folders(folder, table) if has_lists(one, table)]
        if inner:
            what = f"'{folder}' holds tasks of {table.title}, not classes: {', '.join(row.name for row in inner)}"
            raise DataError(f"{what}. Name one: {_rooted(inner[0], folder)}.")
    return None


def _rooted(row: TaskRow, folder: Path) -> str:
    """How a task and the folder of its copy are named, for either kind of user."""
    return f"{row.name} --root {shlex.quote(str(folder))} (in Python: {row.name!r}, root={str(folder)!r})"


def _places(row: TaskRow, table: Benchmark, folder: Path) -> Iterator[Place]:
    """What a folder may be read as. A list `test` alone says nothing: VTAB-1k and FGVC both have a test.json."""
    for layout in _layouts(table):
        base = layout.base if table.joint else row.images
        files = list_files(folder, table.lists, layout)
        if files.keys() - {"test"}:
            yield Place(folder, layout.name, base, files)
    if is_official(folder, row.key):
        yield Place(folder, OFFICIAL, row.images)


def _layouts(table: Benchmark) -> tuple[Layout, ...]:
    """FGVC has JSON alone: `train.txt` is any list."""
    return (TEXT, JSON) if table.joint else (JSON,)


def named_folders(root: Path, table: Benchmark) -> list[tuple[Path, TaskRow]]:
    """Folders in `root` that are called like a task, with the task."""
    found = []
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        row = row_called(entry.name, table)
        if row is not None and entry.is_dir():
            found.append((entry, row))
    return found
