"""Which columns of a table say what split an image is of, and what they say.

A column is known by its name (`split`, `set`, `fold`, `is_test`, ...), or by its values alone where these are
names of splits. Each such column leaves a row some splits: `is_test` = 0 leaves train and val. What all columns
leave is the row's split.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.lists.text import Line
from vitgraft.data.reading.split_names import PLAIN, SPLITS, needs_telling, split_named
from vitgraft.errors import unknown

AUTO, NO_COLUMN = "auto", "none"
"""What a user says of the split's column: that it is found, or that there is none."""

WORDS = ("split", "splits", "subset", "fold", "folds", "kfold", "partition")
WEAK = ("set", "phase", "usage", "data_set", "stage", "train_test", "train_val_test")
"""Words in titles of columns that hold names of splits, and titles that may be about something else, which their
values tell."""

BEFORE = ("is", "in", "for", "use", "used")
BEHIND = ("set", "img", "image", "images", "sample", "samples", "data", "split", "flag")
"""Words of a title that say nothing of which split is meant: `is_test`, `in_train_set`, `is_val_image`."""

SHORT = ("tr", "trn", "tst", "te", "dev", "eval", "development", "evaluation")
"""Names of splits that alone, as a title, may well be about something else."""

TRUTH = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n"), False),
}
CLEAR = ("split", "subset")
"""Columns that nobody needs to be told of."""

ADVICE = (
    "Write train, val or test there, name another column with --split-column NAME (in Python split_column=NAME), "
    "or cut the splits anew with --split-column none."
)
BOTH = "If it is the val, say so: --split-column {0} (in Python split_column={0!r}). If not: --split-column none."
SHOWN = 5

Allowed = list[frozenset[str]]


@dataclass(frozen=True)
class Splits:
    """The split of each line ("" where no column says one), the columns that say it, notes, and defects."""

    names: list[str]
    columns: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)


class _Said(NamedTuple):
    """What one column says: the splits that it leaves each line, nothing (perhaps with a note), or defects.

    `unclear` is a defect only where no other column says the splits.
    """

    allowed: Allowed | None = None
    note: str | None = None
    defects: tuple[Defect, ...] = ()
    unclear: Defect | None = None


def read_splits(
    file: str, header: Sequence[str], lines: Sequence[Line], columns: Iterable[int], asked: bool = False
) -> Splits:
    """The splits that some columns of a table say; `asked`: a user said that it is the one given."""
    found: dict[int, Allowed] = {}
    notes: list[str] = []
    defects: list[Defect] = []
    unclear: list[Defect] = []
    for column in columns:
        said = _said(file, header[column], lines, column, asked)
        if said.allowed is not None:
            found[column] = said.allowed
        notes += [said.note] if said.note else []
        defects += said.defects
        unclear += [said.unclear] if said.unclear else []
    if found:
        notes += [f"{defect.what}: it is not taken as the split." for defect in unclear]
    else:
        defects += unclear
    if defects or not found:
        return Splits([""] * len(lines), tuple(found), notes, defects)
    left = [frozenset.intersection(*(allowed[row] for allowed in found.values())) for row in range(len(lines))]
    for row, line in enumerate(lines):
        if not left[row]:
            says = " and ".join(f"column {header[column]!r} says {line.cells[column]!r}" for column in found)
            defects.append(Defect(f"{file}:{line.number}: {says}, which no split is", ADVICE))
    names = [next((name for name in ("train", "test", "val") if name in splits), "") for splits in left]
    return Splits(names, tuple(found), [*notes, *_told(header, lines, tuple(found), names)], defects)


