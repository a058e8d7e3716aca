"""From the labels of a list to classes.

Whole numbers that count from 0 are indices, and the classes are called by them. Others (from 1, with gaps) are
names of classes, in numeric order. Numbers with leading zeros are names and keep the zeros. `1.0` is the number 1.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from vitgraft.data.labelling import CLASS, Labelling
from vitgraft.data.reading.files import check_classes
from vitgraft.data.reading.lists.defects import Defect
from vitgraft.data.reading.rows import Row
from vitgraft.errors import unknown

WHOLE = re.compile(r"\+?([0-9]{1,18})(\.0*)?")
SHOWN = 5
EVERY = "Train names every class: add images of this one to it, or mend the line."
WORDS = (
    "Classes are told apart by names, or by whole numbers from 0: write one, or remove the line. To predict "
    "numbers as such: --labels number."
)
DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Kind(Enum):
    """What a label looks like: a name, a whole number, one with leading zeros, any other number, or nothing."""

    name = "name"
    number = "number"
    padded = "padded"
    other = "other"
    empty = "empty"


class Label(NamedTuple):
    """A row's label as it is understood: `text` is a name, or a number without fraction."""

    row: Row
    kind: Kind
    text: str


@dataclass(frozen=True)
class Labels:
    """Class names in the order of their indices, the label of each good row by its `where`, notes, and defects.

    A label is what `kind` says: of one class a picture its index.
    """

    names: tuple[str, ...]
    index: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    kind: Labelling = CLASS


class _Meaning(NamedTuple):
    """Class names, what else stands for an index, what is wrong with a label that is neither, and notes."""

    names: tuple[str, ...]
    refused: Callable[[Label], Defect]
    numbers: Mapping[str, int] = {}
    notes: tuple[str, ...] = ()


def labels_of(rows: Mapping[str, Sequence[Row]], classes: Mapping[int, str] | None) -> Labels:
    """What the labels of splits mean: train names the classes, unless `classes` does, by number.

    Raises:
        DataError: `classes` are fewer than two, or differ by case alone.
    """
    labels = [_understood(row) for members in rows.values() for row in members]
    defects = [_empty(label) for label in labels if label.kind is Kind.empty]
    labels = [label for label in labels if label.kind is not Kind.empty]
    naming = {row.where for row in rows.get("train", ())}
    train = [label for label in labels if label.row.where in naming]
    if classes is not None:
        meaning = _given(classes)
    elif _numeric(train):
        meaning = _numbered(train)
    else:
        meaning = _called(train)
    known = {name: index for index, name in enumerate(meaning.names)} | dict(meaning.numbers)
    index = {}
    for label in labels:
        if label.text in known:
            index[label.row.where] = known[label.text]
        else:
            what, fix = meaning.refused(label)
            defects.append(Defect(f"{label.row.where}: {what}", fix))
    return Labels(meaning.names, index, [*meaning.notes, *_decimals(labels, classes)], defects)


def occurring(rows: Mapping[str, Sequence[Row]]) -> Labels:
    """The labels that occur as class names, each as it is written, to be matched with a model's by name."""
    labels = [_understood(row) for members in rows.values() for row in members]
    defects = [_empty(label) for label in labels if label.kind is Kind.empty]
    names = sorted({label.text for label in labels if label.kind is not Kind.empty})
    if all(map(str.isdigit, names)):
        names.sort(key=lambda name: (int(name), name))
    known = {name: index for index, name in enumerate(names)}
    index = {label.row.where: known[label.text] for label in labels if label.text in known}
    return Labels(tuple(names), index, _decimals(labels, None), defects)


def _empty(label: Label) -> Defect:
    return Defect(f"{label.row.where}: the label is empty", "Write one, or remove the line.")


def _no_class(label: Label, names: Iterable[str], fix: str) -> Defect:
    return Defect(unknown("class", label.row.label, names).removesuffix("."), fix)


def _understood(row: Row) -> Label:
    whole = WHOLE.fullmatch(row.label)
    if not row.label:
        return Label(row, Kind.empty, "")
    if whole is not None and len(whole[1]) > 1 and whole[1].startswith("0"):
        return Label(row, Kind.padded, row.label)
    if whole is not None:
        return Label(row, Kind.number, whole[1])
    return Label(row, Kind.other if DECIMAL.fullmatch(row.label) else Kind.name, row.label)


def _numeric(train: Sequence[Label]) -> bool:
    """Whether labels are numbers: most of them, or as many as names, and the first; none has a leading zero."""
    if not train or any(label.kind is Kind.padded for label in train):
        return False
    names = sum(label.kind is Kind.name for label in train)
    return 2 * names < len(train) or (2 * names == len(train) and train[0].kind is not Kind.name)


