"""A task as it lies on disk: found, read, compared with its row. What is wrong is collected, not raised."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitgraft.data.benchmarks import verify
from vitgraft.data.benchmarks.export import INFO, again, read_export
from vitgraft.data.benchmarks.find import OFFICIAL, TFDS, Place, candidates, find
from vitgraft.data.benchmarks.lists import Entries, Entry, read_list
from vitgraft.data.benchmarks.official import read_official
from vitgraft.data.benchmarks.table import Benchmark, Broken, Part, Problem, TaskRow
from vitgraft.data.reading.files import FileImages
from vitgraft.data.split import stratified
from vitgraft.data.task import Labels, Split

HELD_BACK = 0.1  # the share of train that VPT makes val
JPEG = (
    "the pictures are JPEG files, encoded again from the originals (quality 75 in NOAH's copy): CIFAR-100 has "
    "been seen about 10 points below runs on the originals. Compare with runs on such a copy alone."
)
OWN_CUT = (
    "the copy does not tell train from val (TFDS mixes them in blocks of 16), so val is the end of the list: it "
    "is not val200. Results with :trainval are comparable, what is chosen on this val is vitgraft's own."
)
OWN_TENTH = (
    "train.json and val.json are not there, so val is a tenth of the official train split, drawn by vitgraft: it "
    "is not VPT's. Test and :trainval are as published."
)


@dataclass(frozen=True)
class Copy:
    """A task on disk. `labels` are those of all splits that could be read, as written there; `splits` are those
    whose labels are classes. `problems` say why a run on them would be wrong, `notes` what to know of it."""

    row: TaskRow
    folder: Path | None
    layout: str
    classes: tuple[str, ...]
    splits: Mapping[Part, Split]
    labels: Mapping[Part, Labels]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        """The worst that is the matter: "missing", "corrupt", "wrong" or "incomplete"; else "complete"."""
        if self.folder is None:
            return "missing"
        for kind, state in (("corrupt", "corrupt"), ("wrong", "wrong"), ("missing", "incomplete")):
            if any(problem.kind == kind for problem in self.problems):
                return state
        return "complete"


def look(row: TaskRow, table: Benchmark, root: Path, seed: int = 0) -> Copy:
    """The copy of a task below `root`. Files are listed, not opened: `pictures.py` opens them.

    `seed` draws val where a data set's own lists have none.
    """
    place = find(row, table, root)
    if place is None:
        return Copy(row, None, "", (), {}, {}, (_nowhere(row, table, root),), ())
    if place.layout == TFDS:
        return _look_at_export(row, place)
    names: dict[Part, str] = {part: file.name for part, file in (place.files or {}).items()}
    entries, problems = _read(row, place)
    if place.layout == OFFICIAL:
        names = {part: f"the official {'train' if part == 'trainval' else part} split" for part in entries}
    else:
        problems += _lacking(table, place)
    labels: dict[Part, Labels] = {part: _labels(members) for part, members in entries.items()}
    ids = list(range(row.classes)) if table.joint else _ids(labels)
    problems += verify.counts(row, labels, names)
    if table.joint:
        problems += [*verify.label_range(row, labels, names), *verify.homes(entries, table, names)]
    elif ids:
        problems += verify.class_ids(row, ids, labels, names)
    whole = _complete(row, entries, place.layout, seed)
    problems += [*verify.union(entries, names), *verify.repeated(whole)]
    problems += verify.files(entries, place.folder, place.base)
    notes = _notes(row, table, entries, place.layout)
    labels = {part: _labels(members) for part, members in whole.items()}
    splits = _splits(whole, place, ids)
    return Copy(row, place.folder, place.layout, tuple(map(str, ids)), splits, labels, tuple(problems), notes)


def _look_at_export(row: TaskRow, place: Place) -> Copy:
    assert row.export is not None, "only a row with an export is found as one"
    splits, found = read_export(place.folder, row.export, row.name)
    names: dict[Part, str] = {part: str(part_slice) for part, part_slice in row.export.slices().items()}
    labels = {part: split.labels for part, split in splits.items()}
    wrong = [*verify.counts(row, labels, names), *verify.label_range(row, labels, names)]
    problems = found + [replace(problem, fetch=again(row.export)) for problem in wrong]
    notes = [*row.notes]
    if place.folder.name != row.export.version:
        notes.append(f"the export's version is {place.folder.name}; published results used {row.export.version}.")
    classes = tuple(str(label) for label in range(row.classes))
    return Copy(row, place.folder, TFDS, classes, splits, labels, tuple(problems), tuple(notes))


def _nowhere(row: TaskRow, table: Benchmark, root: Path) -> Problem:
    others = [folder for folder in candidates(row, table, root) if folder != root]
    signs = ", ".join(name for part, name in table.lists.items() if part != "test")
    lists = f"{signs} ({'.txt or .json' if table.joint else '.json'})"
    export = f", nor <version>/{INFO} of {row.export.dataset}" if row.export else ""
    if others:
        return Problem("missing", f"'{others[0]}' holds none of {lists}{export}.", f"all of {row.folder}/")
    return Problem("missing", f"'{root}' has no folder {row.folder}.", f"all of {row.folder}/")


def _read(row: TaskRow, place: Place) -> tuple[Entries, list[Problem]]:
    """The entries of every list that can be read."""
    entries: Entries = {}
    problems = []
    try:
        if place.layout == OFFICIAL:
            return read_official(place.folder, row.key), []
        for part, file in (place.files or {}).items():
            try:
                entries[part] = read_list(file)
            except Broken as error:
                problems.append(error.problem)
    except Broken as error:
        problems.append(error.problem)
    return entries, problems


def _lacking(table: Benchmark, place: Place) -> list[Problem]:
    """Lists that are not there: train and val, unless they are there together; and test."""
    there = set(place.files or {})
    wanted: list[Part] = (
        ["test"] if "trainval" in there and not there & {"train", "val"} else ["train", "val", "test"]
    )
    suffix = ".txt" if place.layout == "lists" else ".json"
    files = [f"{table.lists[part]}{suffix}" for part in wanted if part not in there]
    return [Problem("missing", f"there is no {name} in '{place.folder}'.", name) for name in files]


def _ids(labels: Mapping[Part, Labels]) -> list[int]:
    """The class ids that train has, sorted: never those of one split after the other, which would shift labels."""
    training = labels.get("train", labels.get("trainval"))
    return [] if training is None else np.unique(training).tolist()


def _complete(row: TaskRow, entries: Entries, layout: str, seed: int) -> Entries:
    """Train and val where they are only there together."""
    if "trainval" not in entries or {"train", "val"} & entries.keys():
        return entries
    both = entries["trainval"]
    if layout == OFFICIAL:
        parts = stratified(_labels(both), {"val": HELD_BACK}, seed)
        return entries | {"train": [both[i] for i in parts["train"]], "val": [both[i] for i in parts["val"]]}
    cut = max(0, len(both) - row.expected("val"))
    return entries | {"train": both[:cut], "val": both[cut:]}


def _splits(entries: Entries, place: Place, ids: list[int]) -> dict[Part, Split]:
    """Splits whose labels are all known; a label becomes its place among the ids."""
    index = {label: position for position, label in enumerate(ids)}
    splits: dict[Part, Split] = {}
    for part in verify.APART:
        members = entries.get(part, [])
        if members and all(entry.label in index for entry in members):
            paths = tuple((Path(place.base) / entry.path).as_posix() for entry in members)
            labels = np.array([index[entry.label] for entry in members], dtype=np.int64)
            splits[part] = Split(FileImages(place.folder, paths), labels)
    return splits


def _labels(entries: list[Entry]) -> Labels:
    return np.array([entry.label for entry in entries], dtype=np.int64)


def _notes(row: TaskRow, table: Benchmark, entries: Entries, layout: str) -> tuple[str, ...]:
    """What a user of this copy should know, apart from what is wrong with it."""
    notes = [*row.notes]
    if table.joint and any(
        e.path.lower().endswith((".jpg", ".jpeg")) for members in entries.values() for e in members
    ):
        notes.append(JPEG)
    if "trainval" in entries and not {"train", "val"} & entries.keys():
        notes.append(OWN_TENTH if layout == OFFICIAL else OWN_CUT)
    for part, published in row.occurring.items():
        if part in entries and (found := len({entry.label for entry in entries[part]})) != published:
            notes.append(
                f"{found} classes occur in {table.lists[part]}; {published} were counted in the official one."
            )
    return tuple(notes)
