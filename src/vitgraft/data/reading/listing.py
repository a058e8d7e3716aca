"""Lists of labelled images as a task: CSV and TSV files, and text lists of `path label` lines.

A CSV has a column for the path and one for the label (or a column of 0 and 1 a class), perhaps one or several for
the split; without a line of titles its columns are path, label and, if there is a third, split. In a text list the
label follows the last space. A list called `train.*` brings its siblings `val.*` and `test.*` along, unless its
rows name their splits themselves. Paths are relative to the list's folder, or to `root`.

Labels are names or whole numbers. Train decides what the classes are, unless `classes` does.
"""

from collections.abc import Sequence
from pathlib import Path

from vitgraft.data.class_names import numbered_names
from vitgraft.data.labelling import MULTI
from vitgraft.data.reading.files import Found, check_classes, finish
from vitgraft.data.reading.lists.columns import Columns
from vitgraft.data.reading.lists.defects import Defect, refuse
from vitgraft.data.reading.lists.kinds import understood
from vitgraft.data.reading.lists.locate import Places
from vitgraft.data.reading.lists.splits import AUTO, NO_COLUMN
from vitgraft.data.reading.options import Item, Reading
from vitgraft.data.reading.rows import LISTS, Listed, Row, read_list
from vitgraft.data.reading.split_names import ALL, SPLITS, split_named, splits_of_paths
from vitgraft.data.task import Task
from vitgraft.errors import DataError
from vitgraft.kinds import checked


@checked
def load_list(
    path: str | Path,
    *,
    root: str | Path | None = None,
    classes: object = None,
    **options: object,
) -> Task:
    """Read a list, or a folder with a `train` list; `options` are the fields of `Reading` and `Columns`.

    `classes` are names in order, or a mapping between numbers and names, either way round. The task is named after
    the list, or after its folder if the list is called train.

    Raises:
        DataError: a list that is missing, empty or malformed; a label that is negative, out of range, or unknown
            to train; an image that is missing, listed twice or cannot be decoded. All defects are in one message.
        ConfigError: an option that does not exist or has a wrong value.
    """
    columns = Columns.taken_from(options)
    reading = Reading.of(options)
    return finish(find_list(path, columns, reading, root=root, classes=classes), reading)


def find_list(
    path: str | Path,
    columns: Columns,
    reading: Reading,
    *,
    root: str | Path | None = None,
    classes: object = None,
) -> Found:
    """What a list says: the path, label and split of every image, before anything was decoded. Raises as above."""
    file = Path(path)
    if file.is_dir():
        file = (list_to_measure if reading.to_measure else train_list)(file) or file / "train.txt"
    names = None if classes is None else numbered_names(classes)
    listed, rows = _rows_by_split(file, columns, reading)
    labels = understood(rows, reading.labels, listed.several, names, reading.to_measure)
    places = Places(Path(root).expanduser() if root is not None else file.parent, columns.suffix)
    places.find(rows, reading.skip_unreadable or reading.skip_missing)
    refuse(file, [*listed.defects, *labels.defects, *places.defects])
    if not reading.to_measure:
        check_classes(labels.names, file, labels.kind.fewest)
    missing = places.missing if reading.skip_missing else []
    gone = set(missing)
    splits = {
        split: [
            Item(places.paths[row.where], labels.index[row.where])
            for row in rows[split]
            if places.paths[row.where] not in gone
        ]
        for split in (*SPLITS, ALL)
        if split in rows
    }
    if not any(splits.values()):
        what = f"Of the {len(missing):,} images of '{file}' none is below '{places.base}'"
        raise DataError(f"{what}. Give another root (--root; in Python `root`).")
    name = file.resolve().parent.name if split_named(file.stem) == "train" else file.stem
    notes = (*listed.notes, *labels.notes, *places.notes)
    return Found(name, places.base, labels.names, splits, notes, missing=missing, kind=labels.kind)


def train_list(folder: Path) -> Path | None:
    """The list called train in a folder, if there is one."""
    return _siblings(folder, LISTS).get("train")


def list_to_measure(folder: Path) -> Path | None:
    """A list in a folder that is called like a split: train (its siblings are read with it), test, or else val."""
    found = _siblings(folder, LISTS)
    return found.get("train") or found.get("test") or found.get("val")


def _siblings(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Lists named after a split, by split."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        split = split_named(file.stem)
        if split is None or file.suffix.lower() not in suffixes or not file.is_file():
            continue
        if split in found:
            what = f"'{folder}' has two lists for {split}, '{found[split].name}' and '{file.name}'"
            raise DataError(f"{what}. Remove one, or name the list to read.")
        found[split] = file
    return found


def _split_by_paths(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows whose splits are the folders that their paths lie in, if these are called so, and a note."""
    found = splits_of_paths([row.path for row in rows])
    if not found:
        return rows, []
    counts = ", ".join(f"{found.count(split):,} {split}" for split in SPLITS if split in found)
    note = f"Folders in the paths are taken as the split: {counts}. Else: --split-column {NO_COLUMN}."
    return [row._replace(split=split) for row, split in zip(rows, found, strict=True)], [note]


def _rows_by_split(file: Path, columns: Columns, reading: Reading) -> tuple[Listed, dict[str, list[Row]]]:
    """Every row of a list and its siblings; "train" and those to be cut from it are under "train".

    To be measured, a list that is called val or test is read alone, and rows that nothing gives a split are "all".
    """
    own, to_measure = split_named(file.stem), reading.to_measure
    if own in ("val", "test") and not to_measure:
        raise DataError(f"'{file}' is a {own} list. Name the train list: its siblings are read with it.")
    listed = read_list(file, columns, reading.labels)
    several = listed.several
    rows, notes, defects = list(listed.rows), list(listed.notes), list(listed.defects)
    siblings = {} if own != "train" else _siblings(file.parent, (file.suffix.lower(),))
    said = any(row.split not in ("", own) for row in rows)
    for split, sibling in siblings.items():
        if split == "train":
            continue
        if said:
            notes.append(f"'{sibling}' is not read, since '{file.name}' says the splits itself.")
            continue
        other = read_list(sibling, columns, MULTI.name if several else reading.labels)
        several |= other.several
        for row in other.rows:
            if row.split not in ("", split):
                what = f"{row.where}: the row says {row.split}, and its list is called '{sibling.name}'"
                defects.append(Defect(what, f"Mend it, or read one of them: --split-column {NO_COLUMN}."))
            rows.append(row._replace(split=split))
        notes += [note for note in other.notes if note not in notes]
        defects += other.defects
    if columns.split_column == AUTO and len(siblings) < 2 and not any(row.split for row in rows) and not defects:
        rows, note = _split_by_paths(rows)
        notes += note
    by_split: dict[str, list[Row]] = {}
    uncut = own or ("train" if not to_measure or any(row.split for row in rows) else ALL)
    for row in rows:
        by_split.setdefault(row.split or uncut, []).append(row)
    if to_measure:
        return Listed(rows, notes, defects, several), by_split
    if "train" not in by_split and not defects:
        what = f"'{file}' has no train rows, only {' and '.join(by_split)}"
        raise DataError(f"{what}. Add some, or leave the split's column out: --split-column none.")
    if "train" not in by_split:
        refuse(file, defects)
    return Listed(rows, notes, defects, several), by_split