def _given(classes: Mapping[int, str]) -> _Meaning:
    """Labels are these names, or their numbers; where names are numbers themselves, only the names."""
    names = check_classes(classes.values(), "classes")
    numerals = any(WHOLE.fullmatch(name) for name in names)
    numbers = {} if numerals else {str(number): index for index, number in enumerate(classes)}

    def refused(label: Label) -> Defect:
        fix = "Mend it, or name every class in `classes` (in Python)."
        if label.kind is Kind.number and not numerals:
            what = f"label {label.row.label!r} is out of range: there are {len(names)} classes"
            return Defect(f"{what}, {_range(list(classes))}", fix)
        return _no_class(label, names, fix)

    return _Meaning(names, refused, numbers)


def _numbered(train: Sequence[Label]) -> _Meaning:
    """Whole numbers, which are the names of the classes in numeric order."""
    numbers = sorted({int(label.text) for label in train if label.kind is Kind.number})
    first = next((label for label in train if label.kind is Kind.number), train[0])
    plain = numbers == list(range(len(numbers)))

    def refused(label: Label) -> Defect:
        told = f"label {label.row.label!r}"
        if label.kind is Kind.number and plain:
            what = f"{told} is out of range: there are {len(numbers)} classes, {_range(numbers)}"
            return Defect(what, "Mend it, or add images of this class to train.")
        if label.kind is Kind.number:
            return _no_class(label, map(str, numbers), EVERY)
        if label.row.label.startswith("-"):
            return Defect(f"label {label.row.label} is negative", WORDS)
        if label.kind is Kind.other:
            return Defect(f"{told} is no whole number", WORDS)
        what = f"{told} is no integer, but {first.row.where} has {first.row.label}"
        return Defect(what, "Write all labels as integers, or all as names.")

    notes = () if plain else (f"Labels are whole numbers, {_range(numbers)}: these are the names of the classes.",)
    return _Meaning(tuple(map(str, numbers)), refused, notes=notes)


def _called(train: Sequence[Label]) -> _Meaning:
    """Names; numbers are names, too, where some have leading zeros."""
    padded = [label for label in train if label.kind is Kind.padded]
    kinds = {Kind.name, Kind.padded, *([Kind.number] if padded else [])}
    found = {label.text for label in train if label.kind in kinds}
    ordered = sorted(found, key=lambda name: (int(name), name)) if all(map(str.isdigit, found)) else sorted(found)
    first = next((label for label in train if label.kind in kinds), None)
    written: dict[int, str] = {}
    for name in filter(str.isdigit, ordered):
        written.setdefault(int(name), name)
    twice = {name for name in filter(str.isdigit, ordered) if written[int(name)] != name}
    names = tuple(name for name in ordered if name not in twice)

    def refused(label: Label) -> Defect:
        told = f"label {label.row.label!r}"
        if label.kind is Kind.number and first is not None and not padded:
            what = f"label {label.row.label} is an integer, but {first.row.where} has {first.row.label!r}"
            fix = "Write all labels as names, or all as integers (in Python, `classes` says what they mean)."
            return Defect(what, fix)
        if label.text in twice:
            what = f"{told} is also written {written[int(label.text)]!r}"
            return Defect(what, "Write a number one way: with leading zeros or without.")
        if label.kind is Kind.other:
            return Defect(f"{told} is neither a name nor an integer", WORDS)
        return _no_class(label, names, EVERY)

    kept = f"Labels such as {padded[0].row.label!r} are names, and keep their zeros." if padded else ""
    return _Meaning(names, refused, notes=(kept,) if kept else ())


def _decimals(labels: Sequence[Label], classes: Mapping[int, str] | None) -> list[str]:
    """What is told of numbers with a point."""
    pointed = [label for label in labels if label.kind is Kind.number and label.text != label.row.label]
    if not pointed or classes is not None:
        return []
    return [f"Labels such as {pointed[0].row.label!r} are read as whole numbers, {pointed[0].text!r}."]


def _range(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in words: `0 to 4`, or `1 to 5 without 3`."""
    low, high = numbers[0], numbers[-1]
    lacking = high - low + 1 - len(numbers)
    if not lacking:
        return f"{low} to {high}"
    if lacking > SHOWN:
        return f"{len(numbers):,} of {low} to {high}"
    absent = [number for number in range(low, high) if number not in numbers]
    return f"{low} to {high} without {' and '.join(map(str, absent))}"
