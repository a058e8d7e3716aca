"""Whether the lists of a copy say what they must: counts, labels, files. A finding is a `Problem`, no error."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vitgraft.data.benchmarks.lists import Entries, Entry
from vitgraft.data.benchmarks.table import Benchmark, Part, Problem, TaskRow
from vitgraft.data.task import Labels

SHOWN = 3  # files that a message names
MOST = 0.9  # of the classes occur in test: CLEVR's tasks have 8 and 6, smallNORB's 18 and 9
APART: tuple[Part, ...] = ("train", "val", "test")  # splits that share no picture
Names = Mapping[Part, str]  # what the list of a split is called, for messages


def counts(row: TaskRow, labels: Mapping[Part, Labels], names: Names) -> Iterator[Problem]:
    """Splits that have another size than the benchmark's."""
    for part, values in labels.items():
        if len(values) != row.expected(part):
            what = f"{names[part]} holds {len(values):,} images, expected {row.expected(part):,}."
            yield Problem("wrong", what, names[part])


def label_range(row: TaskRow, labels: Mapping[Part, Labels], names: Names) -> Iterator[Problem]:
    """Labels that are not among the classes 0 to C-1, and classes that the test split lacks."""
    for part, values in labels.items():
        if len(values) and values.max() >= row.classes:
            what = f"{names[part]} has labels up to {values.max()}, but the classes are 0 to {row.classes - 1}"
            yield Problem("wrong", f"{what}: perhaps it is another task's.", names[part])
    yield from _test_classes(row, labels, names)


def class_ids(row: TaskRow, ids: Sequence[int], labels: Mapping[Part, Labels], names: Names) -> Iterator[Problem]:
    """Where train's ids are the classes: another number of them, ids that only other splits have."""
    training = names["train"] if "train" in labels else names["trainval"]
    if len(ids) != row.classes:
        yield Problem("wrong", f"{training} has {len(ids)} classes, expected {row.classes}.", training)
        return
    for part, values in labels.items():
        if foreign := sorted(set(values.tolist()) - set(ids)):
            what = f"{names[part]} has class {foreign[0]}, which {training} lacks."
            yield Problem("wrong", what, f"{training} and {names[part]}, which belong together")
    yield from _test_classes(row, labels, names)


def _test_classes(row: TaskRow, labels: Mapping[Part, Labels], names: Names) -> Iterator[Problem]:
    """Classes occur in the official test splits, so a test that lacks many has another task's labels."""
    if len(labels.get("test", ())) and (found := len(np.unique(labels["test"]))) < MOST * row.classes:
        what = f"only {found} of {row.classes} classes occur in {names['test']}: perhaps it is another task's."
        yield Problem("wrong", what, names["test"])


def union(entries: Entries, names: Names) -> Iterator[Problem]:
    """The list of train and val together must have their labels."""
    if {"train", "val", "trainval"} <= entries.keys():
        apart = Counter(entry.label for part in APART[:2] for entry in entries[part])
        if apart != Counter(entry.label for entry in entries["trainval"]):
            both = f"{names['train']} and {names['val']}"
            what = f"{names['trainval']} has other labels than {both}: the lists come from different copies."
            yield Problem("wrong", what, f"{names['trainval']}, {both}")


def homes(entries: Entries, table: Benchmark, names: Names) -> Iterator[Problem]:
    """Lists whose pictures lie in another split's folder: they were swapped."""
    parts = {name: part for part, name in table.lists.items()}
    for part, members in entries.items():
        allowed = {part, "train", "val"} if part == "trainval" else {part}
        for entry in members:
            folder = next((parts[name] for name in Path(entry.path).parts[:-1] if name in parts), part)
            if folder not in allowed:
                what = f"{entry.where}: '{entry.path}' is of {table.lists[folder]}: were the lists swapped?"
                yield Problem("wrong", what, f"{names[part]} and {table.lists[folder]}")
                break


def repeated(entries: Entries) -> Iterator[Problem]:
    """Pictures that are listed twice, in one split or in two that must be apart.

    The list of train and val together is not looked at, as it repeats theirs: where it stands alone, it must have
    been cut into train and val.
    """
    owner: dict[str, tuple[Part, Entry]] = {}
    for part in APART:
        for entry in entries.get(part, ()):
            first_part, first = owner.setdefault(entry.path, (part, entry))
            if first is not entry:
                leak = "" if first_part == part else ", which would leak"
                what = f"{entry.where}: '{entry.path}' is also at {first.where}{leak}."
                yield Problem("wrong", what, "the lists")
                return


def files(entries: Entries, home: Path, base: str) -> Iterator[Problem]:
    """Listed pictures that are not there, or are empty, told by folder. Paths are below `base` in `home`."""
    listed: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for members in entries.values():
        for entry in members:
            folder, name = os.path.split(entry.path)
            listed[folder][name] = None
    for folder, wanted in listed.items():
        there = _sizes(home / base / folder)
        absent = [name for name in wanted if name not in there]
        empty = [name for name in wanted if there.get(name) == 0]
        place = (Path(base) / folder).as_posix()
        if absent:
            yield _absent(place, absent, len(wanted))
        if empty:
            what = f"{_pictures(len(empty))} of {len(wanted):,} in {place}/ are empty files: {_some(empty)}."
            yield Problem("corrupt", what, f"{_pictures(len(empty))} of {place}/ ({_some(empty)})")


def _absent(place: str, absent: Sequence[str], listed: int) -> Problem:
    if len(absent) == listed:
        return Problem("missing", f"none of the {listed:,} pictures in {place}/ is there.", f"{place}/")
    what = f"{_pictures(len(absent))} of {listed:,} in {place}/ are not there: {_some(absent)}."
    return Problem("missing", what, f"{_pictures(len(absent))} of {place}/ ({_some(absent)})")


def _sizes(folder: Path) -> dict[str, int]:
    """Files of a folder and their sizes in bytes: one look at it is faster than one at each file."""
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry.stat().st_size for entry in found if entry.is_file()}
    except (OSError, ValueError):  # a name that no file can have
        return {}


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
