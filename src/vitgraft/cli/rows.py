"""Answers about images as rows, written as they come: a table for people; CSV, JSON, JSON Lines for programs."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from vitgraft.atomic import json_of
from vitgraft.cli.asking import Format
from vitgraft.cli.show import Stream

NO_TEXT = re.compile("[\udc80-\udcff]")
"""Bytes of a file name that is no UTF-8, as Python holds them: in JSON they are escaped, for all readers."""

UNREADABLE = "(unreadable)"
"""What a table says in place of a class."""


@dataclass(frozen=True)
class Row:
    """What one run says about one image: classes with their probabilities, the likeliest first.

    An image that cannot be read has `error` in their stead, and no run.
    """

    image: str
    run: str = ""
    ranked: Sequence[tuple[str, float]] = ()
    error: str | None = None


@dataclass(frozen=True)
class Expected:
    """What is known before the first row: every image, the runs, and their classes."""

    images: Sequence[str]
    runs: Sequence[str]
    classes: Sequence[str]

    @property
    def several(self) -> bool:
        """True if rows must say which run they are of."""
        return len(self.runs) > 1


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
    if row.error is None:
        classes = [{"label": label, "probability": probability} for label, probability in row.ranked]
        entry |= {**({"run": row.run} if expected.several else {}), **classes[0], "classes": classes}
    else:
        entry["error"] = row.error
    text = NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", json_of(entry, indent=indent))
    return text if indent is None else "  " + text.replace("\n", "\n  ")


def _csv(file: TextIO, expected: Expected) -> Writer:
    run = ("run",) if expected.several else ()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(("image", *run, "rank", "label", "probability", "error"))
    file.flush()

    def write(row: Row) -> None:
        first = (row.image, row.run) if expected.several else (row.image,)
        if row.error is not None:
            out.writerow((*first, "", "", "", row.error))
        for rank, (label, probability) in enumerate(row.ranked, start=1):
            out.writerow((*first, rank, label, f"{probability:.6f}", ""))
        file.flush()

    return write


def _table(file: TextIO, expected: Expected) -> Writer:
    def longest(texts: Sequence[str]) -> str:
        return max(texts, key=len, default="")

    run = ("run",) if expected.several else ()
    runs = (longest(expected.runs),) if expected.several else ()
    widest = (longest(expected.images), *runs, longest([*expected.classes, UNREADABLE]), "100.0 %")
    table = Stream(("image", *run, "class", "probability"), widest, ("probability",), file)

    def write(row: Row) -> None:
        first = (row.image, row.run) if expected.several else (row.image,)
        if row.error is not None:
            table.row((*first, UNREADABLE, ""))
        for rank, (label, probability) in enumerate(row.ranked, start=1):
            named = first if rank == 1 else ("",) * len(first)
            table.row((*named, label, f"{100 * probability:.1f} %"))
        file.flush()

    return write


def _put(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
