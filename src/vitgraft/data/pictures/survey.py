"""What range of values the pictures of a data set have, where some have more than 8 bits.

Only files of more than 8 bits are decoded. Which these are, the check of all files says, or else their headers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from vitgraft.data.pictures import depth
from vitgraft.data.pictures.decode import UnreadableImage, decode, is_deep
from vitgraft.data.pictures.deep.samples import Samples
from vitgraft.data.pictures.depth import DIM, Extent
from vitgraft.data.pictures.ranges import ANY, MAX_PIXELS, Ranges, asked, merged
from vitgraft.data.reading.digests import WORKERS
from vitgraft.data.task import ImageSource, ranges_of

SAYS = {
    "uint16": "16-bit",
    "int8": "signed 8-bit",
    "int16": "signed 16-bit",
    "uint32": "32-bit",
    "int32": "signed 32-bit",
    "float": "float",
}
S = TypeVar("S")
T = TypeVar("T")


class Wishes(Protocol):
    """What a user says of how images are read: see `files.Reading`."""

    @property
    def pixel_range(self) -> str: ...

    @property
    def max_pixels(self) -> int: ...

    @property
    def to_measure(self) -> bool: ...


def survey(
    root: Path, splits: Mapping[str, Sequence[str]], deep_paths: Collection[str] | None, wishes: Wishes
) -> tuple[Ranges, tuple[str, ...]]:
    """The ranges of the images at paths below `root`, by their split, and sentences that say so.

    `deep_paths` are those of more than 8 bits, if that is known. The range is that of train, or of all splits
    where there is no train. Images that are to be measured are read with their model's, and it is told then.
    """
    known, wish = asked(wishes.pixel_range), wishes.pixel_range
    flags = set(deep_files(root, splits) if deep_paths is None else deep_paths)
    deep = {split: [path for path in members if path in flags] for split, members in splits.items()}
    if not any(deep.values()):
        idle = () if known is None else (f"pixel_range {wish} changes nothing: all images have 8 bits a channel.",)
        return known or (), idle
    extents = {split: _extents([root / path for path in some], wishes.max_pixels) for split, some in deep.items()}
    base = [split for split in ("train",) if extents.get(split)] or [split for split in splits if extents[split]]
    ranges = known or depth.found(one for split in base for one in extents[split])
    if wishes.to_measure:
        return ranges, ()
    whence = "as asked for" if known else f"as found over {'/'.join(base)}"
    shallow = sum(map(len, splits.values())) - sum(map(len, deep.values()))
    more = f" {shallow:,} of 8 bits are taken as they are." if shallow else ""
    says = f"{whence}; --pixel-range (in Python, pixel_range=) says otherwise.{more}"
    return ranges, tuple(_sentences(ranges, extents, says))


def as_the_model_reads(images: ImageSource, ranges: Ranges | None) -> list[str]:
    """Sentences on how a model with these ranges reads images; none where they have 8 bits."""
    if not ranges_of(images) or ranges is None:
        return []
    extents = _extents(_deep_paths(images), MAX_PIXELS)
    own, known = ranges_of(images), {kind for kind, _, _ in ranges}
    seen = [one for one in extents if ANY in known or one.kind in known]
    new = [one for one in extents if not (ANY in known or one.kind in known)]
    whence = "the range that the model was trained with, or that was asked for."
    says = "a range found over these images, for the model was trained on none; --pixel-range says otherwise."
    return [*_sentences(merged(ranges, own), {"": seen}, whence), *_sentences(own, {"": new}, says)]


def _deep_paths(images: ImageSource) -> list[Path]:
    paths = [images.name(index) for index in range(len(images))]
    return [Path(path) for path in deep_files(Path(), {"": paths})]


def _extents(paths: Sequence[Path], max_pixels: int) -> list[Extent]:
    """What of pictures decides a range: of those that can be read, and have more than 8 bits."""

    def extent(path: Path) -> Extent | None:
        try:
            found = decode(path, max_pixels=max_pixels).found
        except UnreadableImage:  # told when it is read
            return None
        return Extent.of(found) if isinstance(found, Samples) and found.declared is None else None

    return [one for one in _each(extent, paths) if one is not None]


def deep_files(root: Path, splits: Mapping[str, Sequence[str]]) -> list[str]:
    """The paths of files of more than 8 bits, by their headers."""
    paths = [path for members in splits.values() for path in members]
    return [
        path for path, deep in zip(paths, _each(lambda path: is_deep(root / path), paths), strict=True) if deep
    ]


def _each(function: Callable[[S], T], things: Sequence[S]) -> list[T]:
    pool = ThreadPoolExecutor(WORKERS)
    try:
        return list(pool.map(function, things))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the whole folder


def _sentences(ranges: Ranges, extents: Mapping[str, Sequence[Extent]], says: str) -> Iterable[str]:
    known = {kind: (low, high) for kind, low, high in ranges}
    kinds = Counter(one.kind for some in extents.values() for one in some)
    for kind, count in sorted(kinds.items()):
        low, high = known.get(kind) or known[ANY]
        what = f"{SAYS.get(kind, kind)} {'picture' if count == 1 else 'pictures'}"
        yield f"Pixel values {low:g} to {high:g} in {count:,} {what} are mapped to 0..255, {says}"
        for split, every in extents.items():
            some = [one for one in every if one.kind == kind]
            where = f"{len(some):,} such {split} images" if split else f"{len(some):,} such images"
            beyond = sum(1 for one in some if one.low[:1] < low or one.high[-1:] > high)
            if beyond:
                yield f"{beyond:,} of {where} have values outside, which are clipped."
            dim = sum(one.is_dim(low, high) for one in some)
            if dim:
                yield (
                    f"{dim:,} of {where} stay in the darkest {DIM}th of that and turn nearly black. If they hold "
                    "fewer bits than others, bring all to one range, or say --pixel-range LOW:HIGH (pixel_range=)."
                )
