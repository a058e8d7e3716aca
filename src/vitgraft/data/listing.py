"""Lists of labelled images as a task: CSV and TSV files, and text lists of `path label` lines.

A CSV has a column for the path and one for the label, perhaps one for the split; without a header its columns
are path, label and, if there is a third, split. In a text list the label follows the last space. A list called
`train.*` brings its siblings `val.*` and `test.*` along, unless its rows name their splits themselves. Paths
are relative to the list's folder, or to `root`.

Labels are names, or integers that count from 0 without a gap. Train decides what the classes are, unless
`classes` does; with it, a label is one of these names or an index into them.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vitgraft.data.files import Found, Item, Reading, check_classes, finish
from vitgraft.data.folder import ALL, SPLIT_NAMES, SPLITS
from vitgraft.data.rows import LISTS, Row, read_rows
from vitgraft.data.task import Task
from vitgraft.errors import DataError, unknown
from vitgraft.kinds import checked

INTEGER = re.compile(r"-?[0-9]{1,18}")
DECIMAL = re.compile(r"[-+]?[0-9]*\.[0-9]*([eE][-+]?[0-9]+)?")


@checked
def load_list(
    path: str | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    **options: object,
) -> Task:
    """Read a list, or a folder with a `train` list; `options` are the fields of `Reading`.

    The task is named after the list, or after its folder if the list is called train.

    Raises:
        DataError: a list that is missing, empty or malformed; a label that is negative, out of range, leaves
            a gap, or is unknown to train; an image that is missing, listed twice or cannot be decoded.
        ConfigError: an option that does not exist or has a wrong value.
    """
    reading = Reading.of(options)
    file = Path(path)
    if file.is_dir():
        file = (list_to_measure if reading.to_measure else train_list)(file) or file / "train.txt"
    rows = _rows_by_split(file, reading.to_measure)
    if reading.to_measure and classes is None:
        names, label_of = _occurring(rows)
    else:
        names, label_of = _labels(rows.get("train", []), classes, file)
    base = Path(root) if root is not None else file.parent
    paths = _paths(rows, base, allow_missing=reading.skip_unreadable or reading.skip_missing)
    missing = [path for path in paths.values() if reading.skip_missing and not os.path.isfile(base / path)]
    gone = set(missing)
    splits = {
        split: [Item(paths[row.where], label_of(row)) for row in rows[split] if paths[row.where] not in gone]
        for split in (*SPLITS, ALL)
        if split in rows
    }
    if not any(splits.values()):
        raise DataError(f"Of the {len(missing):,} images of '{file}' none is below '{base}'. Give another `root`.")
    name = file.resolve().parent.name if _split_of(file) == "train" else file.stem
    return finish(Found(name, base, names, splits, missing), reading)


def train_list(folder: Path) -> Path | None:
    """The list called train in a folder, if there is one."""
    return _siblings(folder, LISTS).get("train")


def list_to_measure(folder: Path) -> Path | None:
    """A list in a folder that is called like a split: train (its siblings are read with it), test, or else val."""
    found = _siblings(folder, LISTS)
    return found.get("train") or found.get("test") or found.get("val")


def _split_of(file: Path) -> str | None:
    return SPLIT_NAMES.get(file.stem.lower())


def _siblings(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Lists named after a split, by split."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        split = _split_of(file)
        if split is None or file.suffix.lower() not in suffixes or not file.is_file():
            continue
        if split in found:
            what = f"'{folder}' has two lists for {split}, '{found[split].name}' and '{file.name}'"
            raise DataError(f"{what}. Remove one, or name the list to read.")
        found[split] = file
    return found


def _rows_by_split(file: Path, to_measure: bool) -> dict[str, list[Row]]:
    """Every row of a list and its siblings; "train" and those to be cut from it are under "train".

    To be measured, a list that is called val or test is read alone, and rows that nothing gives a split are "all".
    """
    own = _split_of(file)
    if own in ("val", "test") and not to_measure:
        raise DataError(f"'{file}' is a {own} list. Name the train list: its siblings are read with it.")
    rows = read_rows(file)
    if own == "train" and not any(row.split for row in rows):
        for split, sibling in _siblings(file.parent, (file.suffix.lower(),)).items():
            if split != "train":
                rows += [row._replace(split=split) for row in read_rows(sibling)]
    by_split: dict[str, list[Row]] = {}
    uncut = own or ("train" if not to_measure or any(row.split for row in rows) else ALL)
    for row in rows:
        by_split.setdefault(row.split or uncut, []).append(row)
    if "train" not in by_split and not to_measure:
        raise DataError(f"'{file}' has no train rows, only {' and '.join(by_split)}. Add some.")
    return by_split


def _occurring(rows: Mapping[str, Sequence[Row]]) -> tuple[tuple[str, ...], Callable[[Row], int]]:
    """The labels that occur, each as it is written, and what turns a row's label into its index."""
    found: set[str] = set()
    for row in itertools.chain(*rows.values()):
        if not row.label:
            raise DataError(f"{row.where}: the label is empty. Write one, or remove the line.")
        found.add(row.label)
    names = sorted(found)
    if all(map(INTEGER.fullmatch, names)):
        names.sort(key=int)
    index = {name: number for number, name in enumerate(names)}
    return tuple(names), lambda row: index[row.label]


