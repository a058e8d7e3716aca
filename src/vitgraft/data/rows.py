"""The rows of a list file: CSV and TSV tables, and text lists of `path label` lines."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from vitgraft.data.decode import looks_like_image
from vitgraft.data.folder import SPLIT_NAMES
from vitgraft.errors import DataError, unknown

TABLES = (".csv", ".tsv")
LISTS = (*TABLES, ".txt", ".lst")
COLUMNS = {  # what a row needs -> column names that say so, the preferred first
    "path": ("path", "image", "file", "filename", "image_path", "file_path", "filepath", "file_name"),
    "label": ("label", "class", "target", "class_name", "category"),
    "split": ("split", "subset"),
}


class Row(NamedTuple):
    """One line: path and label as written, the split it names ("" for none), and where: `file:line`."""

    path: str
    label: str
    split: str
    where: str


def read_rows(file: Path) -> list[Row]:
    """The rows of a list file, blank lines left out.

    Raises:
        DataError: a file that is missing, not UTF-8, empty, or malformed at a line that the message names.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no list '{file}'. Check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is not UTF-8 text ({error.reason}). Save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"Cannot read list '{file}': {error.strerror}. Check the path.") from None
    if "\0" in text:
        raise DataError(f"'{file}' is not UTF-8 text (it holds zero bytes). Save it as UTF-8.")
    rows = _table_rows(file, text) if file.suffix.lower() in TABLES else _text_rows(file, text)
    if not rows:
        raise DataError(f"List '{file}' names no images. Each line is a path and a label.")
    return rows


def _text_rows(file: Path, text: str) -> list[Row]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.strip().rsplit(None, 1)
        if len(parts) < 2:
            what = f"{file}:{number}: {line.strip()!r} has no label after a space"
            raise DataError(f"{what}. Write 'path label', or call a comma-separated list .csv.")
        rows.append(Row(parts[0], parts[1], "", f"{file}:{number}"))
    return rows


def _table_rows(file: Path, text: str) -> list[Row]:
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    cells: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                cells.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: {error}. Check the quotes of this line.") from None
    if not cells:
        return []
    columns, has_header = _columns(file, cells[0][1])
    rows = []
    for number, row in cells[1:] if has_header else cells:
        where = f"{file}:{number}"
        if len(row) != len(cells[0][1]):
            what = f"{where}: {len(row)} values, but the first line has {len(cells[0][1])}"
            raise DataError(f"{what}. Put values that hold {delimiter!r} in double quotes.")
        split = _split_name(row[columns["split"]], where) if "split" in columns else ""
        rows.append(Row(row[columns["path"]], row[columns["label"]], split, where))
    return rows


def _columns(file: Path, first: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Which column is path, label and split, and whether the first line is a header."""
    names = [cell.lower() for cell in first]
    columns: dict[str, int] = {}
    for kind, known in COLUMNS.items():
        present = [name for name in known if name in names]
        if present:
            columns[kind] = names.index(present[0])
    if "path" in columns and "label" in columns:
        return columns, True
    if looks_like_image(first[0]) and len(first) >= 2:
        return dict(zip(COLUMNS, range(min(len(first), 3)), strict=False)), False
    lacking = "path" if "path" not in columns else "label"
    what = f"'{file}' has no {lacking} column; its first line is {', '.join(map(repr, first))}"
    raise DataError(f"{what}. Call the column one of: {', '.join(COLUMNS[lacking])}.")


def _split_name(cell: str, where: str) -> str:
    if cell.lower() not in SPLIT_NAMES:
        raise DataError(f"{where}: {unknown('split', cell, SPLIT_NAMES)}")
    return SPLIT_NAMES[cell.lower()]
