"""Labels of one source as labels of a model: classes are matched by their names, never by their numbers."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitgraft.data.labelling import MULTI, NUMBER
from vitgraft.data.task import Split, chosen
from vitgraft.errors import DataError

INTEGER = re.compile(r"[0-9]{1,18}")
SHOWN = 5  # classes that a sentence names


@dataclass(frozen=True)
class Matched:
    """Images whose labels are a model's own; notes for a person; how many images were left out by class name."""

    split: Split
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] | None = None


def matched(
    split: Split, ours: tuple[str, ...], *, ignore_unknown: bool = False, by_index: bool = False
) -> Matched:
    """`split` with labels that index `ours`.

    A class is the one of the same name; else the only one whose name differs in upper and lower case or Unicode
    form alone, or is the same whole number; that is told. `ignore_unknown` leaves out images of other classes.
    With `by_index` names must be whole numbers, and are indices into `ours`. A split that does not know its
    classes has such indices already.

    Raises:
        DataError: a class with images that is none of `ours`.
    """
    if split.classes is None or (split.classes == ours and not by_index):
        return Matched(replace(split, classes=ours))
    if split.kind == NUMBER.name:
        return _numbers(split, ours, by_index)
    if split.kind == MULTI.name:
        return _several(split, ours, ignore_unknown, by_index)
    occurring, numbers = np.unique(split.labels, return_counts=True)
    if len(occurring) and not 0 <= occurring[0] <= occurring[-1] < len(split.classes):
        raise DataError(
            f"Labels are {occurring[0]} to {occurring[-1]}, and there are {len(split.classes)} classes."
        )
    counts = {split.classes[label]: int(n) for label, n in zip(occurring, numbers, strict=True)}
    index, unknown, notes = _placed(counts, ours, ignore_unknown, by_index, "Classes")
    table = np.array([-1 if (found := index.get(name)) is None else found for name in split.classes], np.int64)
    labels = table[split.labels]
    if not unknown:
        return Matched(Split(split.images, labels, ours), tuple(notes))
    known = np.flatnonzero(labels >= 0)
    notes.append(f"Images left out, as the model does not know their class: {_counted(unknown)}.")
    return Matched(Split(chosen(split.images, known), labels[known], ours), tuple(notes), unknown)


def _placed(
    counts: Mapping[str, int], ours: tuple[str, ...], ignore_unknown: bool, by_index: bool, what: str
) -> tuple[dict[str, int | None], dict[str, int], list[str]]:
    """Where the names that occur stand among `ours`; those that do not, with their images; what is to be told."""
    index = {name: _indexed(name, ours) for name in counts} if by_index else indices(counts, ours)
    unknown = {name: counts[name] for name, found in index.items() if found is None}
    if unknown and (not ignore_unknown or len(unknown) == len(counts)):
        raise DataError(_strange(unknown, len(counts), ours, by_index))
    told = [f"{name!r} as {ours[i]!r}" for name, i in index.items() if i is not None and name != ours[i]]
    notes = [f"{what} are taken {'by their number' if by_index else 'by name'}: {_some(told)}."] if told else []
    return index, unknown, notes


def _several(split: Split, ours: tuple[str, ...], ignore_unknown: bool, by_index: bool) -> Matched:
    """Images with any number of labels: the columns of (n, C) are put in the model's order."""
    names = split.classes or ()
    counts = {name: int(n) for name, n in zip(names, split.labels.sum(axis=0), strict=True) if n}
    index, unknown, notes = _placed(counts, ours, ignore_unknown, by_index, "Labels")
    labels = np.zeros((len(split), len(ours)), np.bool_)
    for column, name in enumerate(names):
        if (place := index.get(name)) is not None:
            labels[:, place] |= split.labels[:, column]
    found = replace(split, labels=labels, classes=ours)
    if not unknown:
        return Matched(found, tuple(notes))
    foreign = split.labels[:, [column for column, name in enumerate(names) if name in unknown]].any(axis=1)
    notes.append(f"Images left out, as the model does not know one of their labels: {_counted(unknown)}.")
    return Matched(found.chosen(np.flatnonzero(~foreign)), tuple(notes), unknown)


def _numbers(split: Split, ours: tuple[str, ...], by_index: bool) -> Matched:
    """Images with numbers: those that the model predicts, by their titles; others are left out."""
    names = split.classes or ()
    index = indices(ours, names)
    if by_index and len(names) == len(ours):
        index = {name: place for place, name in enumerate(ours)}
    if lacking := [name for name in ours if index[name] is None]:
        raise DataError(
            f"The model predicts {_some(list(map(repr, ours)))}, and the data have no {_some(lacking)}: their "
            f"numbers are {_some(list(map(repr, names)))}. Name the columns (--label-column), or say that they "
            "are the model's numbers in this order: by_index (--by-index)."
        )
    places = [place for name in ours if (place := index[name]) is not None]
    left = [repr(name) for place, name in enumerate(names) if place not in places]
    notes = (f"Numbers that the model does not predict are left out: {_some(left)}.",) if left else ()
    return Matched(replace(split, labels=split.labels[:, places], classes=ours), notes)


def indices(names: Iterable[str], ours: tuple[str, ...]) -> dict[str, int | None]:
    """The index of each name among `ours`, by the strictest rule that gives some; None unless it is one."""
    rules: tuple[Callable[[str], str], ...] = (lambda name: name, _folded, _number)
    found: dict[str, int | None] = {}
    for name in names:
        hits: list[int] = []
        for rule in rules:
            hits = [index for index, own in enumerate(ours) if rule(own) == rule(name)]
            if hits:
                break
        found[name] = hits[0] if len(hits) == 1 else None
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()


def _number(name: str) -> str:
    """A whole number without leading zeros; any other name as one that nothing else is equal to by chance."""
    return str(int(name)) if INTEGER.fullmatch(name) else f"={name}"


def _indexed(name: str, ours: tuple[str, ...]) -> int | None:
    return int(name) if INTEGER.fullmatch(name) and int(name) < len(ours) else None


def _strange(unknown: Mapping[str, int], given: int, ours: tuple[str, ...], by_index: bool) -> str:
    """Why some classes cannot be measured, and what to do."""
    what = f"The model knows no class {_counted(unknown)}. Its classes are {_some(list(map(repr, ours)), 20)}."
    if by_index:
        return f"{what} Labels as numbers are 0 to {len(ours) - 1} (by_index)."
    if all(map(INTEGER.fullmatch, unknown)) and len(unknown) == given:
        how = "Write names, or say that 0, 1, ... are the model's classes in this order: by_index (--by-index)"
    elif len(unknown) == given:
        return f"{what} None of the classes given is the model's: name the folder that holds the class folders."
    else:
        how = "Rename them, or leave their images out: ignore_unknown (--ignore-unknown)"
    return f"{what} {how}."


def _counted(counts: Mapping[str, int]) -> str:
    return _some([f"{name!r} ({count:,} image{'s' * (count != 1)})" for name, count in counts.items()])


def _some(words: Sequence[str], shown: int = SHOWN) -> str:
    return ", ".join(words[:shown]) + (f" and {len(words) - shown:,} more" if len(words) > shown else "")
