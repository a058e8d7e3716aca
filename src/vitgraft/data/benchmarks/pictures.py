"""Opening the pictures of a copy: all of them, or a sample of each split."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitgraft.data.benchmarks.copy import Copy
from vitgraft.data.benchmarks.table import Problem
from vitgraft.data.pictures.decode import UnreadableImage
from vitgraft.data.reading.digests import WORKERS
from vitgraft.data.task import ImageSource
from vitgraft.errors import DataError

SAMPLE = 16  # pictures of a split, from its first to its last
SHOWN = 3
Size = tuple[int, int]  # (H, W)
_Result = tuple[Size | None, str]  # of a picture: its size, or None and why it cannot be read


@dataclass(frozen=True)
class Opened:
    """What opening pictures found: those that cannot be read, the sizes of the others, how many were opened."""

    problems: tuple[Problem, ...]
    sizes: frozenset[Size]
    count: int


def chosen(count: int, deep: bool) -> list[int]:
    """Which of `count` pictures are opened."""
    if deep or count <= SAMPLE:
        return list(range(count))
    return [round(float(place)) for place in np.linspace(0, count - 1, SAMPLE)]


def open_pictures(copy: Copy, deep: bool = False) -> Opened:
    """Open pictures of every split of a copy. Those that are not there were told by the copy."""
    problems: list[Problem] = []
    sizes: set[Size] = set()
    count = 0
    for part, split in copy.splits.items():
        indices = chosen(len(split), deep)
        broken = {}
        results = _watched(_open(split.images, indices), f"Opening {copy.row.name}, {part}", len(indices))
        for index, (size, reason) in zip(indices, results, strict=True):
            count += 1
            if size is not None:
                sizes.add(size)
            elif reason:
                broken[split.images.name(index)] = reason
        if broken:
            problems.append(_told(part, broken))
    return Opened(tuple(problems), frozenset(sizes), count)


def resized(copy: Copy, sizes: frozenset[Size]) -> str | None:
    """A note on pictures that are not of the originals' size."""
    native = copy.row.pixels
    others = sorted(sizes - {native})
    if native is None or not others:
        return None
    (height, width), (high, wide) = others[0], native
    return f"pictures are {width} x {height}, the originals {wide} x {high}: they were resized before."


def _open(images: ImageSource, indices: Sequence[int]) -> Iterator[_Result]:
    """The size of each picture, or None and why it cannot be read: "" where there is none."""

    def one(index: int) -> _Result:
        try:
            picture = images[index]
        except UnreadableImage as error:
            return None, "" if isinstance(error.__cause__, FileNotFoundError) else error.reason
        except DataError as error:
            return None, str(error)
        return (picture.height, picture.width), ""

    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield from pool.map(one, indices)
    finally:
        pool.shutdown(cancel_futures=True)


def _watched(results: Iterator[_Result], what: str, total: int) -> Iterator[_Result]:
    """The same results, under a progress bar where many are to come and a person is watching."""
    if total <= SAMPLE or not sys.stderr.isatty():
        return results
    from rich.console import Console
    from rich.progress import track

    return iter(track(results, what, total=total, console=Console(stderr=True), transient=True))


def _told(part: str, broken: dict[str, str]) -> Problem:
    name, reason = next(iter(broken.items()))
    more = f", and {len(broken) - 1:,} more" if len(broken) > 1 else ""
    what = f"{len(broken):,} of {part}'s pictures cannot be read: '{name}': {reason}{more}."
    return Problem("corrupt", what, ", ".join(list(broken)[:SHOWN]) + (", ..." if len(broken) > SHOWN else ""))
