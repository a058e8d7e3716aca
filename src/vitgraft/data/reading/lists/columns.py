"""Which column of a table is the path, which the label and which the split, and what the others are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from vitgraft.data.labelling import CLASS, NUMBER
from vitgraft.data.reading.left_out import called_like_image
from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.lists.flags import ELSE, NUMBERS, any_number
from vitgraft.data.reading.lists.splits import AUTO, NO_COLUMN, Splits, flag_of, read_splits
from vitgraft.data.reading.lists.text import Line
from vitgraft.errors import ConfigError, DataError, unknown

KNOWN = {  # what a row needs -> titles of columns that say so, the preferred first
    "path": (
        *("path", "image", "file", "filename", "image_path", "file_path", "filepath", "file_name"),
        *("image_name", "image_file", "image_filename", "img", "img_path", "img_name", "imagepath", "imgpath"),
        *("images", "image_id", "img_id", "id"),
    ),
    "label": ("label", "class", "target", "class_name", "category", "class_id", "label_id", "category_id"),
}


@dataclass(frozen=True)
class Columns:
    """What a user says of a list's columns: their titles, or None where they are found by their names.

    `split_column` is a title, "auto" (found by its name or values) or "none" (no column is the split). `suffix` is
    added to paths that have none; without it, a path that only one image fits is that image.

    Raises:
        ConfigError: a value of the wrong type.
    """

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = AUTO
    suffix: str | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ConfigError(f"{item.name} = {value!r}: expected a text.")
        if self.suffix is not None and not self.suffix.startswith("."):
            object.__setattr__(self, "suffix", f".{self.suffix}")
        if self.split_column is None:
            object.__setattr__(self, "split_column", NO_COLUMN)

    @classmethod
    def taken_from(cls, options: dict[str, object]) -> Self:
        """The columns among `options`, which are taken out of it."""
        return cls(**{key: options.pop(key) for key in column_options(options)})  # type: ignore[arg-type]

    @property
    def given(self) -> tuple[str, ...]:
        """What the user said, by the names of the options."""
        return tuple(item.name for item in fields(self) if getattr(self, item.name) != item.default)


def column_options(options: Mapping[str, object]) -> list[str]:
    """Those of some options that are about columns."""
    return [item.name for item in fields(Columns) if item.name in options]


@dataclass(frozen=True)
class Layout:
    """What a table's columns are: the path's, the label's (or those of one-hot labels by class, or `several` that
    each say something of a picture), the splits; notes for a person and defects."""

    path: int
    label: int | None
    one_hot: Mapping[int, str]
    splits: Splits
    several: Mapping[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


def layout_of(
    file: Path, header: Sequence[str], lines: Sequence[Line], asked: Columns, labels: str = AUTO
) -> Layout:
    """What the columns of a table with a header are; `labels` says what its labels are, as in `Reading`.

    Raises:
        DataError: no column for the path or the label, one that is named and not there, or two of one title.
    """
    free = [column for column, title in enumerate(header) if title]
    path = _named(file, header, "path", asked.path_column)
    if path is None:
        raise DataError(_lacking(file, header, "path"))
    free.remove(path)
    several = _several(header, asked.label_column)
    label = None if several else _named(file, header, "label", asked.label_column)
    if several and labels == CLASS.name:
        free, several = list(several), {}
    if label == path:
        what = f"'{file}': column {header[path]!r} would be both the path and the label"
        raise DataError(f"{what}. Name the other: --path-column or --label-column (in Python path_column=).")
    free = [column for column in free if column != label and column not in several]
    classes = _flags_that_are_classes(header, lines, free) if label is None and not several else set()
    splits = _splits(file, header, lines, [column for column in free if column not in classes], asked)
    free = [column for column in free if column not in splits.columns]
    one_hot: dict[int, str] = {}
    notes: list[str] = []
    defects: list[Defect] = []
    if label is None and not several:
        several = any_number(file, header, lines, free, labels, notes, defects)
        free = [column for column in free if column not in several]
    if label is None and not several:
        one_hot = {column: header[column] for column in free if _is_flag(lines, column)}
        if len(one_hot) < 2 or labels == NUMBER.name:
            raise DataError(_lacking(file, header, "label"))
        defects = _unhot(file, lines, one_hot)
        empty = [column for column in one_hot if not any(NUMBERS[line.cells[column]] for line in lines)]
        rest = "".join(f"; {header[column]!r} is 1 in no row, and no class" for column in empty)
        one_hot = {column: title for column, title in one_hot.items() if column not in empty}
        notes.append(f"One-hot columns are taken as the label: {some(one_hot.values())}{rest}.")
        free = [column for column in free if column not in one_hot and column not in empty]
    unread = [header[column] for column in free]
    unread += [""] * any(not title and any(line.cells[i] for line in lines) for i, title in enumerate(header))
    if unread:
        others = "".join(
            f" To take {title!r} for the {kind}: --{kind}-column."
            for kind, known in KNOWN.items()
            for title in unread
            if _plain(title) in known[:-1]
        )
        notes.append(f"Columns not read: {some([title or '(no title)' for title in unread], 10)}.{others}")
    return Layout(path, label, one_hot, splits, several, [*splits.notes, *notes], [*splits.defects, *defects])


def headless(first: Sequence[str]) -> bool:
    """Whether a table's first line is a row already: it begins with the name of an image."""
    return len(first) >= 2 and called_like_image(first[0])


