"""Sheets of sample images: what a backbone was trained on beside what it is tuned for (SPT, fig. F)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.drawing import stream
from vitgraft.data.task import ImageSource, Labels, Split, chosen, listed
from vitgraft.report.figure import Figure
from vitgraft.report.style import MUTED, WIDE, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PIXELS = 160
"""Larger pictures are drawn with so many pixels on their longer side: a sheet is for a look."""

SHARP = 64
"""Pictures of fewer pixels a side are drawn with sharp pixels, as they are."""

BESIDE = 3
"""So many sheets stand side by side at most; more go below."""

ALONE = 4.8
"""Inches that a sheet is wide which stands alone."""

TITLE, LINE, LETTER = 0.3, 0.11, 6.0
"""Inches for a sheet's name and for a line below pictures, and the size of its type."""

COLUMNS = ("sheet", "place", "class", "image")


@dataclass(frozen=True)
class Sample:
    """One picture (H, W, 3) uint8, its class, and what it is called within its data."""

    pixels: NDArray[np.uint8]
    label: str
    name: str


@dataclass(frozen=True)
class Sheet:
    """Samples of a data set's split, which has so many `images` in so many `classes`."""

    title: str
    split: str
    samples: Sequence[Sample]
    images: int
    classes: int


def some_of_each(labels: Labels, count: int, seed: int) -> list[int]:
    """Indices of `count` images by seed: one of each class in turn, the classes in an order of the seed's.

    Images are in the order of their labels, so that those of a class stand together.
    """
    present = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in present]
    drawn = [
        own[stream(seed, int(label)).permutation(len(own))] for label, own in zip(present, members, strict=True)
    ]
    order = stream(seed).permutation(len(present))
    turns = chain.from_iterable(zip_longest(*(drawn[place].tolist() for place in order)))
    found = [index for index in turns if index is not None][:count]
    return sorted(found, key=lambda index: int(labels[index]))  # stable: within a class as drawn


def names_of(images: ImageSource) -> list[str]:
    """What images are called: their paths within their data, wherever those lie, if they are files."""
    known = listed(images)
    return [images.name(at) if known is None else known[at][0] for at in range(len(images))]


def sheet(title: str, part: str, split: Split, count: int, seed: int = 0) -> Sheet:
    """`count` images of a split, or all if there are fewer. Raises DataError for one that cannot be read."""
    places = some_of_each(split.labels, count, seed)
    images = chosen(split.images, places)
    names = names_of(images)
    classes = split.classes or tuple(map(str, range(int(split.labels.max(initial=0)) + 1)))
    samples = []
    for number, place in enumerate(places):
        picture = images[number]
        picture.thumbnail((PIXELS, PIXELS))
        samples.append(Sample(np.asarray(picture.convert("RGB")), classes[split.labels[place]], names[number]))
    return Sheet(title, part, samples, len(split), len(np.unique(split.labels)))


def rows(sheets: Sequence[Sheet]) -> list[tuple[str, int, str, str]]:
    """One row a picture, by `COLUMNS`; places count from 0, row by row."""
    return [
        (one.title, place, sample.label, sample.name) for one in sheets for place, sample in enumerate(one.samples)
    ]


def figure(name: str, command: str, sheets: Sequence[Sheet], seed: int) -> Figure:
    """What stands around the sheets."""
    each = "; ".join(
        f"{one.title}: {len(one.samples)} of the {one.images:,} images of {one.split}, {one.classes} classes"
        for one in sheets
    )
    return Figure(
        name=name,
        title="Samples",
        caption=f"Images before any preprocessing, one of each class in turn. {each}. Drawn with seed {seed}.",
        command=command,
        columns=COLUMNS,
        rows=rows(sheets),
        n=sum(len(one.samples) for one in sheets),
        seeds=(seed,),
    )


def draw(sheets: Sequence[Sheet], columns: int) -> "Drawing":
    """Sheets side by side, each with a name above and classes below pictures. Call it within `styled`."""
    deep = -(-len(sheets) // BESIDE)
    beside = -(-len(sheets) // deep)
    width = WIDE if len(sheets) > 1 else ALONE
    cell = width / beside / columns
    told = [[_wrapped(sample.label, cell) for sample in one.samples] for one in sheets]
    lines = [max(-(-len(one.samples) // columns), 1) for one in sheets]
    starts = range(0, len(sheets), beside)
    highest = [max(lines[at : at + beside]) for at in starts]
    names = [[text for texts in told[at : at + beside] for text in texts] for at in starts]
    deepest = [max((text.count("\n") + 1 for text in row), default=1) for row in names]
    heights = [TITLE + one * (cell + 0.03 + LINE * below) for one, below in zip(highest, deepest, strict=True)]
    drawn = blank(width, sum(heights))
    parts = drawn.subfigures(deep, beside, squeeze=False, height_ratios=heights)
    for part, one, texts, high in zip(parts.ravel(), sheets, told, np.repeat(highest, beside), strict=False):
        part.suptitle(f"{one.title} ({one.classes} classes)", fontsize=9, fontweight="bold")
        axes = part.subplots(high, columns, squeeze=False).ravel()
        for place in axes:
            place.axis("off")
        for place, sample, text in zip(axes, one.samples, texts, strict=False):
            small = max(sample.pixels.shape[:2]) < SHARP
            place.imshow(sample.pixels, interpolation="nearest" if small else "antialiased", aspect="equal")
            place.text(
                0.5, -0.03, text, transform=place.transAxes, fontsize=LETTER, color=MUTED, ha="center", va="top"
            )
    drawn.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    return drawn  # type: ignore[no-any-return]


def _wrapped(label: str, inches: float) -> str:
    """A class's name in three lines at most, so many inches wide."""
    letters = max(int(0.95 * inches * 72 / (0.58 * LETTER)), 6)
    return "\n".join(textwrap.wrap(label, letters, max_lines=3, placeholder="…"))
