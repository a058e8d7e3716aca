"""What range of values the pictures of a data set have, where some have more than 8 bits.

All headers are looked at, and only files of more than 8 bits are decoded: 8-bit data cost next to nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from vitgraft.data import depth
from vitgraft.data.decode import UnreadableImage, decode, is_deep
from vitgraft.data.deep.samples import Samples
from vitgraft.data.depth import Extent
from vitgraft.data.digests import WORKERS
from vitgraft.data.ranges import ANY, TYPES, Ranges, asked

SAYS = {
    "uint16": "16-bit",
    "int8": "signed 8-bit",
    "int16": "signed 16-bit",
    "uint32": "32-bit",
    "int32": "signed 32-bit",
    "float": "float",
}
T = TypeVar("T")


def survey(
    root: Path, splits: Mapping[str, Sequence[str]], wish: str, max_pixels: int
) -> tuple[Ranges, tuple[str, ...]]:
    """The ranges of the images at paths below `root`, by their split, and sentences that say so.

    `wish` is auto, dtype or LOW:HIGH. The range is that of train; where there is no train, of all splits.

    Raises:
        ConfigError: another wish.
    """
    known = asked(wish)
    paths = [path for members in splits.values() for path in members]
    flags = dict(zip(paths, _each(lambda path: is_deep(root / path), paths), strict=True))
    deep = {split: [path for path in members if flags[path]] for split, members in splits.items()}
    if not any(deep.values()):
        idle = () if known is None else (f"pixel_range {wish} changes nothing: all images have 8 bits a channel.",)
        return known or (), idle

    def extent(path: str) -> Extent | None:
        try:
            found = decode(root / path, max_pixels=max_pixels).found
        except UnreadableImage:  # told when it is read
            return None
        return Extent.of(found) if isinstance(found, Samples) and found.declared is None else None

    extents = {split: [one for one in _each(extent, members) if one] for split, members in deep.items()}
    base = [split for split in ("train",) if extents.get(split)] or [split for split in splits if extents[split]]
    ranges = known or depth.found(one for split in base for one in extents[split])
    return ranges, tuple(_sentences(ranges, extents, base, len(paths) - sum(map(len, deep.values()))))


def _each(function: Callable[[str], T], paths: Sequence[str]) -> list[T]:
    pool = ThreadPoolExecutor(WORKERS)
    try:
        return list(pool.map(function, paths))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the whole folder


def _sentences(
    ranges: Ranges, extents: Mapping[str, Sequence[Extent]], base: Sequence[str], shallow: int
) -> Iterable[str]:
    known = {kind: (low, high) for kind, low, high in ranges}
    kinds = Counter(one.kind for some in extents.values() for one in some)
    more = f" {shallow:,} of 8 bits are taken as they are." if shallow else ""
    for kind, count in sorted(kinds.items()):
        low, high = known.get(kind) or known.get(ANY) or (0.0, 0.0)
        whence = "as asked for" if ANY in known or ranges == TYPES else f"as found over {'/'.join(base)}"
        yield (
            f"Pixel values {low:g} to {high:g} in {count:,} {SAYS.get(kind, kind)} "
            f"{'picture' if count == 1 else 'pictures'} are mapped to 0..255, {whence}; --pixel-range (in Python, "
            f"pixel_range=) says otherwise.{more}"
        )
        for split, some in extents.items():
            beyond = sum(1 for one in some if one.kind == kind and (one.low[:1] < low or one.high[-1:] > high))
            if beyond:
                yield f"{beyond:,} of {len(some):,} such {split} images have values outside, which are clipped."
