"""The rows of a list file: CSV and TSV tables, and text lists of `path label` lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from vitgraft.data.labelling import MARK
from vitgraft.data.reading.lists.columns import Columns, Layout, headless, layout_of, titled
from vitgraft.data.reading.lists.defects import Defect, refuse
from vitgraft.data.reading.lists.flags import NUMBERS
from vitgraft.data.reading.lists.splits import AUTO, NO_COLUMN, Splits, read_splits
from vitgraft.data.reading.lists.text import Line, read_text, table
from vitgraft.errors import ConfigError, DataError

TABLES = (".csv", ".tsv")
LISTS = (*TABLES, ".txt", ".lst")


class Row(NamedTuple):
    """One line: path and label as written, the split it names ("" for none), and where: `file:line`.

    Where several columns hold labels, `cells` has them by their titles; `title` is that of a single one.
    """

    path: str
    label: str
    split: str
    where: str
    cells: Mapping[str, str] = MappingProxyType({})
    title: str = ""


@dataclass(frozen=True)
class Listed:
    """What a list says: its rows, sentences for a person, and defects, of lines that are no rows."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    several: bool = False  # columns of 0 and 1 of which any number may be 1


def read_rows(file: Path) -> list[Row]:
    """The rows of a list file, blank lines left out.

    Raises:
        DataError: a file that is missing, no text, empty, or malformed; the message names every line.
    """
    listed = read_list(file)
    refuse(file, listed.defects)
    return listed.rows


def read_list(file: Path, asked: Columns | None = None, labels: str = AUTO) -> Listed:
    """What a list file says, with defects told instead of raised, so that others can be found, too.

    `labels` says what its labels are, as in `Reading`.

    Raises:
        DataError: a file that is missing, no text, empty, or has no columns for path and label.
        ConfigError: columns were asked for, and it is no table.
    """
    text = read_text(file)
    columns = asked or Columns()
    lines, delimiter = table(file, text.content) if _is_table(file, text.content) else ([], "")
    if lines:
        listed = _table_rows(file, lines, delimiter, columns, labels)
    elif columns.given and columns.given != ("suffix",):
        what = f"'{file}' is a list of 'path label' lines and has no columns"
        raise ConfigError(f"{what}: leave out {', '.join(columns.given)}, or make it a CSV file.")
    else:
        listed = _text_rows(file, text.content)
    if not listed.rows and not listed.defects:
        raise DataError(f"List '{file}' names no images. Each line is a path and a label.")
    return replace(listed, notes=[*([text.note] if text.note else []), *listed.notes])


def _is_table(file: Path, text: str) -> bool:
    """Whether a list is a table: it is called one, or its first line is one of it."""
    if file.suffix.lower() in TABLES:
        return True
    first = next((line for line in text.split("\n") if line.strip()), "")
    cells = [[cell.strip() for cell in first.split(mark)] for mark in ",;\t"]
    return any(headless(one) or titled(one) for one in cells)


def _text_rows(file: Path, text: str) -> Listed:
    rows, defects = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.strip().rsplit(None, 1)
        if len(parts) < 2:
            what = f"{file}:{number}: {line.strip()!r} has no label after a space"
            defects.append(Defect(what, "Write 'path label', or call a comma-separated list .csv."))
        else:
            rows.append(Row(parts[0], parts[1], "", f"{file}:{number}"))
    return Listed(rows, defects=defects)


def _table_rows(file: Path, lines: Sequence[Line], delimiter: str, asked: Columns, labels: str) -> Listed:
    """The rows of a table, with or without a line of titles."""
    first = lines[0].cells
    bare = headless(first)
    fitted, defects = _fitted(file, lines, 0 if bare else 1, delimiter)
    layout = _bare_layout(file, first, fitted, asked) if bare else layout_of(file, first, fitted, asked, labels)
    title = "" if bare or layout.label is None else first[layout.label]
    rows = []
    for line, split in zip(fitted, layout.splits.names, strict=True):
        cells = {title: line.cells[column] for column, title in layout.several.items()}
        if cells:
            label = MARK.join(cells.values())
        elif layout.label is None:
            label = next((title for column, title in layout.one_hot.items() if NUMBERS[line.cells[column]]), "")
            if not label:
                continue  # a defect, told by the layout
        else:
            label = line.cells[layout.label]
        rows.append(Row(line.cells[layout.path], label, split, f"{file}:{line.number}", cells, title))
    flags = bool(layout.several) and all(cell in NUMBERS for row in rows for cell in row.cells.values())
    return Listed(rows, layout.notes, [*defects, *layout.defects], flags)


def _fitted(file: Path, lines: Sequence[Line], start: int, delimiter: str) -> tuple[list[Line], list[Defect]]:
    """Lines with as many cells as the first, and defects for those that have others. What a trailing delimiter
    adds or leaves out is no cell."""
    first = lines[0].cells
    width = len(first)
    fitted, defects = [], []
    for line in lines[start:]:
        cells = line.cells
        while len(cells) > width and not cells[-1]:
            cells = cells[:-1]
        if len(cells) < width and not any(first[len(cells) :]):
            cells = cells + [""] * (width - len(cells))
        if len(cells) == width:
            fitted.append(Line(line.number, cells))
        else:
            what = f"{file}:{line.number}: {len(cells)} values, but the first line has {width}"
            defects.append(Defect(what, f"Put values that hold {delimiter!r} in double quotes."))
    return fitted, defects


def _bare_layout(file: Path, first: Sequence[str], lines: Sequence[Line], asked: Columns) -> Layout:
    """Path, label and, if there is a third, split: the columns of a table without titles."""
    named = [name for name in asked.given if name != "suffix" and (name, asked.split_column) != _NO_SPLIT]
    if named:
        what = f"'{file}' has no line of titles, since it begins with {first[0]!r}"
        raise ConfigError(f"{what}: leave out {', '.join(named)}, or write titles into its first line.")
    titles = [f"column {number}" for number in range(1, len(first) + 1)]
    splits, unread = Splits([""] * len(lines)), titles[2:]
    if len(first) > 2 and asked.split_column == AUTO and any(line.cells[2] for line in lines):
        splits, unread = read_splits(str(file), titles, lines, (2,), asked=True), titles[3:]
    notes = [f"Not read: {', '.join(unread)}."] if unread else []
    return Layout(0, 1, {}, splits, notes=[*splits.notes, *notes], defects=splits.defects)


_NO_SPLIT = ("split_column", NO_COLUMN)