def titled(first: Sequence[str]) -> bool:
    """Whether a first line has titles, of a path and a label at least."""
    titles = set(map(_plain, first))
    return all(titles & set(known) for known in KNOWN.values())


def _named(file: Path, header: Sequence[str], kind: str, asked: str | None) -> int | None:
    """The column that is the path or the label: the one that was asked for, else the best of the known titles."""
    titles = [_plain(title) for title in header]
    for title in (asked,) if asked is not None else KNOWN[kind]:
        exact = [column for column, own in enumerate(header) if own == title]
        places = exact or [column for column, own in enumerate(titles) if own == _plain(title)]
        if len(places) > 1:
            which = " and ".join(str(column + 1) for column in places)
            what = f"'{file}': columns {which} are both called {title!r}"
            raise DataError(f"{what}. Give one of them another title.")
        if places:
            return places[0]
    if asked is not None:
        raise DataError(f"'{file}': {unknown('column', asked, filter(None, header))}")
    return None


def _several(header: Sequence[str], asked: str | None) -> dict[int, str]:
    """The columns of labels, where several are asked for by titles with commas between."""
    titles = [] if asked is None or asked in header else [one.strip() for one in asked.split(",") if one.strip()]
    places = {title: [column for column, own in enumerate(header) if own == title] for title in titles}
    if len(titles) < 2 or not all(len(found) == 1 for found in places.values()):
        return {}
    return {found[0]: title for title, found in places.items()}


def _splits(
    file: Path, header: Sequence[str], lines: Sequence[Line], free: Sequence[int], asked: Columns
) -> Splits:
    where = str(file)
    if asked.split_column == NO_COLUMN:
        return Splits([""] * len(lines))
    if asked.split_column == AUTO:
        return read_splits(where, header, lines, free)
    column = _named(file, header, "split", asked.split_column)
    assert column is not None, "a column that is asked for is there, or told not to be"
    return read_splits(where, header, lines, (column,), asked=True)


def _is_flag(lines: Sequence[Line], column: int) -> bool:
    return bool(lines) and all(line.cells[column] in NUMBERS for line in lines)


def _flags_that_are_classes(header: Sequence[str], lines: Sequence[Line], free: Sequence[int]) -> set[int]:
    """Columns called like a flag of a split (`train`) that are one-hot labels, as those beside them are."""
    marks = [column for column in free if _is_flag(lines, column)]
    called = {column for column in marks if flag_of(header[column]) is not None}
    others = [column for column in marks if column not in called]
    if not called or not others or _one_each(lines, others) or not _one_each(lines, marks):
        return set()
    return called


def _one_each(lines: Sequence[Line], columns: Sequence[int]) -> bool:
    return all(sum(NUMBERS[line.cells[column]] for column in columns) == 1 for line in lines)


def _unhot(file: Path, lines: Sequence[Line], one_hot: Mapping[int, str]) -> list[Defect]:
    """Lines that have no class, or several."""
    found = []
    for line in lines:
        own = [title for column, title in one_hot.items() if NUMBERS[line.cells[column]]]
        if len(own) != 1:
            has = f"{len(own)} classes ({some(own)})" if own else "no class"
            what = f"{file}:{line.number}: the row has {has} in its one-hot columns"
            found.append(
                Defect(what, f"An image has one class: mend it, {ELSE}, or name a label's column: --label-column.")
            )
    return found


def _lacking(file: Path, header: Sequence[str], kind: str) -> str:
    what = f"'{file}' has no {kind} column; its first line is {', '.join(map(repr, header))}"
    how = (
        f"Name it with --{kind}-column (in Python {kind}_column=), or call it one of: {', '.join(KNOWN[kind][:8])}"
    )
    above = "if that line is of an image already, write one of titles above it"
    return f"{what}. {how}; {above}."


def _plain(title: str) -> str:
    return title.strip().lower().replace(" ", "_").replace("-", "_")