def _said(file: str, title: str, lines: Sequence[Line], column: int, asked: bool) -> _Said:
    """What a column says, if it is about splits."""
    name, values = _plain(title), [line.cells[column] for line in lines]
    flag = flag_of(title)
    sure = asked or _is_strong(name) or (flag is not None and _flag_words(title)[0])
    if not any(values):
        return _Said(note=f"Column {title!r} is empty: it is not taken as the split." if flag or sure else None)
    if flag is not None and all(value.lower() in TRUTH for value in values):
        yes = sum(TRUTH[value.lower()] for value in values)
        if _flag_words(title)[1] == "valid" and not asked and 2 * yes > len(values):
            what = f"'{file}': column {title!r} is true of {yes:,} of {len(values):,} images"
            return _Said(defects=(Defect(f"{what}: it may mark good ones, or the val", BOTH.format(title)),))
        others = frozenset(SPLITS) - {flag}
        return _Said([frozenset((flag,)) if TRUTH[value.lower()] else others for value in values])
    meant = [split_named(value) for value in values]
    known = set(meant) - {None}
    if not (sure or name in WEAK or (None not in meant and len(known) > 1)):
        return _Said()
    if None not in meant:
        return _Said([frozenset((str(split),)) for split in meant])
    if known or any(get_close_matches(value.lower(), PLAIN, n=1) for value in values):
        wrong = zip(lines, values, meant, strict=True)
        return _Said(defects=tuple(_misspelt(file, line, value) for line, value, split in wrong if split is None))
    holds = f"column {title!r} holds {some(sorted(set(values)), SHOWN)}"
    if sure or all(value.isdigit() for value in values):
        rule = (
            "which are no names of splits" if flag is None else "not just 1 and 0, true and false, or yes and no"
        )
        return _Said(unclear=Defect(f"'{file}': {holds}, {rule}", ADVICE))
    return _Said(note=f"{holds[0].upper()}{holds[1:]}: it is not taken as the split.")


def flag_of(title: str) -> str | None:
    """The split that a column of yes and no is about by its title, if it is about one."""
    prefixed, word = _flag_words(title)
    return None if word in SHORT and not prefixed else split_named(word)


def _flag_words(title: str) -> tuple[bool, str]:
    """Whether a title begins as that of a yes or no (`is_test`, `isTest`), and what it says apart from that."""
    words = _plain(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", title.strip())).split("_")
    if len(words) == 1 and words[0].startswith(BEFORE[0]) and split_named(words[0][2:]) is not None:
        words = [BEFORE[0], words[0][2:]]
    first = next((place for place, word in enumerate(words) if word not in BEFORE), len(words))
    rest = words[first:]
    while len(rest) > 1 and rest[-1] in BEHIND:
        rest.pop()
    return first > 0, "".join(rest)


def _is_strong(name: str) -> bool:
    """True of a title that is about splits whatever its values: `split`, `split_id`, `cv_fold`."""
    return any(word.rstrip("0123456789") in WORDS for word in name.split("_"))


def _misspelt(file: str, line: Line, value: str) -> Defect:
    if not value:
        return Defect(f"{file}:{line.number}: the split is empty", ADVICE)
    return Defect(f"{file}:{line.number}: {unknown('split', value, PLAIN).removesuffix('.')}", ADVICE)


def _told(header: Sequence[str], lines: Sequence[Line], columns: Sequence[int], names: Sequence[str]) -> list[str]:
    """One line on the columns that were taken, unless they need none."""
    guessed = {
        line.cells[column]: split_named(line.cells[column])
        for line in lines
        for column in columns
        if split_named(line.cells[column]) is not None and needs_telling(line.cells[column])
    }
    if not guessed and all(_plain(header[column]) in CLEAR for column in columns):
        return []
    called = " and ".join(repr(header[column]) for column in columns)
    what = f"Column {called} is" if len(columns) == 1 else f"Columns {called} are"
    counts = Counter(names)
    shares = ", ".join(f"{counts[name]:,} {name}" for name in SPLITS if counts[name])
    means = "".join(f"; {value!r} means {split}" for value, split in sorted(guessed.items()))
    return [f"{what} taken as the split: {shares}{means}."]


def _plain(title: str) -> str:
    """A column's title as the tables above write it."""
    return title.strip().lower().replace(" ", "_").replace("-", "_")
