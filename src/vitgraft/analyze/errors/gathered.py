"""The images that are looked at: those that are measured, and beside them the others of the run's own data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.kept import SPLITS
from vitgraft.data.measured import Part, readable
from vitgraft.data.naming import matched
from vitgraft.data.pictures.ranges import Ranges
from vitgraft.data.reading.split_names import ALL
from vitgraft.data.task import Split, listed, ranged
from vitgraft.errors import DataError
from vitgraft.results import store
from vitgraft.runs.kept_split import part_of_run


@dataclass(frozen=True)
class Gathered:
    """Splits by name with a model's own labels, one after the other. The first is measured; of the rest nothing
    but their pictures and labels is looked at.

    Images are known by their number over all. `notes` is what a person should know.
    """

    splits: Mapping[str, Split]
    names: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Labels (n,) of all images."""
        return np.concatenate([split.labels for split in self.splits.values()])

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Which split each of the n images is in, by its number."""
        return np.repeat(np.arange(len(self.splits)), [len(split) for split in self.splits.values()])

    def seen_with(self, ranges: Ranges | None) -> "Gathered":
        """The same images, as a model sees those of more than 8 bits."""
        seen = {name: replace(one, images=ranged(one.images, ranges)) for name, one in self.splits.items()}
        return replace(self, splits=seen)

    def place(self, number: int) -> tuple[str, Split, int]:
        """The split of an image, and its number there."""
        for name, split in self.splits.items():
            if number < len(split):
                return name, split, number
            number -= len(split)
        raise IndexError(number)

    def path(self, number: int) -> str:
        """What an image is called: its path below the data's root where it has one."""
        name, split, inner = self.place(number)
        paths = self._paths[name]
        return split.images.name(inner) if paths is None else paths[inner]

    @cached_property
    def _paths(self) -> dict[str, list[str] | None]:
        pairs = {name: listed(split.images) for name, split in self.splits.items()}
        return {name: None if found is None else [path for path, _ in found] for name, found in pairs.items()}


def gathered(run: Path, part: Part, images: Split, names: tuple[str, ...], own: bool) -> Gathered:
    """`images` of a `part` that is measured, and those of the run's own splits that are not; `own` says that the
    part is of the run's own data, so that its other splits are surely other images.
    """
    found, notes = {part.name: images}, []
    for name in () if part.name == ALL else _others(run, part.name, own):
        try:
            other = readable(part_of_run(run, name, allow_missing=True), skip_unreadable=True)
            match = matched(other.split, names, ignore_unknown=True)
        except DataError as error:
            notes.append(f"Images of the run's own {name} are not looked at. {error}")
            continue
        found[name] = match.split
        notes += [f"{name}: {note}" for note in (*other.notes, *match.notes) if note not in part.notes]
    return Gathered(found, names, tuple(notes))


def _others(run: Path, measured: str, own: bool) -> Sequence[str]:
    """Splits of a run beside the one that is measured. Of other data, the run's test is none to be looked at."""
    wanted = [name for name in SPLITS if name != measured and (own or name != "test")]
    record = store.find(run / store.FILE)
    return wanted if record is None else [name for name in wanted if record.task.sizes.get(name)]
