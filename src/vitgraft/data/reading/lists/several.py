"""From the labels of a list to any number of classes a picture: names in one cell, or a column of 0 and 1 each."""

from collections.abc import Mapping, Sequence
from functools import partial

from vitgraft.data.labelling import MARK, MULTI
from vitgraft.data.reading.files import check_classes
from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.lists.flags import NUMBERS
from vitgraft.data.reading.lists.labels import EVERY, Labels
from vitgraft.data.reading.rows import Row
from vitgraft.errors import unknown

OTHERS = (";", ",")
"""Stand between labels where there is no |."""


def several_of(rows: Mapping[str, Sequence[Row]], classes: Mapping[int, str] | None, to_measure: bool) -> Labels:
    """The labels of each picture; train names them all, unless `classes` does or they are `to_measure`.

    An empty cell is a picture without a label. A name that is there twice in a cell counts once.

    Raises:
        DataError: `classes` are fewer than two, or differ by case alone.
    """
    every = [row for members in rows.values() for row in members]
    mark = _mark(every)
    own = {row.where: _names(row, mark) for row in every}
    naming = every if to_measure else list(rows.get("train", ()))
    if classes is not None:
        names = check_classes(classes.values(), "classes")
    else:
        names = _ordered({name for row in naming for name in own[row.where]})
    known = {name: index for index, name in enumerate(names)}
    defects = [defect for row in every for defect in _not_flags(row)]
    refused = partial(_refused, names=names)
    defects += [refused(row, name) for row in every for name in own[row.where] if name not in known]
    index = {where: tuple(known[name] for name in found if name in known) for where, found in own.items()}
    return Labels(names, index, _notes(every, own, names, mark), defects, MULTI)


def _mark(rows: Sequence[Row]) -> str:
    """What stands between names: |, or else ; or a comma, whichever occurs."""
    if any(MARK in row.label for row in rows):
        return MARK
    return next((mark for mark in OTHERS if any(mark in row.label for row in rows)), MARK)


def _names(row: Row, mark: str) -> tuple[str, ...]:
    if row.cells:
        return tuple(title for title, cell in row.cells.items() if NUMBERS.get(cell))
    return tuple(dict.fromkeys(name for part in row.label.split(mark) if (name := part.strip())))


def _ordered(names: set[str]) -> tuple[str, ...]:
    if all(map(str.isdigit, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _not_flags(row: Row) -> list[Defect]:
    """Cells of classes' columns that are neither 0 nor 1."""
    return [
        Defect(f"{row.where}: column {title!r} has {cell!r}", "A class's column has 1 or 0: mend it.")
        for title, cell in row.cells.items()
        if cell not in NUMBERS
    ]


def _refused(row: Row, name: str, names: Sequence[str]) -> Defect:
    return Defect(f"{row.where}: {unknown('class', name, names).removesuffix('.')}", EVERY)


def _notes(rows: Sequence[Row], own: Mapping[str, tuple[str, ...]], names: Sequence[str], mark: str) -> list[str]:
    """How many labels there are, and how many pictures have none; columns that no picture has."""
    counts = [len(own[row.where]) for row in rows]
    bare = counts.count(0)
    mean = sum(counts) / max(len(counts), 1)
    told = [f"{len(names):,} labels, {mean:.2g} a picture on average; {bare:,} pictures have none."]
    if mark != MARK:
        told.append(f"Labels are parted at {mark!r}.")
    titles = dict.fromkeys(title for row in rows for title in row.cells)
    if empty := [title for title in titles if title not in names]:
        told.append(f"No class, since no picture of train has it: {some(empty)}.")
    return told
