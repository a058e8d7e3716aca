"""Which kind of labels a list has, where its user does not say: one class a picture, several, or numbers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from vitgraft.data.labelling import CLASS, MARK, MULTI, NUMBER
from vitgraft.data.reading.lists.labels import DECIMAL, WHOLE, Labels, labels_of, occurring
from vitgraft.data.reading.lists.numbers import numbers_of
from vitgraft.data.reading.lists.several import several_of
from vitgraft.data.reading.rows import Row
from vitgraft.errors import ConfigError, option

AUTO = "auto"

Rows = Mapping[str, Sequence[Row]]

MANY = 20
"""From so many different whole numbers on, with few images each, they may be no classes."""

FEW = 5

COMMA = re.compile(r"[-+]?\d+,\d+")
"""A number as half of the world writes it."""


def understood(rows: Rows, asked: str, flags: bool, classes: Mapping[int, str] | None, to_measure: bool) -> Labels:
    """What the labels of splits mean, of the kind that is `asked` for or, with auto, found.

    `flags` says that their columns are of 0 and 1. To be measured, what occurs is enough.

    Raises:
        ConfigError: names of classes were given for numbers.
        DataError: `classes` are fewer than two, or differ by case alone.
    """
    kind, note = (asked, "") if asked != AUTO else _found(rows, flags, classes is not None)
    if kind == NUMBER.name:
        if classes is not None:
            raise ConfigError("Numbers have no classes: leave `classes` out.")
        found = numbers_of(rows)
    elif kind == MULTI.name:
        found = several_of(rows, classes, to_measure)
    elif to_measure and classes is None:
        found = occurring(rows)
    else:
        found = labels_of(rows, classes)
        note = note or (_perhaps_numbers(rows, found) if asked == AUTO else "")
    found.notes[:0] = [note] if note else []
    return found


def _found(rows: Rows, flags: bool, named: bool) -> tuple[str, str]:
    """The kind that labels look like, and a sentence on that where it is not one class a picture."""
    every = [row for members in rows.values() for row in members]
    if any(row.cells for row in every):
        return (MULTI.name, "") if flags else _several_numbers()
    texts = {row.label for row in every}
    if any(MARK in text for text in texts) and _shared(texts):
        example = next(text for text in sorted(texts) if MARK in text)
        told = f"Labels such as {example!r} are several of a picture"
        return MULTI.name, f"{told} (multi-label). Else: {option('labels', CLASS.name)}."
    values = [row.label for row in every if row.label]
    numeric = [text for text in values if WHOLE.fullmatch(text) or DECIMAL.fullmatch(text)]
    broken = [text for text in numeric if not WHOLE.fullmatch(text) and not text.startswith("-")]
    if not named and values and len(numeric) == len(values) and 2 * len(broken) >= len(values):
        told = f"Labels such as {broken[0]!r} are numbers, which are predicted as such (regression)"
        return NUMBER.name, f"{told}. Else: {option('labels', CLASS.name)}."
    return CLASS.name, ""


def _several_numbers() -> tuple[str, str]:
    told = f"Several columns of numbers are predicted as such (regression). Else: {option('labels', MULTI.name)}."
    return NUMBER.name, told


def _shared(texts: set[str]) -> bool:
    """Whether a part of some compound label is, or is in, another one: names of classes alone would not be."""
    counts = Counter(part.strip() for text in texts for part in set(text.split(MARK)))
    return any(counts[part.strip()] > 1 for text in texts if MARK in text for part in text.split(MARK))


def _perhaps_numbers(rows: Rows, found: Labels) -> str:
    """A sentence where numbers with a comma, or many whole numbers with few images each, are taken for classes."""
    train = rows.get("train", ())
    if (commas := [name for name in found.names if COMMA.fullmatch(name)]) and all(map(_numeric, found.names)):
        told = (
            f"Labels such as {commas[0]!r} look like numbers with a decimal comma, and each is taken for a class"
        )
        return f"{told}. To predict numbers: write a point for the comma, and {option('labels', NUMBER.name)}."
    if len(found.names) < MANY or not all(map(str.isdigit, found.names)) or not train:
        return ""
    if len(train) >= FEW * len(found.names) and found.names == tuple(map(str, range(len(found.names)))):
        return ""
    told = f"Labels are {len(found.names):,} different whole numbers, and each is taken for a class of its own"
    return f"{told}. To predict the number itself: {option('labels', NUMBER.name)}."


def _numeric(text: str) -> bool:
    return any(kind.fullmatch(text) for kind in (COMMA, WHOLE, DECIMAL))
