"""Columns of 0 and 1, one a class: of which a picture has any number."""

from collections.abc import Sequence
from pathlib import Path

from vitgraft.data.labelling import CLASS, MULTI
from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.lists.text import Line
from vitgraft.errors import option

NUMBERS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}

OFTEN = 0.2
"""Where more than this share of the rows has no class, or several, that is how they are meant."""

ODD = 0.2
"""A column of which so few cells are neither 0 nor 1 is one of a class with mistakes."""

ELSE = "or say that a picture has any number of them: --labels multi"


def any_number(
    file: Path,
    header: Sequence[str],
    lines: Sequence[Line],
    free: Sequence[int],
    labels: str,
    notes: list[str],
    defects: list[Defect],
) -> dict[int, str]:
    """The columns of a class each, of which a picture has any number; none where it has one, or there are none.

    What is found is told in `notes`, and cells of these columns that are neither 0 nor 1 are `defects`.
    """
    asked = labels == MULTI.name
    if labels not in (MULTI.name, "auto") or not lines:
        return {}
    flags = [column for column in free if _odd(lines, column) <= ODD * len(lines)]
    right = [column for column in flags if not _odd(lines, column)]
    if not asked:
        flags = [column for column in flags if all(_is_share(line.cells[column]) for line in lines)]
    counts = [sum(NUMBERS[line.cells[column]] for column in right) for line in lines]
    one_each = sum(count == 1 for count in counts) > (1 - OFTEN) * len(lines)
    if len(flags) < (1 if asked else 2) or (not asked and len(right) > 1 and one_each):
        return {}
    for line in lines:
        for column in flags:
            if (cell := line.cells[column]) not in NUMBERS:
                what = f"{file}:{line.number}: column {header[column]!r} has {cell!r}"
                defects.append(Defect(what, "A class's column has 1 or 0: mend it, or give it no such column."))
    found = {column: header[column] for column in flags}
    told = f"A picture has any number of labels, from columns of 0 and 1: {some(found.values())}."
    other = "" if asked else f" Else: {option('labels', CLASS.name)}."
    notes.append(told + other)
    return found


def _is_share(cell: str) -> bool:
    """Whether a cell is 0, 1, or a number between, which is a mistake in a class's column."""
    return cell in NUMBERS or (cell.startswith(("0.", ".")) and cell.replace(".", "", 1).isdigit())


def _odd(lines: Sequence[Line], column: int) -> int:
    """How many cells of a column are neither 0 nor 1."""
    return sum(line.cells[column] not in NUMBERS for line in lines)
