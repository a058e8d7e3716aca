"""Answers about images as rows, written as they come: a table for people; CSV, JSON, JSON Lines for programs."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

from vitgraft.atomic import json_of
from vitgraft.cli.asking import Format
from vitgraft.cli.show import Stream

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.train.targets import Target

NO_TEXT = re.compile("[\udc80-\udcff]")
"""Bytes of a file name that is no UTF-8, as Python holds them: in JSON they are escaped, for all readers."""

UNREADABLE = "(unreadable)"
"""What a table says in place of a class."""


WIDEST = {"probability": "100.0 %", "there": "yes", "value": "-1.2345e+10"}
"""The widest cell of a column of a table."""


class Said(NamedTuple):
    """A class with its probability, or what a number is called and the number; of labels, whether it is there."""

    name: str
    value: float
    there: bool | None = None


@dataclass(frozen=True)
class Row:
    """What one run says about one image: classes with their probabilities, the likeliest first, or numbers.

    `kind` is that of its labels. An image that cannot be read has `error` in their stead, and no run.
    """

    image: str
    run: str = ""
    said: Sequence[Said] = ()
    error: str | None = None
    kind: str = "class"


def row_of(target: "Target", image: str, run: str, names: Sequence[str], found: "Tensor", top: int) -> Row:
    """What a run says of an image, from its answers (C,): the `top` classes, all labels, or numbers."""
    if target.kind == "number":
        return Row(image, run, [Said(*one) for one in zip(names, found.tolist(), strict=True)], kind=target.kind)
    there = target.there(found)
    count = top if there is None else max(top, int(there.sum()))
    order = found if there is None else found + there  # those that are there come first
    best = order.topk(min(count, len(names))).indices.tolist()
    said = [Said(names[i], float(found[i]), None if there is None else bool(there[i])) for i in best]
    return Row(image, run, said, kind=target.kind)


@dataclass(frozen=True)
class Expected:
    """What is known before the first row: every image, the runs, their classes, and the kinds of their labels."""

    images: Sequence[str]
    runs: Sequence[str]
    classes: Sequence[str]
    kinds: frozenset[str] = frozenset({"class"})

    @property
    def several(self) -> bool:
        """True if rows must say which run they are of."""
        return len(self.runs) > 1

    @property
    def columns(self) -> tuple[str, ...]:
        """What is told of a name: its probability, whether it is there, its value, as far as some run says it."""
        wanted = {"probability": self.kinds - {"number"}, "there": self.kinds & {"multi"}}
        return tuple(name for name, kinds in {**wanted, "value": self.kinds & {"number"}}.items() if kinds)

    def cells(self, said: Said, kind: str) -> dict[str, float | bool | None]:
        """The values of `columns`."""
        own = {"value": said.value} if kind == "number" else {"probability": said.value, "there": said.there}
        return {name: own.get(name) for name in self.columns}


class Writer(Protocol):
    """Writes one row."""

    def __call__(self, row: Row) -> None: ...


@contextmanager
def writing(format: Format, file: TextIO, expected: Expected) -> Iterator[Writer]:
    """What writes rows in a format; each is on its way before the next. A JSON array is closed, come what may."""
    if format is Format.table:
        yield _table(file, expected)
    elif format is Format.csv:
        yield _csv(file, expected)
    elif format is Format.jsonl:
        yield lambda row: _put(file, _json(row, expected, None) + "\n")
    else:
        with _array(file, expected) as write:
            yield write


@contextmanager
def _array(file: TextIO, expected: Expected) -> Iterator[Writer]:
    before = "[\n"

    def write(row: Row) -> None:
        nonlocal before
        _put(file, before + _json(row, expected, 2))
        before = ",\n"

    try:
        yield write
    except BrokenPipeError:  # nobody reads any more
        raise
    except BaseException:
        _put(file, "[]\n" if before == "[\n" else "\n]\n")
        raise
    _put(file, "[]\n" if before == "[\n" else "\n]\n")


def _json(row: Row, expected: Expected, indent: int | None) -> str:
    entry: dict[str, Any] = {"image": row.image}
    if row.error is not None:
        entry["error"] = row.error
    else:
        entry |= {"run": row.run} if expected.several else {}
        entry |= _told(row)
    text = NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", json_of(entry, indent=indent))
    return text if indent is None else "  " + text.replace("\n", "\n  ")


def _told(row: Row) -> dict[str, Any]:
    """What JSON says of one answer."""
    if row.kind == "number":
        return {"numbers": {said.name: said.value for said in row.said}}
    classes = [{"label": said.name, "probability": said.value} for said in row.said]
    if row.kind == "multi":
        there = [{**one, "there": said.there} for one, said in zip(classes, row.said, strict=True)]
        return {"labels": [said.name for said in row.said if said.there], "classes": there}
    return {**classes[0], "classes": classes}


def _csv(file: TextIO, expected: Expected) -> Writer:
    run = ("run",) if expected.several else ()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(("image", *run, "rank", "label", *expected.columns, "error"))
    file.flush()

    def write(row: Row) -> None:
        first = (row.image, row.run) if expected.several else (row.image,)
        if row.error is not None:
            out.writerow((*first, "", "", *[""] * len(expected.columns), row.error))
        for rank, said in enumerate(row.said, start=1):
            cells = expected.cells(said, row.kind).items()
            out.writerow((*first, rank, said.name, *(_exact(name, cell) for name, cell in cells), ""))
        file.flush()

    return write


def _exact(column: str, cell: float | bool | None) -> str:
    """A cell of a file: probabilities with six decimals, numbers as they are."""
    if cell is None:
        return ""
    return f"{cell:.6f}" if column == "probability" else str(int(cell)) if column == "there" else f"{cell:.9g}"


def _short(column: str, cell: float | bool | None) -> str:
    """A cell for people."""
    if cell is None:
        return ""
    if column == "there":
        return "yes" if cell else "no"
    return f"{100 * cell:.1f} %" if column == "probability" else f"{cell:.5g}"


def _table(file: TextIO, expected: Expected) -> Writer:
    def longest(texts: Sequence[str]) -> str:
        return max(texts, key=len, default="")

    run = ("run",) if expected.several else ()
    runs = (longest(expected.runs),) if expected.several else ()
    numbers = [WIDEST[name] for name in expected.columns]
    widest = (longest(expected.images), *runs, longest([*expected.classes, UNREADABLE]), *numbers)
    title = "number" if expected.kinds == {"number"} else "class"
    table = Stream(("image", *run, title, *expected.columns), widest, ("probability", "value"), file)

    def write(row: Row) -> None:
        first = (row.image, row.run) if expected.several else (row.image,)
        if row.error is not None:
            table.row((*first, UNREADABLE, *[""] * len(expected.columns)))
        for rank, said in enumerate(row.said, start=1):
            named = first if rank == 1 else ("",) * len(first)
            cells = expected.cells(said, row.kind).items()
            table.row((*named, said.name, *(_short(name, cell) for name, cell in cells)))
        file.flush()

    return write


def _put(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
