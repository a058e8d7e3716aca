"""From the labels of a list to numbers, in the units in which they are written."""

import math
from collections.abc import Mapping, Sequence

from vitgraft.data.labelling import NUMBER
from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.lists.labels import Labels
from vitgraft.data.reading.rows import Row

ONE = "number"
"""What a number is called that no title names."""

FIX = "Write a finite number, with a point before decimals, or remove the line."


def numbers_of(rows: Mapping[str, Sequence[Row]]) -> Labels:
    """The numbers of each picture, one a column; all must be there and finite."""
    every = [row for members in rows.values() for row in members]
    titles = tuple(dict.fromkeys(title for row in every for title in row.cells)) or (every[0].title or ONE,)
    index: dict[str, tuple[float, ...]] = {}
    defects: list[Defect] = []
    for row in every:
        cells = row.cells or {titles[0]: row.label}
        found = {title: _number(cells.get(title, "")) for title in titles}
        wrong = [title for title, value in found.items() if value is None]
        for title in wrong:
            what = f"{row.where}: {title} is {cells.get(title, '')!r}, which is no finite number"
            defects.append(Defect(what, FIX))
        if not wrong:
            index[row.where] = tuple(value for value in found.values() if value is not None)
    constant = [title for column, title in enumerate(titles) if len({one[column] for one in index.values()}) == 1]
    notes = [f"The same for every picture, nothing is to be learned: {some(constant)}."] if constant else []
    return Labels(titles, index, notes, defects, NUMBER)


def _number(text: str) -> float | None:
    """A finite number; no other spellings than Python's and a decimal point, and no underscores."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
