"""Lists of a benchmark copy: text lines (NOAH's layout) and JSON (SynQT's and VPT's).

- `train800.txt`: a line is `images/train800/000000.jpg 7`, a path below the task's folder and a label behind the
  last space.
- `train800val200.json`: `[{"000000.png": 7}, ...]`, paths below `images/`.
- `train.json`: `{"some/path.jpg": 7, ...}`, paths below the row's own folder of images.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitgraft.data.benchmarks.table import Broken, Part, Problem
from vitgraft.data.reading.rows import read_rows
from vitgraft.errors import DataError

LARGEST = 10**9  # a label beyond this is no label
DIGITS = 20  # a text of more is no number that a list has


class Entry(NamedTuple):
    """One line: a path, a label, and where: `file:line` or `file, entry 3`."""

    path: str
    label: int
    where: str


Entries = dict[Part, list[Entry]]


class Layout(NamedTuple):
    """How lists are written: the suffix of their files, and the folder that their paths are below."""

    name: str
    suffix: str
    base: str


TEXT = Layout("lists", ".txt", "")
JSON = Layout("JSON", ".json", "images")  # of VTAB-1k; FGVC's base is the row's


def list_files(folder: Path, lists: Mapping[Part, str], layout: Layout) -> dict[Part, Path]:
    """Lists of a layout that are there, by split."""
    files = {part: folder / f"{name}{layout.suffix}" for part, name in lists.items()}
    return {part: file for part, file in files.items() if file.is_file()}


def read_list(file: Path) -> list[Entry]:
    """The entries of a list, text or JSON by its suffix.

    Raises:
        Broken: a list that cannot be read or is empty, or a line without a path and a whole number.
    """
    try:
        entries = _json_entries(file) if file.suffix == ".json" else _text_entries(file)
    except Broken:
        raise
    except DataError as error:
        raise Broken(Problem("corrupt", str(error), file.name)) from None
    if not entries:
        raise Broken(Problem("corrupt", f"'{file}' names no images.", file.name))
    return entries


def _text_entries(file: Path) -> list[Entry]:
    return [Entry(row.path, _label(row.label, row.where, file), row.where) for row in read_rows(file)]


def _label(text: str, where: str, file: Path) -> int:
    """A label as a whole number; `int` alone would take ' 1_0' and '+7'."""
    if not (text.isascii() and text.isdigit() and len(text) < DIGITS and int(text) < LARGEST):
        raise Broken(Problem("wrong", f"{where}: label {text!r} is not a whole number from 0 up.", file.name))
    return int(text)


def _json_entries(file: Path) -> list[Entry]:
    """A list of one-entry objects, or one object. A path that stands there twice stays twice."""
    try:
        value = json.loads(file.read_bytes(), object_pairs_hook=list)
    except OSError as error:
        raise DataError(f"Cannot read list '{file}': {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{file}' is no JSON ({error}): it is damaged.") from None
    if not isinstance(value, list):
        raise DataError(f"'{file}' holds no list of paths and labels.")
    single = bool(value) and isinstance(value[0], tuple)  # an object is a list of pairs, see the hook
    entries = []
    for number, item in enumerate(value, start=1):
        entries.append(_pair(item if single else _only(item), f"{file.name}, entry {number}", file))
    return entries


def _only(item: Any) -> Any:
    """The pair of a one-entry object."""
    return item[0] if isinstance(item, list) and len(item) == 1 else None


def _pair(item: Any, where: str, file: Path) -> Entry:
    if not (isinstance(item, tuple) and len(item) == 2):
        raise DataError(f'{where}: expected one path and its label, as in {{"000000.png": 7}}.')
    path, label = item
    if isinstance(label, str):
        label = _label(label, where, file)
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < LARGEST:
        raise Broken(Problem("wrong", f"{where}: label {label!r} is not a whole number from 0 up.", file.name))
    return Entry(path, label, where)