def _labels(
    train: Sequence[Row], classes: Sequence[str] | None, file: Path
) -> tuple[tuple[str, ...], Callable[[Row], int]]:
    """The class names, and what turns a row's label into its index."""
    if classes is not None:
        names = check_classes(classes, "classes")
    elif INTEGER.fullmatch(train[0].label):
        names = tuple(str(label) for label in range(_count(train)))
        if len(names) < 2:
            check_classes(names, file)
        return names, lambda row: _index(row, names)
    else:
        for row in train:
            _refuse_number(row, train[0])
        names = check_classes(sorted({row.label for row in train}), file)
    known = {name: index for index, name in enumerate(names)}

    def label_of(row: Row) -> int:
        if row.label in known:
            return known[row.label]
        if classes is not None and INTEGER.fullmatch(row.label):
            return _index(row, names)
        raise DataError(f"{row.where}: {unknown('class', row.label, names)} Train names every class.")

    return names, label_of


def _count(train: Sequence[Row]) -> int:
    """The number of classes of integer labels, which must be 0..C-1."""
    first: dict[int, Row] = {}
    for row in train:
        if not INTEGER.fullmatch(row.label):
            what = f"{row.where}: label {row.label!r} is no integer, but {train[0].where} has {train[0].label}"
            raise DataError(f"{what}. Write all labels as integers, or all as names.")
        first.setdefault(_natural(row), row)
    for expected, label in enumerate(sorted(first)):
        if label != expected:
            what = f"{first[label].where}: label {label}, but no training image has label {expected}"
            raise DataError(f"{what}. Integer labels count from 0 without a gap: renumber, or give `classes`.")
    return len(first)


def _index(row: Row, names: Sequence[str]) -> int:
    """An integer label as an index into the class names."""
    label = _natural(row) if INTEGER.fullmatch(row.label) else len(names)
    if label >= len(names):
        what = f"{row.where}: label {row.label!r} is out of range: there are {len(names)} classes"
        raise DataError(f"{what}, 0 to {len(names) - 1}. Mend it, or name every class in train or `classes`.")
    return label


def _natural(row: Row) -> int:
    if row.label.startswith("-"):
        raise DataError(f"{row.where}: label {row.label} is negative. Labels count from 0.")
    return int(row.label)


def _refuse_number(row: Row, first: Row) -> None:
    """Raise where a label cannot be the name of a class, in a list that begins with a name."""
    if not row.label:
        raise DataError(f"{row.where}: the label is empty. Write one, or remove the line.")
    if DECIMAL.fullmatch(row.label):
        raise DataError(f"{row.where}: label {row.label!r} is neither a name nor an integer. Write it as one.")
    if INTEGER.fullmatch(row.label):
        what = f"{row.where}: label {row.label} is an integer, but {first.where} has {first.label!r}"
        raise DataError(f"{what}. Write all labels as names, or all as integers, or give `classes`.")


def _paths(rows: dict[str, list[Row]], base: Path, allow_missing: bool) -> dict[str, str]:
    """From `file:line` to the image's path below `base` (absolute where it is outside).

    Raises:
        DataError: an image that is missing (unless the eager check may skip it) or listed twice.
    """
    paths: dict[str, str] = {}
    owner: dict[str, tuple[Row, str]] = {}
    for split, members in rows.items():
        for row in members:
            file = base / row.path
            if not os.path.isfile(file) and "\\" in row.path:  # written on Windows
                file = base / row.path.replace("\\", "/")
            if not row.path or not (os.path.isfile(file) or allow_missing):
                what = (
                    f"{row.where}: there is no image '{file}'" if row.path else f"{row.where}: the path is empty"
                )
                raise DataError(f"{what}. Paths are relative to '{base}': mend the line, or give another `root`.")
            first, home = owner.setdefault(os.path.realpath(file), (row, split))
            if first is not row:
                raise DataError(_listed_twice(first, home, row, split))
            inside = os.path.relpath(file, base) if file.is_relative_to(base) else os.path.abspath(file)
            paths[row.where] = Path(inside).as_posix()
    return paths


def _listed_twice(first: Row, home: str, row: Row, split: str) -> str:
    what = f"{row.where}: image '{row.path}' is also at {first.where}"
    if home != split:
        return f"{what}, in {home} there and in {split} here, which would leak. Remove one of the lines."
    if first.label != row.label:
        return f"{what}, labelled {first.label!r} there and {row.label!r} here. Remove one of the lines."
    return f"{what}. Remove one of the lines."
