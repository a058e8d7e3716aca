"""Labelled images as a model takes them: with its own classes, and never what it was trained on for others."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitgraft.data import measured, source
from vitgraft.data.kept import Kept
from vitgraft.data.labelling import CLASS
from vitgraft.data.naming import matched
from vitgraft.data.task import Split, Task
from vitgraft.errors import ConfigError, DataError, Told, unknown
from vitgraft.kinds import whole
from vitgraft.train.settings import Training

Labelled = Split | Task | Path | str
SETTINGS = ("device", "batch_size", "precision", "workers")


@dataclass(frozen=True)
class Wishes:
    """What may be done about images that do not fit: those of classes that the model does not know are left out,
    labels that are numbers are the model's classes in their order, what is left of a split is measured."""

    ignore_unknown: bool = False
    by_index: bool = False
    allow_missing: bool = False


def unnamed(names: tuple[str, ...]) -> bool:
    """Whether a model knows its classes by number alone."""
    return names == tuple(map(str, range(len(names))))


def taken(
    names: tuple[str, ...], train: Split, **others: Split | None
) -> tuple[tuple[str, ...], Split, dict[str, Split | None]]:
    """The names of a model's classes, and splits with its own labels, matched by name.

    A model that knows its classes by number alone takes their names from its training images.

    Raises:
        DataError: images of a class that the model has not.
    """
    theirs = train.classes
    if theirs is not None and unnamed(names) and not set(theirs) <= set(names):
        if len(theirs) != len(names):
            raise DataError(
                f"The model has {len(names)} classes, called by numbers, and the training images have "
                f"{len(theirs)}, called by names. Build it with these: graft(..., classes=task.classes)."
            )
        names = theirs
    given = {name: None if split is None else _named(name, split, names) for name, split in others.items()}
    return names, _named("train", train, names), given


def _named(name: str, split: Split, names: tuple[str, ...]) -> Split:
    match = matched(split, names)
    for note in match.notes:
        warnings.warn(f"{name}: {note}", Told, stacklevel=5)
    return match.split


def seen(before: Kept | None, **splits: Split | None) -> Kept | None:
    """What a model has seen: `before`, and these."""
    now = Kept.of({name: split for name, split in splits.items() if split is not None})
    return before if now is None else now if before is None else before.with_seen(now)


def kept_in(folder: Path) -> Kept | None:
    """The list of what a saved model was trained on, if it has one; one that is damaged is told, and none."""
    try:
        return Kept.read(folder)
    except DataError as error:
        warnings.warn(str(error), Told, stacklevel=3)
        return None


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What images are measured with: device, batch_size, precision, workers. Raises ConfigError for another."""
    for name in values:
        if name not in SETTINGS:
            raise ConfigError(unknown("setting of evaluate", name, SETTINGS))
    if "batch_size" in values:
        whole("batch_size", values["batch_size"], least=1)
    Training(**{name: value for name, value in values.items() if name != "batch_size"})  # it knows what is right
    return dict(values)


def to_measure(
    data: Labelled,
    part: str | None,
    names: tuple[str, ...],
    kept: Kept | None,
    wishes: Wishes,
    kind: str = CLASS.name,
) -> Split:
    """The images of `data` that a model with these classes, of labels of this kind, is measured on.

    Warnings (`Told`) say what was chosen, how classes were matched, and how many images it was trained on.

    Raises:
        ConfigError: no images, or a part of what has none.
        DataError: images or classes that are not there.
    """
    notes: list[str] = []
    if isinstance(data, Split):
        if part is not None:
            raise ConfigError(f"split={part!r} is a part of a task or a folder, and a Split is one. Leave it out.")
        split = data
        if kept is not None and (told := measured.trained_on(split, kept, some=True)):
            notes += told
        theirs = split.classes or names
        if unnamed(names) and len(theirs) == len(names) and not set(theirs) & set(names):
            notes.append(f"The model's classes have no names: its first is taken for {theirs[0]!r}.")
            split = replace(split, classes=None)
    else:
        task = (
            data
            if isinstance(data, Task)
            else source.load(data, to_measure=True, skip_missing=wishes.allow_missing, labels=kind)
        )
        notes += () if isinstance(data, Task) else task.notes
        found = measured.part_of(task, part, kept, allow_missing=wishes.allow_missing)
        split = found.split
        notes += found.notes
    match = matched(split, names, ignore_unknown=wishes.ignore_unknown, by_index=wishes.by_index)
    for note in (*notes, *match.notes):
        warnings.warn(note, Told, stacklevel=4)
    return match.split
